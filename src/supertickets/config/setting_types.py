"""Types of settings: plain YAML to typed values, and words for what a type takes."""

from __future__ import annotations

import datetime
import functools
import re
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from ..errors import UserError
from ..storage import check_nesting


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML with numbers as in YAML 1.2, so that 1e-3 is a number and not a text, and 010 is ten and not eight."""


class _OtherForm(int):
    """A whole number that was written in another form than plain digits, as 010 or 0x1F: perhaps a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _read_integer(loader: Any, node: Any) -> int:
    text = str(node.value)
    value = int(text) if re.fullmatch(r"[-+]?[0-9]+", text) else int(loader.construct_yaml_int(node))
    if abs(value) >= _TOO_LARGE:
        raise ValueError(f"a whole number of {len(text)} digits")
    return value if str(value) == text else _OtherForm(value)


def _refuse_tag(loader: Any, node: Any) -> Any:
    raise ValueError(f"{node.tag.removeprefix('tag:yaml.org,2002:')} has no meaning here")


_Loader.add_constructor("tag:yaml.org,2002:int", _read_integer)
for _tag in ("binary", "set", "omap", "pairs"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _refuse_tag)
_TOO_LARGE = 10**19  # whole numbers from here on are no settings, and no float holds the largest
_NULLS = ("~", "null", "Null", "NULL")  # words for no value, where a type takes none
_FLAGS = ("true", "True", "TRUE", "false", "False", "FALSE")  # likewise for a flag, where a type takes flags and texts


def read_yaml(text: str) -> Any:
    """Return the plain values of a YAML text: texts, numbers, flags, dates and nulls, in lists and mappings.

    Raises:
        yaml.YAMLError: It is not YAML, holds other values or a whole number of more than 19 digits, or is nested too
            deep; anchors that repeat or contain themselves count wherever they stand.
    """
    try:
        value = yaml.load(text, _Loader)
        check_nesting(value)
    except yaml.YAMLError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:  # of PyYAML's readers of values
        raise yaml.YAMLError(f"a value cannot be read: {error}") from None
    return value


def setting_types(settings: type) -> dict[str, Any]:
    """Return the types of a dataclass's settings by name, with the ranges that they declare."""
    return _hints(settings)


@functools.cache
def _hints(settings: type) -> dict[str, Any]:
    return get_type_hints(settings, include_extras=True)


def read_word(word: str, hint: Any, name: str) -> Any:
    """Return the typed value of a word of a command line.

    Args:
        word: YAML, or a text as it is where the type takes texts.
        hint: Type of the setting.
        name: Name of the setting, for messages.

    Raises:
        UserError: The type takes no such value.
    """
    if _takes_text(hint):
        kind = types.NoneType if word in _NULLS else bool if word in _FLAGS else str
        return convert(read_yaml(word) if _takes(hint, kind) else word, hint, name)
    try:
        value = _read_names(word) if _takes_names(hint) else read_yaml(word) if word.strip() else word
    except yaml.YAMLError:
        value = word
    return convert(value, hint, name)


def _read_names(word: str) -> Any:
    """Return the plain values of a YAML text as texts: "no" and "010" are names, neither a flag nor a number."""
    return yaml.load(word, yaml.BaseLoader) if word.strip() else word


def convert(value: Any, hint: Any, name: str) -> Any:
    """Return a plain value as the type of its setting has it.

    Args:
        value: Value as YAML or JSON holds it.
        hint: Type of the setting.
        name: Name of the setting, for messages.

    Raises:
        UserError: The type takes no such value.
    """
    try:
        return _convert(value, hint)
    except (TypeError, ValueError, OverflowError):
        shown = "null" if value is None else value
        use = describe_type(hint) + _advise_quotes(value, hint)
        raise UserError(f"{name}={shown} is not valid; use {use}.") from None


def _advise_quotes(value: Any, hint: Any) -> str:
    """Return the advice to put in quotes what YAML reads as something else than the text that was meant."""
    texts = (
        [value]
        if value is not None and _takes_text(hint)
        else value
        if _takes_names(hint) and isinstance(value, (list, tuple))
        else []
    )
    if not any(text is None or isinstance(text, (bool, float, _OtherForm, datetime.date)) for text in texts):
        return ""
    return '; put texts in quotes that YAML reads as something else (no, yes, on, off, null, dates, 010, 1.50): "no"'


def describe_type(hint: Any) -> str:
    """Return in words what a type takes, e.g. "a number from 0 to below 1"."""
    parts = get_args(hint)
    origin = get_origin(hint)
    if origin is Annotated:
        return " ".join([describe_type(parts[0]), *(str(entry) for entry in parts[1:])])
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if origin is tuple:
        unit = {int: "whole numbers", float: "numbers", str: "names"}[_bare(parts[0])]
        return f"a list of {unit}, [a, b, ...]" if parts[-1] is Ellipsis else f"{len(parts)} {unit}, [a, b]"
    if _is_union(hint):
        return ", or ".join(map(describe_type, parts))
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", types.NoneType: "null"}
    return plain.get(hint, "names and values, {name: value, ...}")


def _convert(value: Any, hint: Any) -> Any:
    """As `convert`; raises TypeError or ValueError."""
    hint, parts = _bare(hint), get_args(_bare(hint))
    if _is_union(hint):
        return _convert_union(value, parts)
    if get_origin(hint) is Literal:
        if value in parts:
            return value
    elif get_origin(hint) is tuple:
        return _convert_tuple(value, parts)
    elif get_origin(hint) is dict:
        if isinstance(value, dict):
            return dict(value)
    elif hint is float:
        if isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return float(value)
    elif hint is str and isinstance(value, int) and not isinstance(value, (bool, _OtherForm)):
        return str(value)
    elif hint is int and isinstance(value, _OtherForm):
        return int(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise TypeError


def _convert_union(value: Any, parts: tuple[Any, ...]) -> Any:
    if value is None and types.NoneType in parts:
        return None
    for part in parts:
        try:
            return _convert(value, part)
        except (TypeError, ValueError):
            continue
    raise TypeError


def _convert_tuple(value: Any, parts: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    units = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
    return tuple(_convert(item, unit) for item, unit in zip(value, units, strict=True))


def _takes_text(hint: Any) -> bool:
    return hint is str or get_origin(hint) is Literal or (_is_union(hint) and any(map(_takes_text, get_args(hint))))


def _takes_names(hint: Any) -> bool:
    return get_origin(_bare(hint)) is tuple and _bare(get_args(_bare(hint))[0]) is str


def _takes(hint: Any, kind: type) -> bool:
    """Return whether a type is a union with some kind other than text."""
    return kind is not str and _is_union(hint) and kind in get_args(hint)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _bare(hint: Any) -> Any:
    """Return a type without what annotates it."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint
