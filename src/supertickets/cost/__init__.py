"""The costs of a network: parameters and MACs, dense and under a mask, and measured latency."""

from .mac_counter import Cost, LayerCost, count, layer_costs, unit_macs

__all__ = ["Cost", "LayerCost", "count", "layer_costs", "unit_macs"]
