"""Plain values become typed ones, exactly or not at all."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pytest

from supertickets import UserError
from supertickets.config.ranges import Range
from supertickets.config.setting_types import convert, describe_type, read_word, read_yaml


def test_numbers_with_an_exponent_are_numbers() -> None:
    assert read_yaml("[1e-3, 5e6, -1E+2, 1.5e3, 12, 1e, e5]") == [0.001, 5e6, -100.0, 1500.0, 12, "1e", "e5"]


@pytest.mark.parametrize(
    ("word", "hint", "value"),
    [
        ("3", int, 3),
        ("3", float, 3.0),
        ("1e-3", float, 0.001),
        ("null", float | None, None),
        ("123", str | None, "123"),
        ("null", str | None, None),
        ("~", str | None, None),
        ("", str | None, ""),
        ("#x", str | None, "#x"),
        ("null", str, "null"),
        ("", str, ""),
        ("010", int, 10),
        ("-010", int, -10),
        ("1_000", int, 1000),
        ("0x10", int, 16),
        ("010", str, "010"),
        ("off", bool, False),
        ("on", bool, True),
        ("a: [", str, "a: ["),
        ("true", bool, True),
        ("true", bool | str, True),
        ("False", bool | str, False),
        ("yes", bool | str, "yes"),
        ("true", str, "true"),
        ("none", Literal["none", "rms"], "none"),
        ("[3, 5]", tuple[int, ...], (3, 5)),
        ("[]", tuple[int, ...], ()),
        ("[1, 0.5]", tuple[float, float], (1.0, 0.5)),
        ("32", int | tuple[int, int] | None, 32),
        ("[32, 48]", int | tuple[int, int] | None, (32, 48)),
        ("{a: 1e-3}", dict[str, Any], {"a": 0.001}),
    ],
)
def test_words_are_read_by_their_type(word: str, hint: Any, value: Any) -> None:
    result = read_word(word, hint, "x")
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("value", "hint", "use"),
    [
        (True, int, "a whole number"),
        ("", int, "a whole number"),
        (True, float, "a number"),
        (3.0, int, "a whole number"),
        ("three", float, "a number"),
        (1, bool, "true or false"),
        (None, str, "a text"),
        ("cosin", Literal["cosine", "step"], "one of cosine, step"),
        ([1, 2, 3], tuple[int, int], "2 whole numbers, [a, b]"),
        (3, tuple[int, ...], "a list of whole numbers, [a, b, ...]"),
        (3, dict[str, Any], "names and values, {name: value, ...}"),
        ("many", Annotated[int, Range(least=1)] | None, "a whole number of at least 1, or null"),
    ],
)
def test_other_values_are_refused_in_words(value: Any, hint: Any, use: str) -> None:
    assert describe_type(hint) == use
    shown = "null" if value is None else value
    with pytest.raises(UserError, match=f"^x={re.escape(str(shown))} is not valid; use {re.escape(use)}[.]$"):
        convert(value, hint, "x")
