"""Help on every setting of a recipe, from the types, defaults and docstrings of the dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from .recipe import Recipe
from .setting_types import describe_type, setting_types

_WIDTH = 110


def settings_help() -> str:
    """Return a text with every setting: its name, type, default and meaning."""
    return "\n".join(("Settings of a recipe, in its YAML file or as options (--NAME VALUE).", *_lines(Recipe(), "")))


def attribute_docs(settings: type) -> dict[str, str]:
    """Return the ``Attributes:`` of a class's docstring by name, each in one line."""
    _, _, section = (inspect.getdoc(settings) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _lines(settings: Any, prefix: str) -> Iterator[str]:
    """Yield the help on a group of settings, then on the groups inside it."""
    kind = type(settings)
    docs, types, groups = attribute_docs(kind), setting_types(kind), []
    yield f"\n{(inspect.getdoc(kind) or '').splitlines()[0]}"
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if dataclasses.is_dataclass(value):
            groups.append((value, f"{prefix}{entry.name}."))
            continue
        takes, default = describe_type(types[entry.name]), json.dumps(value)
        indent = " " * 6
        title = f"{prefix}{entry.name}: {takes} (default: {default})"
        yield textwrap.fill(title, _WIDTH, initial_indent="  --", subsequent_indent=indent)
        yield textwrap.fill(docs.get(entry.name, ""), _WIDTH, initial_indent=indent, subsequent_indent=indent)
    for group, name in groups:
        yield from _lines(group, name)
