"""The report's page: numbers by hand in HTML and Markdown, nothing from outside, and a sweep from end to end."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import supertickets as tickets
from cli_outcome import Cli
from supertickets.report import write_report
from supertickets.report.page import Command, Fold, Heading, Link, Table, Text, render_html, render_markdown
from write_records import write_points, write_run

EMPTY = {"meta", "br"}


@dataclass
class Page(HTMLParser):
    """A page as a parser finds it; every element must be closed in order."""

    tables: list[list[list[str]]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        assert tag not in ("script", "link", "img", "iframe", "b")
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "xlink:href", "src"):
                self.links.append(value or "")
            if re.search(r"https?:|//", value or "") and not name.startswith("xmlns"):
                self.outside.append(f"{name}={value}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def row(self, *head: str, column: str) -> str:
        """The cell of the first row that begins so, in the first table that has it and the column."""
        for first, *rows in self.tables:
            for row in rows:
                if tuple(row[: len(head)]) == head and column in first:
                    return row[first.index(column)]
        raise AssertionError(f"no row {head} with a column {column}")


def read(path: Path) -> Page:
    """Parses a page, which must need nothing but itself."""
    text = path.read_text()
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.outside == []
    assert len(set(page.ids)) == len(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == set()
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "mathdefault" not in text  # numbers of axes are plain text
    return page


def tables_of(markdown: str) -> list[list[list[str]]]:
    """Tables of a Markdown page, without their rules."""
    tables: list[list[list[str]]] = [[]]
    for line in markdown.splitlines():
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif tables[-1]:
            tables.append([])
    return [[row for i, row in enumerate(rows) if i != 1] for rows in tables if rows]


Swept = Callable[..., Path]


@pytest.fixture
def swept(tmp_path: Path) -> Swept:
    """Writes a sweep of two methods, two ratios and some seeds: scores by method, ratio and seed are given."""

    def write(scores: dict[tuple[str, float, int], float], macs: dict[tuple[str, float], int] | None = None) -> Path:
        points = []
        for i, ((method, ratio, seed), score) in enumerate(scores.items()):
            pruned = {"command": "prune", "made": {"criterion": "magnitude"}, "lineage": [SEARCH]}
            options: dict[str, Any] = pruned if method.startswith("S+P") else {}
            options["settings"] = {"seed": seed, "prune.ratio": ratio}
            cost = (macs or {}).get((method, ratio), 1000 + i)
            write_run(tmp_path / "sweep" / f"k{i}", scores=score, masked_macs=cost, **options)
            points.append((method, ratio, seed, f"k{i}"))
        return write_points(tmp_path / "sweep", points)

    return write


SEARCH = {"command": "draw", "recipe": "digits", "seed": 0, "samples": 300, "sparsity": 0.0}


def test_numbers_by_hand_in_both_pages(swept: Swept) -> None:
    """Means of 80 and 85; 60 and 65. At 10 k MACs the line from (1 k, 60) to (100 k, 80) is at 70, and 75 in seed 1."""
    scores = {("ours", 0.5, 0): 80.0, ("ours", 0.8, 0): 60.0, ("ours", 0.5, 1): 85.0, ("ours", 0.8, 1): 65.0}
    scores |= {("S+P", 0.8, 0): 65.0, ("S+P", 0.8, 1): 71.0}
    macs = {("ours", 0.5): 100_000, ("ours", 0.8): 1000, ("S+P", 0.8): 10_000}
    written = write_report([swept(scores, macs)])
    assert (written.runs, written.left_out) == (6, ())
    page = read(written.html)
    assert page.row("ours", column="50%") == "82.50 ± 3.54 (2)"
    assert page.row("ours", column="80%") == "62.50 ± 3.54 (2)"
    assert page.row("ours", "S+P", column="at 80%") == "+4.50 ± 0.71 (2)"
    assert page.row("ours", "S+P", column="MACs saved at the same score") == "+64%"
    assert page.row("ours", column="80%: 10 k, 68.00") == "+4.50 ± 0.71 (2)"
    assert page.row("ours", "80%", column="validation") == "63.50 ± 3.54 (2)"
    assert page.row("S+P", "80%", column="front (MACs under the mask)") == "yes"
    assert page.row("S+P", column="image passes to a ticket") == "400"
    assert page.row("S+P", column="image passes to all tickets") == "500 for 2"
    assert page.row("ours", "50%", "1", column="test top1") == "85"
    (both,) = [rows for rows in page.tables if ["ours", "-5.50 ± 0.71 (2)"] in rows]  # at the same ratio
    assert both[0] == ["method", "80%"]
    assert page.text.count("Its ticket cannot be shown") == 2  # of a run of either method, made up without one
    assert "Better in 1 of 1 comparisons at equal MACs (1 clearly), worse in 0." in page.text
    assert page.text.count("supertickets draw digits --seed 1 --prune.ratio 0.8") == 1
    assert tables_of(written.markdown.read_text()) == [plain(rows) for rows in page.tables]


def plain(rows: list[list[str]]) -> list[list[str]]:
    """Cells as Markdown writes those of the page before."""
    return [
        [f"[{cell}](#{cell})" if re.fullmatch(r"c\d+", cell) else re.sub(r"([_*~])", r"\\\1", cell) for cell in row]
        for row in rows
    ]


def test_names_are_no_markup(swept: Swept) -> None:
    names = ("<b>", "_a|b_ & $x$ $")
    written = write_report([swept({(name, 0.5, 0): 50.0 + i for i, name in enumerate(names)})])
    page = read(written.html)  # which has no element b
    for name in names:
        assert page.row(name, column="50%").endswith("(1)")
        assert name in re.sub(r"\s+", " ", page.text)
    assert "<b>" not in written.markdown.read_text()
    assert "| &lt;b&gt; |" in written.markdown.read_text()
    assert r"| \_a\|b\_ &amp; $x$ $ |" in written.markdown.read_text()


def test_one_seed_has_no_deviation(swept: Swept) -> None:
    scores = {("ours", 0.5, 0): 80.0, ("ours", 0.8, 0): 60.0, ("S+P", 0.5, 0): 70.0, ("S+P", 0.8, 0): 75.0}
    page = read(write_report([swept(scores)]).html)
    assert "±" not in page.row("ours", column="50%")
    assert "With one seed there is no deviation" in page.text
    assert page.row("ours", column="seconds") == "10"


def test_methods_without_a_ratio(swept: Swept) -> None:
    page = read(write_report([swept({("dense", 0.0, 0): 90.0, ("dense", 0.0, 1): 92.0, ("ours", 0.9, 0): 80.0})]).html)
    assert page.row("dense", column="unpruned") == "91.00 ± 1.41 (2)"
    assert page.row("dense", column="90%") == ""


def test_other_metrics_have_sections_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", scores={"miou": 40.0, "macc": 50.0}, name="streets")
    written = write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    page = read(written.html)
    assert {"digits-accuracy", "streets-miou", "commands"} <= set(page.ids)
    assert written.html.parent == tmp_path / "out"


def test_blocks_say_the_same_in_both_pages() -> None:
    blocks = [
        Heading("Title & all", 1),
        Heading("First"),
        Heading("Second"),
        Text("a < b"),
        Table(["x", "y"], [["r", "1"], [Link("s", "c1"), "2"]], "Said."),
        Fold("More", [Command("c1", "one", "run `this` ```twice```")]),
    ]
    page = render_html("Title", blocks)
    assert '<nav><a href="#first">First</a> <a href="#second">Second</a></nav>' in page
    assert "<p>a &lt; b</p>" in page
    assert '<td class="n">1</td>' in page
    assert "<summary>More</summary>" in page
    said = render_markdown(blocks, "images")
    assert "# Title &amp; all\n\n## First" in said
    assert "Said.\n\n| x | y |\n|---|---:|\n| r | 1 |\n| [s](#c1) | 2 |" in said
    assert "````\nrun `this` ```twice```\n````" in said


def test_headings_of_any_letters_have_anchors_of_their_own() -> None:
    page = Page()
    page.feed(render_html("", [Heading("улицы", 2), Heading("дома", 2), Heading("Run 1, 50%", 2)]))
    assert page.ids == ["улицы", "дома", "run-1-50"]
    assert page.links == ["#улицы", "#дома", "#run-1-50"]


def test_the_command_refuses_in_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = write_run(tmp_path / "run")
    for words, said in (
        ((tmp_path / "none",), "does not exist"),
        ((tmp_path,), "neither a run nor a sweep"),
        ((run, "--out", tmp_path / "file"), "choose another --out"),
    ):
        outcome = cli("report", *words)
        assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
        assert said in outcome.err


@pytest.mark.long
def test_a_single_run(cli: Cli, quick_run: Path, tmp_path: Path) -> None:
    """Its figures, curves, layers and units, unfolded; as JSON the command tells where."""
    run = Path(shutil.copytree(quick_run, tmp_path / "run"))
    outcome = cli("report", run, "--json")
    assert outcome.status == 0, outcome.err
    answer = json.loads(outcome.out)
    assert answer == {
        "html": f"{run}/report/report.html",
        "markdown": f"{run}/report/report.md",
        "runs": 1,
        "left_out": [],
    }
    page = read(Path(answer["html"]))
    ticket = tickets.load(run)
    assert page.row("MACs under the mask, per layer", column="") == f"{ticket.cost.masked_macs:,}"
    assert page.row("top1", column="test") == f"{ticket.about['test']['top1']:.4g}"
    layer = next(layer for layer in ticket.cost.layers if layer.weight in ticket.mask)
    assert page.row(layer.name, column="left") == f"{int(ticket.mask[layer.weight or ''].sum()):,}"
    assert f"{layer.name}: {page.row(layer.name, column='left')} of" in page.text  # the bar's title
    names = sorted(path.name for path in (run / "report" / "figures").iterdir())
    assert names == [f"r1-1-{what}.png" for what in ("layers", "loss", "score", "size", "units")]
    for name in names:
        assert f"(figures/{name})" in Path(answer["markdown"]).read_text()
        with Image.open(run / "report" / "figures" / name) as image:
            assert image.width > 500
    again = cli("report", run)  # the report in its directory makes a run no other
    assert (again.status, again.err) == (0, "")


@pytest.mark.long
def test_a_sweep_from_end_to_end(cli: Cli, finished_sweep: Path, tmp_path: Path) -> None:
    outcome = cli("report", finished_sweep, "--out", tmp_path)
    assert (outcome.status, outcome.err) == (0, "")
    page = read(tmp_path / "report.html")
    with (finished_sweep / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["method"] for row in rows] == ["two-in-one", "S+P", "S+P + retrain"]
    for row in rows:
        assert page.row(row["method"], column="50%") == f"{float(row['test_top1']):.2f} (1)"
        assert page.row(row["method"], column="image passes to a ticket") == f"{int(row['samples']):,}"
        assert f"--out {finished_sweep}/{row['key']}" in page.text
    assert "two-in-one, 50%, seed 0: test accuracy" in page.text
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
