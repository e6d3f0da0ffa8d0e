"""The docs say what is true: links lead somewhere, commands parse, and names of the package exist."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest

import supertickets as st
from supertickets.cli.main import COMMANDS
from supertickets.cli.parser import parse_words
from supertickets.config.recipe import setting_names
from supertickets.runs.derive import search_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/README.md"))
WRAPPED = sorted(ROOT.glob("docs/*.md"))
LINE_LENGTH = 130
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MODULE = re.compile(r"`(supertickets(?:\.\w+)+)`")
RECIPES = {"RECIPE": "digits", "SWEEP": "ablation", "SWEEP.yaml": "ablation"}  # words that stand for any of them


def name_of(page: Path) -> str:
    """Return a page's name for the test's id."""
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return CODE.sub("", page.read_text())


@functools.cache
def anchors(page: Path) -> set[str]:
    """Return what links may say behind ``#``, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[str]:
    """Return the lines of a page's code blocks that call ``supertickets``, without their comments."""
    blocks = [
        re.sub(r" *\\\n *", " ", text) for language, text in CODE.findall(page.read_text()) if language != "python"
    ]
    lines = [line for block in blocks for line in block.splitlines()]
    pattern = r"(?:\S*/|torchrun .*-m )?supertickets (.*)"
    called = [match[1] for line in lines if (match := re.match(pattern, line)) is not None]
    return [re.split(r"(?<=\S)\s+#|(?<=\S)\s{2,}", line)[0].strip() for line in called]


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{name_of(page)} links to {target}; headings: {anchors(linked)}"


def test_a_page_that_the_code_names_exists() -> None:
    files = [file for room in ("src", "benchmarks", "examples", "tests") for file in (ROOT / room).rglob("*.py")]
    named = {(file.name, page) for file in files for page in re.findall(r"\bdocs/[\w-]+\.md", file.read_text())}
    assert named
    assert [(file, page) for file, page in named if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("page", WRAPPED, ids=name_of)
def test_lines_are_wrapped(page: Path) -> None:
    lines = [line for line in prose(page).splitlines() if not line.startswith("|") and "](" not in line]
    assert [line for line in lines if len(line) > LINE_LENGTH] == []


@every_page
def test_every_code_block_ends(page: Path) -> None:
    assert page.read_text().count("\n```") % 2 == 0


@every_page
def test_every_command_parses(page: Path) -> None:
    for line in commands(page):
        words = [RECIPES.get(word, word) for word in shlex.split(line)]
        if not {"--help", "--help-settings", "--version"}.intersection(words):
            options = parse_words(words, COMMANDS)
            recipe = str(getattr(options, "recipe", ""))
            load = search_recipe if words[0] == "search" else st.load_recipe
            load(recipe if recipe in st.list_recipes() else "digits", options.settings)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_settings_in_the_text_exist(page: Path) -> None:
    """A changelog names earlier ones too."""
    names = setting_names()
    groups = {name.partition(".")[0] for name in names if "." in name}
    named = re.findall(r"`(?:--)?([a-z_]+)\.([a-z_]+)(?:\.[a-z_]+)?[`: =]", prose(page))
    assert [name for group, last in named if group in groups and (name := f"{group}.{last}") not in names] == []


@every_page
def test_python_code_and_names_of_the_package_are_right(page: Path) -> None:
    text = page.read_text()
    for language, block in CODE.findall(text):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("supertickets"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "st":
                assert hasattr(st, node.attr), f"st.{node.attr}"
            # exceptions have no signature
            if isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("st.") in {*st.__all__} - {
                "UserError"
            }:
                signature = inspect.signature(getattr(st, ast.unparse(node.func).removeprefix("st.")))
                signature.bind(*node.args, **{str(keyword.arg): keyword.value for keyword in node.keywords})
    for name in MODULE.findall(text):
        parent, _, last = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(parent), last), name


def test_tables_of_odd_data_have_no_empty_cell() -> None:
    rows = [line for line in (ROOT / "docs" / "data.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len(cells) > 60
    assert all(all(row) for row in cells)
    headers = [i for i, row in enumerate(cells) if row[0] == "oddity"]
    for start, end in zip(headers, [*headers[1:], len(cells)], strict=True):
        assert {len(row) for row in cells[start:end]} == {len(cells[start])}


def test_files_that_the_architecture_names_exist() -> None:
    package = ROOT / "src" / "supertickets"
    for page in (ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"):
        named = re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text())
        assert named
        assert [file for file in named if not ((package / file).is_file() or (ROOT / file).is_file())] == []


def test_the_checks_see_what_they_check(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A (first) page: one\n```\nsupertickets draw digits \\\n    --seed 3   # comment\npython x.py\n```\n"
    )
    assert commands(page) == ["draw digits --seed 3"]
    assert anchors(page) == {"a-first-page-one"}
