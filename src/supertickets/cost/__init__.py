"""The costs of a network: parameters and MACs, dense and under a mask, and measured latency."""

from .mac_counter import Cost, LayerCost, count, layer_costs, unit_macs
from .width_costs import WidthCosts, unit_params

__all__ = ["Cost", "LayerCost", "WidthCosts", "count", "layer_costs", "unit_macs", "unit_params"]
