"""Search units of any module: traced through its operations, checked by numbers, and layers narrowed to the rest."""

from .grouping import LeftOut
from .narrow import narrow_module
from .trace import TracedUnits, trace_units

__all__ = ["LeftOut", "TracedUnits", "narrow_module", "trace_units"]
