"""Benchmark one ticket beside what it came from and beside ordinary networks, and say how to deploy it."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ..device import preserve_random_state
from ..errors import UserError
from ..runs.evaluate import load_ticket_data
from ..ticket import Ticket
from .benchmark import Bench, BenchSettings, measure
from .compaction import compact, count_removed
from .int8 import calibration_images
from .references import nearest_references, reference_twins
from .runtimes import RUNTIMES, DeployForms, Images

TICKET, AS_TRAINED = "ticket", "ticket, not compacted"
_CALIBRATION_IMAGES = 32  # for latencies, which hardly depend on them
_QUICK_REPEATS = 15


@dataclass(frozen=True)
class Advice:
    """The form in which a ticket is the fastest here, without a change of its scores.

    Attributes:
        runtime: The runtime.
        median_ms: Its latency in the first run.
        command: Command that writes the file; empty if none is needed.
        python: Expression that runs it.
    """

    runtime: str
    median_ms: float
    command: str
    python: str


@preserve_random_state(torch.device("cpu"))
def bench_ticket(
    ticket: Ticket,
    settings: BenchSettings | None = None,
    *,
    against: Mapping[str, Ticket] | None = None,
    data_dir: str | None = None,
) -> Bench:
    """Time a ticket beside its dense supernet, itself before compaction if that differs, and ordinary networks.

    Args:
        ticket: The ticket.
        settings: What to time; one image on one thread if there are none.
        against: Tickets to time in place of supernet and ordinary networks, by name.
        data_dir: Folder with images of the ticket's data to calibrate 8-bit integers on; if there is none, those of
            its recipe if they are still there, else random ones.

    Raises:
        UserError: ``data_dir`` does not hold the ticket's data.
    """
    settings = settings or BenchSettings()
    notes: list[str] = []
    calibration = _find_calibration(ticket, settings, data_dir, notes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = {TICKET: DeployForms(ticket, folder, calibration=calibration)}
        if count_removed(ticket, compact(ticket)):
            own = {AS_TRAINED: DeployForms(ticket, folder, compacted=False, calibration=calibration)} | own
        make = partial(DeployForms, folder=folder, calibration=calibration)
        ordinary: dict[str, DeployForms] = {}
        if against is None:
            quick = _fastest_ms(own[TICKET], settings)
            ordinary = {} if quick is None else nearest_references(ticket, quick, make)
        former = reference_twins(ticket) if against is None else against
        if ordinary:
            notes.append("untrained: ordinary networks of random weights, in the width nearest to the ticket's latency")
        before = {title: make(other) for title, other in former.items()}
        behind = {f"{title} untrained": forms for title, forms in ordinary.items()}
        return measure({**before, **own, **behind}, settings, notes)


def _fastest_ms(form: DeployForms, settings: BenchSettings) -> float | None:
    """Return the latency of a ticket in its fastest runtime, in ms; None if none of them runs it."""
    exact = tuple(runtime.name for runtime in settings.chosen() if runtime.exact)
    if not exact:
        return None
    quick = measure({TICKET: form}, BenchSettings(repeats=_QUICK_REPEATS, runtimes=exact)).runs[0]
    fastest = quick.fastest_runtime(TICKET)
    return None if fastest is None else quick.latencies[f"{TICKET}/{fastest}"].low_ms


def advise(bench: Bench, ticket: Ticket, path: str) -> Advice | None:
    """Return the form in which to deploy a ticket by the first run of its benchmark; None if no runtime ran it.

    Args:
        bench: The benchmark.
        ticket: The ticket.
        path: Folder of the ticket.
    """
    run = bench.runs[0]
    name = run.fastest_runtime(TICKET)
    if name is None:
        return None
    runtime = RUNTIMES[name]
    file = Path(path) / f"model{runtime.suffix}"
    fixed = " --fixed" if ticket.task.any_size and runtime.export_words else ""
    words = f"supertickets export {shlex.quote(path)} {runtime.export_words}{fixed} --out {shlex.quote(str(file))}"
    command = words if runtime.export_words else ""
    python = runtime.snippet.format(file=file, ticket=path)
    return Advice(name, run.latencies[f"{TICKET}/{name}"].median_ms, command, python)


def _find_calibration(
    ticket: Ticket, settings: BenchSettings, data_dir: str | None, notes: list[str]
) -> tuple[Images, ...]:
    if all(runtime.exact for runtime in settings.chosen()):
        return ()
    images: tuple[Images, ...] = ()
    try:
        images = tuple(calibration_images(load_ticket_data(ticket, data_dir), _CALIBRATION_IMAGES))
    except (UserError, KeyError, OSError):
        if data_dir is not None:
            raise
    kind = "training images" if images else "random images, since the ticket's data is not there (--data)"
    notes.append(f"int8: latency alone, calibrated on {kind}; export --int8 measures what it costs")
    return images
