"""The structure of the package, read off the imports of every module: layers, import circles, sizes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import structure
import supertickets

PACKAGE = Path(supertickets.__file__).parent
ROOT = Path(__file__).parents[1]
# Rooms from the bottom up; a room imports from itself and from rooms before it.
ORDER = (
    *("errors", "storage", "runtime", "plugins", "config", "device"),
    *("models", "cost", "pruning", "data", "nas", "tasks"),
    *("training", "ticket", "algorithms", "runs"),
    *("deploy", "analysis", "sweeps", "visualization", "report"),
    *("cli", "__init__", "__main__"),
)


def imports(source: str, package: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yields what a module of the package imports from it: (dotted module below the package, name).

    Args:
        source: Text of the module.
        package: Where relative imports start, e.g. ``("supertickets", "nas")``.
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
    place = {name: i for i, name in enumerate(ORDER)}
    upward = []
    for dotted, name in imports(source, package):
        if not dotted and name == "__version__":
            continue
        # `from . import x` may take a module or a name; only modules are rooms.
        other = dotted.split(".")[0] or (name if name in place else "__init__")
        if place[other] > place[room]:
            upward.append(f"{room} imports {dotted or name} ({name})")
    return upward


def modules() -> list[tuple[Path, str, tuple[str, ...]]]:
    """Every module: its file, its room, and where its relative imports start."""
    every = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        every.append((path, parts[0], ("supertickets", *parts[:-1])))
    return every


@pytest.mark.parametrize(("path", "room", "package"), modules(), ids=lambda value: getattr(value, "stem", None))
def test_imports_go_down(path: Path, room: str, package: tuple[str, ...]) -> None:
    assert violations(path.read_text(), room, package) == []


def test_every_room_has_its_place() -> None:
    assert {room for _, room, _ in modules()} | {"__init__"} == set(ORDER)
    assert len(ORDER) <= 24


def test_no_import_circle() -> None:
    every = structure.modules(PACKAGE)
    graph = {name: structure.imports(name, path, every) for name, path in every.items()}
    assert sum(map(len, graph.values())) > 300  # the graph is there
    assert structure.circles(graph) == []


def test_circles_are_detected() -> None:
    assert structure.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_rules_of_form() -> None:
    """Sizes of files and functions, and the vocabulary; see CONTRIBUTING.md."""
    assert structure.offences(PACKAGE) == {}


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_vocabulary_outside_the_package(folder: str) -> None:
    by_rule = structure.vocabulary_offences(ROOT / folder)
    # The check itself and its test write the word that they look for.
    lines = [p for p in by_rule.pop("lines with `picture`", []) if not re.match(r"(test_)?structure\.py:", p)]
    assert (by_rule, lines) == ({}, [])


def test_offences_are_detected(tmp_path: Path) -> None:
    body = "\n".join(f"    x{i} = {i}" for i in range(60))
    (tmp_path / "bad.py").write_text(
        f'"""What it is."""\n\n\ndef told(a, b, c, d, e, f, g):\n    """Return a picture."""\n{body}\n    found = 1\n'
        + "\n" * 400
    )
    assert {rule: len(places) for rule, places in structure.offences(tmp_path).items()} == {
        "files over 400 lines": 1,
        "functions over 60 lines": 1,
        "functions over 6 parameters": 1,
        "docstrings that begin with a question word": 1,
        "names `found`": 1,
        "names `told`": 1,
        "lines with `picture`": 1,
    }


@pytest.mark.parametrize(
    ("source", "room", "upward"),
    [
        ("from ..training import fit", "nas", ["nas imports training (fit)"]),
        ("from ..nas.shrink import slice_tensors", "nas", []),
        ("from .shrink import slice_tensors", "nas", []),
        (
            "def f():\n    from ..algorithms.two_in_one import shrink",
            "training",
            ["training imports algorithms.two_in_one (shrink)"],
        ),
        ("import supertickets.cli", "deploy", ["deploy imports cli ()"]),
        ("from supertickets.ticket import load", "data", ["data imports ticket (load)"]),
        ("from .. import runs", "report", []),
        ("from .. import cli", "report", ["report imports cli (cli)"]),
        ("from .. import load", "report", ["report imports load (load)"]),
        ("from .. import __version__", "errors", []),
        ("from ..cost import count", "models", ["models imports cost (count)"]),
        ("from ..models import HRNet", "cost", []),
        ("from ..pruning import prune", "cost", ["cost imports pruning (prune)"]),
        ("import torch\nfrom collections import abc", "errors", []),
    ],
)
def test_the_check_itself(source: str, room: str, upward: list[str]) -> None:
    assert violations(source, room, ("supertickets", room)) == upward
