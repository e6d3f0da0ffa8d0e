"""Recipes and sweeps that ship with the package."""

from __future__ import annotations

import functools
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "recipes"


def shipped_names(folder: str = "") -> list[str]:
    """Return the names of shipped files, sorted.

    Args:
        folder: "" for recipes, "sweeps" for sweeps.
    """
    return sorted(path.stem for path in (_FOLDER / folder).glob("*.yaml"))


def read_shipped(name: str, folder: str = "") -> str:
    """Return the text of a shipped file."""
    return (_FOLDER / folder / f"{name}.yaml").read_text()


def list_recipes() -> dict[str, str]:
    """List shipped recipes: name -> one line on what it does."""
    return dict(_descriptions(""))


def list_sweeps() -> dict[str, str]:
    """List shipped sweeps: name -> one line on what they compare."""
    return dict(_descriptions("sweeps"))


@functools.cache
def _descriptions(folder: str) -> dict[str, str]:
    from .setting_types import read_yaml

    return {name: read_yaml(read_shipped(name, folder)).get("description", "") for name in shipped_names(folder)}
