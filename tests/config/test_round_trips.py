"""Any recipe survives JSON, a YAML file and the command line, to the type."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supertickets.config.loading import _build, _pairs, _type_of, recipe_from_json
from supertickets.config.ranges import Range, check_ranges, find_range
from supertickets.config.recipe import Recipe, flatten, setting_names
from supertickets.config.setting_types import read_word, read_yaml, setting_types

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NULLS = ("~", "null", "Null", "NULL")
# Texts that YAML alone would read as something else.
TRAPS = ("1e-3", "010", "true", "off", "null", "~", "", "[1", "a: b", "#x", "'1'", " 1 ", "2020-01-01", "1_000")


def values_of(hint: Any, allowed: Range | None = None) -> st.SearchStrategy[Any]:
    """Return the values that a type takes, those of a range if it declares one."""
    parts = get_args(hint)
    if get_origin(hint) is Annotated:
        return values_of(parts[0], find_range(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return st.one_of(*(values_of(part) for part in parts))
    if get_origin(hint) is Literal:
        return st.sampled_from(parts)
    if get_origin(hint) is tuple:
        if parts[-1] is Ellipsis:
            return st.lists(values_of(parts[0]), max_size=3).map(tuple)
        return st.tuples(*map(values_of, parts))
    if get_origin(hint) is dict:
        return st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), VALUES, max_size=3)
    low, high = _bounds(allowed or Range())
    plain: Mapping[Any, st.SearchStrategy[Any]] = {
        types.NoneType: st.none(),
        bool: st.booleans(),
        str: TEXTS | st.sampled_from(TRAPS),
        int: st.integers(math.ceil(low), math.floor(high)),
        float: st.floats(low, high),
    }
    return plain[hint]


def _bounds(allowed: Range) -> tuple[float, float]:
    """Return the smallest and the largest number of a range that tests take."""
    low = allowed.least if allowed.least is not None else -1e9 if allowed.above is None else allowed.above + 1e-9
    high = allowed.most if allowed.most is not None else 1e9 if allowed.below is None else allowed.below - 1e-9
    return float(low), min(float(high), 1e9)


def recipes(kind: Any = Recipe) -> st.SearchStrategy[Any]:
    """Return settings of a class with any values that their types take."""
    hints = setting_types(kind)
    return st.builds(kind, **{n: recipes(h) if dataclasses.is_dataclass(h) else values_of(h) for n, h in hints.items()})


def typed(value: Any) -> Any:
    """Return a value with its types, so that 1, 1.0 and True differ."""
    if isinstance(value, (tuple, list)):
        return (type(value).__name__, [typed(part) for part in value])
    return (type(value).__name__, value)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(recipe=recipes())
def test_a_recipe_survives_json_and_yaml(recipe: Recipe) -> None:
    check_ranges(recipe)
    stored = json.loads(json.dumps(recipe.to_json()))
    for data in (recipe.to_json(), stored, read_yaml(json.dumps(stored, ensure_ascii=False))):
        again = recipe_from_json(data)
        assert again == recipe
        assert {name: typed(value) for name, value in flatten(again.to_json()).items()} == {
            name: typed(value) for name, value in flatten(recipe.to_json()).items()
        }


@pytest.mark.parametrize("name", setting_names())
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_words_of_the_command_line_give_the_value(name: str, data: st.DataObject) -> None:
    """Both ``--name value`` and ``--name=value``; a text is typed as it is, all else as JSON."""
    value = data.draw(values_of(_type_of(name)))
    word = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    parted = data.draw(st.booleans()) and not word.startswith("--")
    ((read, text),) = _pairs([f"--{name}", word] if parted else [f"--{name}={word}"])
    assert (read, text) == (name, word)
    if isinstance(value, str) and value in NULLS and type(None) in get_args(_type_of(name)):
        return  # where null is a value, these words mean it
    if isinstance(value, str) and value.lower() in ("true", "false") and bool in get_args(_type_of(name)):
        return  # likewise
    result = read_word(text, _type_of(name), name)
    assert typed(result) == typed(value)
    assert not isinstance(result, float) or math.isfinite(result)


def test_the_last_of_two_words_for_a_setting_wins() -> None:
    built = _build(
        Recipe,
        {
            name: read_word(text, _type_of(name), name)
            for name, text in _pairs(["--epochs", "3", "--seed=7", "--epochs=5"])
        },
    )
    assert (built.epochs, built.seed) == (5, 7)
