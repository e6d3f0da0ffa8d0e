"""Search units of any module: traced through its operations, checked by numbers, and layers narrowed to the rest."""

from .grouping import LeftOut
from .narrow import narrow_module
from .operation import Operation, is_pointwise
from .trace import TracedUnits, trace_units

__all__ = ["LeftOut", "Operation", "TracedUnits", "is_pointwise", "narrow_module", "trace_units"]
