"""The page: blocks, and the same blocks as HTML that needs nothing else and as Markdown beside its figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from .svg_figure import Figure


@dataclass(frozen=True)
class Link:
    """A cell that leads to an anchor of the page."""

    text: str
    anchor: str


Cell = str | Link


@dataclass(frozen=True)
class Heading:
    """A heading that begins a section; level 1 is the page's own."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures side by side, where there is room."""

    drawings: Sequence[Figure]


@dataclass(frozen=True)
class Command:
    """A command, and the text of links to it."""

    anchor: str
    said: str
    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks that are shown on demand."""

    title: str
    blocks: Sequence[Block]
    is_open: bool = False


Block = Heading | Text | Table | Figures | Command | Fold


def list_figures(blocks: Iterable[Block]) -> list[Figure]:
    """Return all figures of a page."""
    figures: list[Figure] = []
    for block in blocks:
        if isinstance(block, Figures):
            figures += block.drawings
        elif isinstance(block, Fold):
            figures += list_figures(block.blocks)
    return figures


# HTML ----------------------------------------------------------------------------------------------------------------


def render_html(title: str, blocks: Sequence[Block]) -> str:
    """Return one HTML file that opens offline: styles and figures are inside, there is no script."""
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(map(_html, _with_contents(blocks)))
        + "\n</main>\n</body>\n</html>\n"
    )


def _with_contents(blocks: Sequence[Block]) -> list[Block | str]:
    """Put links to the sections in front of the first."""
    links = [
        f'<a href="#{_anchor(block.text)}">{escape(block.text)}</a>'
        for block in blocks
        if isinstance(block, Heading) and block.level == 2
    ]
    first = next((i for i, block in enumerate(blocks) if isinstance(block, Heading) and block.level == 2), len(blocks))
    contents = [f"<nav>{' '.join(links)}</nav>"] if len(links) > 1 else []
    return [*blocks[:first], *contents, *blocks[first:]]


def _html(block: Block | str) -> str:
    match block:
        case str():
            return block
        case Heading(text, level):
            return f'<h{level} id="{_anchor(text)}">{escape(text)}</h{level}>'
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Table():
            return _html_table(block)
        case Figures(shown):
            return '<div class="figures">\n' + "\n".join(f"<figure>{d.to_svg()}</figure>" for d in shown) + "\n</div>"
        case Command(anchor, said, text):
            return f'<div class="command" id="{anchor}"><p>{escape(said)}</p>\n<pre>{escape(text)}</pre></div>'
        case Fold(title, inner, is_open):
            state = " open" if is_open else ""
            body = "\n".join(map(_html, inner))
            return f"<details{state}>\n<summary>{escape(title)}</summary>\n{body}\n</details>"
    raise AssertionError(block)


def _html_table(table: Table) -> str:
    sides = [' class="n"' if right else "" for right in _numeric_columns(table)]
    head = "".join(f'<th scope="col"{side}>{escape(name)}</th>' for name, side in zip(table.head, sides, strict=True))
    lines = []
    for row in table.rows:
        first, *rest = map(_html_cell, row)
        cells = "".join(f"<td{side}>{cell}</td>" for cell, side in zip(rest, sides[1:], strict=True))
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    caption = f'<p class="caption">{escape(table.caption)}</p>\n' if table.caption else ""
    body = f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>"
    return f'{caption}<div class="scroll"><table>\n{body}</table></div>'


def _html_cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        return f'<a href="#{cell.anchor}">{escape(cell.text)}</a>'
    return escape(cell)


def _numeric_columns(table: Table) -> list[bool]:
    """Return for every column whether it holds numbers, which stand on the right."""
    columns = zip(*table.rows, strict=True) if table.rows else ([] for _ in table.head)
    return [all(isinstance(c, str) and re.match(r"[+-]?\d|\W?$", c) is not None for c in column) for column in columns]


def _anchor(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")


# Markdown ------------------------------------------------------------------------------------------------------------


def render_markdown(blocks: Sequence[Block], folder: str) -> str:
    """Return the page in Markdown, with figures in files.

    Args:
        blocks: Blocks of the page.
        folder: Folder of the figures, as ``NAME.png``.
    """
    return "\n\n".join(_markdown(block, folder) for block in blocks) + "\n"


def _markdown(block: Block, folder: str) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_escape(text)}"
        case Text(text):
            return _escape(text)
        case Table():
            return _markdown_table(block)
        case Figures(shown):
            return "\n".join(f"![{_escape(d.alt)}]({folder}/{d.name}.png)" for d in shown)
        case Command(anchor, said, text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return f'<a id="{anchor}"></a>{_escape(said)}\n\n{fence}\n{text}\n{fence}'
        case Fold(title, inner, is_open):
            state = " open" if is_open else ""
            body = "\n\n".join(_markdown(each, folder) for each in inner)
            return f"<details{state}><summary>{escape(title)}</summary>\n\n{body}\n\n</details>"
    raise AssertionError(block)


def _markdown_table(table: Table) -> str:
    lines = [
        "| " + " | ".join(map(_escape, table.head)) + " |",
        "|" + "|".join("---:" if right else "---" for right in _numeric_columns(table)) + "|",
    ]
    for row in table.rows:
        cells = (f"[{_escape(c.text)}](#{c.anchor})" if isinstance(c, Link) else _escape(c) for c in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*([f"{_escape(table.caption)}\n"] if table.caption else []), *lines])


def _escape(text: str) -> str:
    """Escape what Markdown would read as markup."""
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", escape(text, quote=False)).replace("\n", " ")
