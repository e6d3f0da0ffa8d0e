"""Ranges of settings, declared in their types: ``Annotated[float, Range(least=0, below=1)]``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from ..errors import UserError
from .setting_types import setting_types


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers that a setting takes.

    Attributes:
        least: Smallest number, included.
        above: Bound below all numbers, not included.
        most: Largest number, included.
        below: Bound above all numbers, not included.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, (int, float)) or value != value:
            return False
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.least is None:
            parts = [
                f"{word} {bound:g}"
                for word, bound in (("above", self.above), ("below", self.below))
                if bound is not None
            ]
            return " and ".join([*parts, *([f"at most {self.most:g}"] if self.most is not None else [])])
        if self.most is not None:
            return f"from {self.least} to {self.most}"
        return f"of at least {self.least:g}" if self.below is None else f"from {self.least:g} to below {self.below:g}"


PositiveInt = Annotated[int, Range(least=1)]
NonNegativeInt = Annotated[int, Range(least=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(least=0)]
NegativeFloat = Annotated[float, Range(below=0)]
ClosedUnitInterval = Annotated[float, Range(least=0, most=1)]
OpenUnitInterval = Annotated[float, Range(above=0, below=1)]
UnitIntervalBelowOne = Annotated[float, Range(least=0, below=1)]
UnitIntervalAboveZero = Annotated[float, Range(above=0, most=1)]


def find_range(hint: Any) -> Range | None:
    """Return the range that a type declares for its numbers, or for those inside it.

    Args:
        hint: Type of a setting, e.g. ``tuple[PositiveInt, PositiveInt] | None``.
    """
    if get_origin(hint) is Annotated:
        return next((entry for entry in hint.__metadata__ if isinstance(entry, Range)), None)
    return next((inner for part in get_args(hint) if (inner := find_range(part)) is not None), None)


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Check that every number lies in the range that its type declares.

    Args:
        settings: Dataclass of settings, with others inside.
        prefix: Dotted name in front of its settings, for messages.

    Raises:
        UserError: A number is out of range; the message names the range.
    """
    for name, hint in setting_types(type(settings)).items():
        value = getattr(settings, name)
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{prefix}{name}.")
        elif value is not None and (allowed := find_range(hint)) is not None:
            numbers = value if isinstance(value, tuple) else (value,)
            if any(number not in allowed for number in numbers):
                shown, use = (list(value), "values") if isinstance(value, tuple) else (value, "a value")
                raise UserError(f"{prefix}{name}={shown} is out of range; use {use} {allowed}.")
