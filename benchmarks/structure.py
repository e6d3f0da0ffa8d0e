"""Measure the structure and the vocabulary of the package: ``python benchmarks/structure.py [SRC] [--list]``.

Prints the number of rooms, import circles, upward imports, the longest file, functions over 60 lines or 6 parameters,
and names and docstrings that `CONTRIBUTING.md` asks to avoid. ``SRC`` is a folder with the package (default: ``src``),
so that two versions can be compared.
"""

from __future__ import annotations

import argparse
import ast
import collections
import re
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 60, 6
QUESTION = re.compile(r"(What|How|Whether|Where|Which|Who|Whose|Why|When)\b")
NAMES = ("found", "told")


def modules(package: Path) -> dict[str, Path]:
    """Return every module of a package: dotted name below it -> file."""
    paths = {".".join(path.relative_to(package).with_suffix("").parts): path for path in package.rglob("*.py")}
    return {name.removesuffix(".__init__") if name != "__init__" else "": path for name, path in paths.items()}


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the package that a module imports, inside functions too."""
    parts = name.split(".") if name else []
    package = parts if path.name == "__init__.py" else parts[:-1]
    targets = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                targets.add(whole if whole in known else ".".join(base))
    return (targets & set(known)) - {name}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or not (the root package left out)."""
    graph = {name: targets - {""} for name, targets in graph.items() if name}

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        queue = [start]
        while queue:
            new = graph[queue.pop()] - seen
            seen |= new
            queue += new
        return seen

    reach = {name: reachable(name) for name in graph}
    groups = {frozenset({name, *(other for other in reach[name] if name in reach[other])}) for name in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield all functions and methods."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of the parameters, without self and cls."""
    names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def docstrings(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield every docstring with what it belongs to."""
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if documented and (text := ast.get_docstring(node)):
            yield node, text


def vocabulary_offences(folder: Path) -> dict[str, list[str]]:
    """Return the names, docstrings and lines of a folder of modules that `CONTRIBUTING.md` asks to avoid, by rule."""
    by_rule: dict[str, list[str]] = collections.defaultdict(list)
    for path in sorted(modules(folder).values()):
        text = path.read_text()
        tree, place = ast.parse(text), str(path.relative_to(folder))
        for node, doc in docstrings(tree):
            if QUESTION.match(doc):
                by_rule["docstrings that begin with a question word"].append(
                    f"{place}:{getattr(node, 'lineno', 1)} {doc[:50]!r}"
                )
        for node in ast.walk(tree):
            names = [node.arg] if isinstance(node, ast.arg) else []
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names = [node.id]
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            for one in names:
                if one in NAMES:
                    by_rule[f"names `{one}`"].append(f"{place}:{getattr(node, 'lineno', 0)}")
        for number, line in enumerate(text.splitlines(), 1):
            if "picture" in line.lower():
                by_rule["lines with `picture`"].append(f"{place}:{number}")
    return dict(by_rule)


def offences(package: Path) -> dict[str, list[str]]:
    """Return what breaks a rule of form, by rule."""
    by_rule: dict[str, list[str]] = collections.defaultdict(list, vocabulary_offences(package))
    for path in sorted(modules(package).values()):
        text = path.read_text()
        tree, place = ast.parse(text), str(path.relative_to(package))
        if len(text.splitlines()) > MAX_FILE_LINES:
            by_rule[f"files over {MAX_FILE_LINES} lines"].append(f"{place} ({len(text.splitlines())})")
        for node in functions(tree):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                by_rule[f"functions over {MAX_FUNCTION_LINES} lines"].append(
                    f"{place}:{node.lineno} {node.name} ({length})"
                )
            if (count := len(parameters(node))) > MAX_PARAMETERS:
                by_rule[f"functions over {MAX_PARAMETERS} parameters"].append(
                    f"{place}:{node.lineno} {node.name} ({count})"
                )
    return dict(by_rule)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("src", nargs="?", type=Path, default=Path(__file__).parents[1] / "src")
    parser.add_argument("--list", action="store_true", help="name every place")
    parser.add_argument("--room", help="only this room")
    options = parser.parse_args()
    package = options.src / "supertickets"
    every = modules(package)
    rooms = {name.split(".")[0] for name in every if name} - {"__main__"}
    graph = {name: imports(name, path, every) for name, path in every.items()}
    longest = max(every.values(), key=lambda path: len(path.read_text().splitlines()))
    print(f"rooms {len(rooms)}: {', '.join(sorted(rooms))}")
    print(f"modules {len(every)}, lines {sum(len(path.read_text().splitlines()) for path in every.values()):,}")
    print(f"import circles {len(circles(graph))}: {circles(graph)}")
    print(f"longest file {longest.relative_to(package)} ({len(longest.read_text().splitlines())})")
    for rule, places in sorted(offences(package).items()):
        chosen = [place for place in places if not options.room or place.startswith(options.room)]
        print(f"{rule}: {len(chosen)}")
        if options.list:
            print("".join(f"  {place}\n" for place in chosen), end="")


if __name__ == "__main__":
    main()
