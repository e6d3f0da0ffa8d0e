"""A report on runs and sweeps: one HTML file that needs nothing else, and the same as Markdown with figures."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..plugins import trusted
from ..storage import check_writable, write_text
from .collect import collect
from .page import list_figures, render_html, render_markdown
from .sections import build_page
from .ticket_latencies import load_latencies, measure_latencies, with_latency

__all__ = ["WrittenReport", "write_report"]
_HTML, _MARKDOWN, _FIGURES, _LATENCY = "report.html", "report.md", "figures", "latency.json"


@dataclass(frozen=True)
class WrittenReport:
    """Files of a report, and the runs in it.

    Attributes:
        html: Page that needs no other file.
        markdown: Page in Markdown, with its figures in ``figures`` beside it.
        runs: Number of runs in it.
        left_out: Reasons why other runs are missing, a line each.
    """

    html: Path
    markdown: Path
    runs: int
    left_out: tuple[str, ...]


def write_report(
    sources: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    latency: bool = False,
    trust: Iterable[str] = (),
) -> WrittenReport:
    """Write a report.

    Args:
        sources: Directories of runs and of sweeps, or one of them.
        out: Folder of the report; default ``report`` in the first of them.
        latency: Whether every ticket is timed on this device; times are kept in ``latency.json`` beside the report,
            and read from there the next time.
        trust: Modules of user code that may be imported if a run or a ticket names them. A run whose task is not
            trusted is left out; a ticket whose network is not is not shown.

    Raises:
        UserError: A directory is neither run nor sweep, nothing is finished, or the report cannot be written.
    """
    trust = trusted(trust)
    sources = [sources] if isinstance(sources, str | Path) else list(sources)
    folder = Path(out) if out is not None else Path(sources[0]) / "report"
    check_writable(folder)
    study = collect([Path(source) for source in sources], trust)
    try:
        (folder / _FIGURES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); choose another --out") from None
    if latency:
        measure_latencies(study.runs, folder / _LATENCY, trust)
    measured = load_latencies(folder / _LATENCY)
    if measured is not None:
        study = with_latency(study, measured)
    words = ["supertickets", "report", *map(str, sources), *(["--out", str(out)] if out is not None else [])]
    words += [*(["--latency"] if latency else []), *(word for module in trust for word in ("--trust", module))]
    title, blocks = build_page(study, shlex.join(words), measured, trust)
    try:
        for drawing in list_figures(blocks):
            drawing.write_png(folder / _FIGURES / f"{drawing.name}.png")
        write_text(folder / _HTML, render_html(title, blocks))
        write_text(folder / _MARKDOWN, render_markdown(blocks, _FIGURES))
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); choose another --out") from None
    return WrittenReport(folder / _HTML, folder / _MARKDOWN, len(study.runs), study.left_out)
