"""The costs of a network: parameters and MACs, dense and under a mask, and measured latency."""

from .latency_line import LatencyLine, meet_latency
from .mac_counter import Cost, LayerCost, count, layer_costs, unit_macs
from .mask_costs import MaskCosts
from .width_costs import WidthCosts, unit_params

__all__ = [
    "Cost",
    "LatencyLine",
    "LayerCost",
    "MaskCosts",
    "WidthCosts",
    "count",
    "layer_costs",
    "meet_latency",
    "unit_macs",
    "unit_params",
]
