"""Ranges in the types of settings: which numbers they hold, how they read, and that no setting escapes its own."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from supertickets import Recipe, UserError
from supertickets.config.ranges import PositiveInt, Range, check_ranges, find_range
from supertickets.config.recipe import flatten, setting_names
from supertickets.config.validation import check_recipe


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "text"),
    [
        (Range(least=0), [0, 0.5, 9], [-1e-9], "of at least 0"),
        (Range(above=0), [1e-9, 9], [0, -1], "above 0"),
        (Range(below=0), [-0.1], [0, 1], "below 0"),
        (Range(least=0, below=1), [0, 0.99], [-0.1, 1], "from 0 to below 1"),
        (Range(least=0, most=1), [0, 1], [-0.1, 1.1], "from 0 to 1"),
        (Range(above=0, below=1), [0.1], [0, 1], "above 0 and below 1"),
        (Range(above=0, most=1), [0.1, 1], [0, 1.1], "above 0 and at most 1"),
        (Range(least=0, most=2**63 - 1), [2**63 - 1], [2**63], "from 0 to 9223372036854775807"),
    ],
)
def test_a_range_holds_its_numbers(allowed: Range, inside: list[float], outside: list[float], text: str) -> None:
    assert all(number in allowed for number in inside)
    assert not any(number in allowed for number in (*outside, math.nan, "0.5", None))
    assert str(allowed) == text


def test_the_range_of_a_type_is_read_inside_it() -> None:
    assert find_range(Annotated[int, Range(least=1)]) == Range(least=1)
    assert find_range(tuple[PositiveInt, PositiveInt] | None) == Range(least=1)
    assert find_range(int | None) is None


def test_a_number_out_of_range_is_named_with_its_range() -> None:
    @dataclass(frozen=True)
    class Inner:
        size: tuple[PositiveInt, PositiveInt] | None = None

    message = r"^inner\.size=\[3, 0\] is out of range; use values of at least 1\.$"
    with pytest.raises(UserError, match=message):
        check_ranges(Inner((3, 0)), "inner.")
    check_ranges(Inner((3, 1)))
    check_ranges(Inner())


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("prune.ratio", 1.2, "prune.ratio=1.2 is out of range; use a value from 0 to below 1."),
        ("prune.ratio", 1.0, "prune.ratio=1.0 is out of range; use a value from 0 to below 1."),
        ("prune.interval", 0, "prune.interval=0 is out of range; use a value of at least 1."),
        ("search.interval", -1, "search.interval=-1 is out of range; use a value of at least 0."),
        ("search.last_epoch", -1, "search.last_epoch=-1 is out of range; use a value of at least 0."),
        ("search.floor", 1.0, "search.floor=1.0 is out of range; use a value from 0 to below 1."),
        ("search.penalty_exponent", 1e3, "search.penalty_exponent=1000.0 is out of range; use a value from 0 to 4."),
        (
            "supernet.width_factor",
            0.0,
            "supernet.width_factor=0.0 is out of range; use a value above 0 and at most 64.",
        ),
        ("epochs", -1, "epochs=-1 is out of range; use a value from 0 to 100000."),
        ("optimizer.lr", 0.0, "optimizer.lr=0.0 is out of range; use a value above 0."),
        ("augment.crop", 0.0, "augment.crop=0.0 is out of range; use a value above 0 and at most 1."),
        ("policy.beta", 0.1, "policy.beta=0.1 is out of range; use a value below 0."),
        ("label_smoothing", math.nan, "label_smoothing=nan is out of range; use a value from 0 to below 1."),
    ],
)
def test_recipes_made_in_python_are_checked(setting: str, value: Any, text: str) -> None:
    with pytest.raises(UserError) as error:
        check_recipe(replaced(Recipe(), setting, value))
    assert str(error.value) == text


def test_defaults_lie_in_their_ranges() -> None:
    check_ranges(Recipe())
    with_range = [name for name in setting_names() if range_of(name) is not None]
    assert len(with_range) > 60
    for name in with_range:  # and each is looked at: no number is below all bounds and above them too
        bounds = range_of(name)
        low = flatten(Recipe().to_json())[name]
        many = isinstance(low, tuple)
        wrong = math.inf if bounds.least is None and bounds.above is None else -math.inf
        with pytest.raises(UserError, match=rf"^{name.replace('.', '[.]')}="):
            check_ranges(replaced(Recipe(), name, (wrong,) if many else wrong))


def range_of(name: str) -> Any:
    from supertickets.config.setting_types import setting_types

    hint: Any = Recipe
    for part in name.split("."):
        hint = setting_types(hint)[part]
    return find_range(hint)


def replaced(settings: Any, name: str, value: Any) -> Any:
    """A copy of settings with one of them replaced, by its dotted name."""
    first, _, rest = name.partition(".")
    return dataclasses.replace(settings, **{first: replaced(getattr(settings, first), rest, value) if rest else value})
