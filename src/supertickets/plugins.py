"""A user's own code by name, ``package.module:name``, and when it may be imported.

Importing runs code, so a name is imported only if the user's own command line or recipe gave it. A name that comes
out of a file somebody else may have written (a ticket, a run directory) is refused unless its module is trusted; that
is decided from the text alone, before anything is imported.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import UserError, suggest

_NAME = re.compile(r"[A-Za-z_][\w]*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
# Settings of a recipe that may name a user's own code.
_RECIPE_PLACES = ("task", "data.source", "supernet.name", "supernet.settings", "prune.criterion", "policy.reward")
LIBRARIES = ("timm", "torchvision", "ticket")  # what ``supernet.name`` puts in front of a colon itself


def is_plugin(name: object) -> bool:
    """Return whether a value names a user's own code: ``package.module:name``."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name)) and name.split(":")[0] not in LIBRARIES


def load_plugin(name: str, kind: str) -> Any:
    """Import a user's own object.

    Args:
        name: ``package.module:name``.
        kind: Noun for messages, e.g. "criterion".

    Raises:
        UserError: There is no such module, or nothing of that name in it.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{kind} {name} cannot be imported ({error}); add its folder to PYTHONPATH, or check the name"
        ) from None


def find_by_name(name: str, table: Mapping[str, Any], kind: str) -> Any:
    """Return the entry of a table, or import a user's own object.

    Args:
        name: Key of the table, or ``package.module:name``.
        table: What ships, by name.
        kind: Noun for messages, e.g. "criterion".

    Raises:
        UserError: The table has no such name, or there is no such module or object.
    """
    if name in table:
        return table[name]
    if is_plugin(name):
        return load_plugin(name, kind)
    module, _, attribute = name.rpartition(".")
    if module:
        raise UserError(f"unknown {kind} '{name}'; your own is written with a colon: {module}:{attribute}")
    raise UserError(f"unknown {kind} '{name}'{suggest(name, table)} (your own: package.module:name)")


def check_trust(names: Iterable[str], trust: Iterable[str], source: str) -> None:
    """Refuse names of code that a file gives and nobody vouches for.

    Args:
        names: ``package.module:name`` of everything that the file would have imported.
        trust: Modules that may be imported: ``package.module``, or a package with all that is in it; or one of them.
        source: Noun for messages, e.g. "ticket runs/x".

    Raises:
        UserError: A module is not trusted; nothing has been imported.
    """
    allowed = trusted(trust)
    for name in names:
        module = name.partition(":")[0]
        if not any(module == one or module.startswith(f"{one}.") for one in allowed):
            raise UserError(
                f"{source} names code to import: {name}. If you know what is in it, allow it with --trust {module} "
                f'(Python: trust=("{module}",))'
            )


def trusted(trust: str | Iterable[str]) -> tuple[str, ...]:
    """Return modules that may be imported; one text is one of them."""
    return (trust,) if isinstance(trust, str) else tuple(trust)


def plugin_names(value: Any) -> list[str]:
    """Return every string in a JSON value that names a user's own code, in order of appearance."""
    if isinstance(value, Mapping):
        return [name for part in value.values() for name in plugin_names(part)]
    if isinstance(value, list | tuple):
        return [name for part in value for name in plugin_names(part)]
    return [value] if is_plugin(value) else []


def recipe_plugins(recipe: Mapping[str, Any]) -> list[str]:
    """Return the names of a user's own code that a recipe, as JSON, would have imported.

    Only settings that take such a name count, so that a path or a description with a colon is none.
    """
    names = []
    for place in _RECIPE_PLACES:
        value: Any = recipe
        for key in place.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        names += plugin_names(value)
    return names


def recipe_trust(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the modules that a user's own recipe vouches for, since it names code in them."""
    return tuple(dict.fromkeys(name.partition(":")[0] for name in recipe_plugins(recipe)))
