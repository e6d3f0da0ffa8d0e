"""The layers of the package, read off the imports of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import supertickets

PACKAGE = Path(supertickets.__file__).parent
# Rooms from the bottom up; a room may import from those of lower rows.
ROWS = (
    ("errors", "policy_settings", "task_settings"),
    ("recipe", "device"),
    ("supernets", "cost", "pruning"),
    ("search", "data", "tasks"),
    ("schedule", "training"),
    ("files", "relax", "scheme_judge"),
    ("settle", "ticket", "transfer", "restate", "draw", "one_shot", "connect", "opening", "emit", "runs", "evaluation"),
    ("deploy", "study"),
    ("arguments", "printing"),
    ("cli",),
    ("__init__", "__main__"),
)
# Imports inside a row.
BESIDE = {
    ("cost", "supernets"),
    ("pruning", "supernets"),
    ("tasks", "data"),
    ("transfer", "ticket"),
    ("restate", "ticket"),
    ("restate", "transfer"),
    ("runs", "ticket"),
    ("runs", "transfer"),
    ("runs", "restate"),
    ("runs", "draw"),
    ("runs", "opening"),
    ("runs", "one_shot"),
    ("runs", "connect"),
    ("runs", "emit"),
    ("connect", "ticket"),
    ("evaluation", "opening"),
    ("evaluation", "restate"),
    ("evaluation", "ticket"),
    ("emit", "ticket"),
    ("one_shot", "draw"),
    ("opening", "settle"),
    ("opening", "ticket"),
    ("study", "deploy"),
    ("__main__", "__init__"),
}
# What may not even come from a lower row.
FILES_MAY_IMPORT = {"errors", "recipe", "schedule", "training.optim"}
ANYONE_MAY_IMPORT = "__init__"  # for the version alone


def imports(source: str, package: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yields what a module of the package imports from it: (dotted module below the package, name).

    Args:
        source: Text of the module.
        package: Where relative imports start, e.g. ``("supertickets", "search")``.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            dotted = [(alias.name.split("."), "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            dotted = [(base, alias.name) for alias in node.names]
        else:
            continue
        for parts, name in dotted:
            if parts[:1] == ["supertickets"]:
                yield ".".join(parts[1:]), name


def violations(source: str, room: str, package: tuple[str, ...]) -> list[str]:
    """Names the imports of a module that its room does not allow."""
    row = {name: i for i, names in enumerate(ROWS) for name in names}
    found = []
    for dotted, name in imports(source, package):
        if not dotted and (name == "__version__" or room in ("__init__", "__main__")):
            continue
        # `from . import x` may take a module or a name; only modules are rooms.
        other = dotted.split(".")[0] or (name if name in row else ANYONE_MAY_IMPORT)
        target = dotted or name
        allowed = other == room or row[other] < row[room] or (room, other) in BESIDE
        if room == "files" and other != room:
            allowed = target in FILES_MAY_IMPORT
        if not allowed:
            found.append(f"{room} imports {target} ({name})")
    return found


def modules() -> list[tuple[Path, str, tuple[str, ...]]]:
    """Every module: its file, its room, and where its relative imports start."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found.append((path, parts[0], ("supertickets", *parts[:-1])))
    return found


@pytest.mark.parametrize(("path", "room", "package"), modules(), ids=lambda value: getattr(value, "stem", None))
def test_imports_go_down(path: Path, room: str, package: tuple[str, ...]) -> None:
    assert violations(path.read_text(), room, package) == []


def test_every_room_has_its_row() -> None:
    assert {room for _, room, _ in modules()} == {room for row in ROWS for room in row}


@pytest.mark.parametrize(
    ("source", "room", "found"),
    [
        ("from ..training import fit", "search", ["search imports training (fit)"]),
        ("from ..search.shrink import slice_tensors", "search", []),
        ("from .shrink import slice_tensors", "search", []),
        ("def f():\n    from ..draw import shrink", "training", ["training imports draw (shrink)"]),
        ("import supertickets.cli", "deploy", ["deploy imports cli ()"]),
        ("from supertickets.ticket import load", "data", ["data imports ticket (load)"]),
        ("from .. import runs", "study", []),
        ("from .. import cli", "study", ["study imports cli (cli)"]),
        ("from .. import draw", "study", []),
        ("from .. import load", "study", ["study imports load (load)"]),
        ("from ..cost import count", "supernets", ["supernets imports cost (count)"]),
        ("from ..supernets import HRNet", "cost", []),
        ("from ..pruning import prune", "cost", ["cost imports pruning (prune)"]),
        ("import torch\nfrom collections import abc", "errors", []),
    ],
)
def test_the_check_itself(source: str, room: str, found: list[str]) -> None:
    assert violations(source, room, ("supertickets", room)) == found


def test_files_knows_settings_alone() -> None:
    source = "from .training.optim import check_optimizer\nfrom .training import fit\nfrom .supernets import HRNet"
    assert violations(source, "files", ("supertickets",)) == [
        "files imports training (fit)",
        "files imports supernets (HRNet)",
    ]
