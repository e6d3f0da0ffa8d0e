"""Commands as processes that begin at once, and what they leave: for campaigns that interrupt them.

The calling process imports everything and computes nothing, so that its forks may, and so that a fork costs little.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import multiprocessing.util
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.backends.backend_agg  # noqa: F401  # what runs import late: the figure and the digits
import sklearn.datasets  # noqa: F401
import yaml

import supertickets.data.digits
import supertickets.deploy
import supertickets.runs.api
import supertickets.sweeps.engines
import supertickets.sweeps.work
import supertickets.visualization.run_overview  # noqa: F401
from supertickets.cli.main import main

# A draw of two epochs of four steps that removes units and prunes; a checkpoint after every step.
_NET = """
--supernet.settings.channels [[6]] --supernet.settings.blocks [[1]] --supernet.settings.kernels [3,5]
--supernet.settings.stem_channels [6,6] --supernet.settings.head_channels [8] --supernet.settings.last_channels 24
--supernet.settings.expansion 1 --supernet.settings.tokens 3 --supernet.settings.grid 3
"""
SHORT = """
--threads 1 --epochs 2 --evaluate_every 2 --recalibrate_batches 1 --data.limit 256 --data.batch 64
--data.validation 0.5 --lr.warmup_epochs 0 --checkpoint_seconds 0
"""
SMALL_DRAW = f"""
{_NET} {SHORT} --ema_decay 0.9 --search.interval 1 --search.last_epoch 1 --search.warmup_epochs 0
--search.threshold 0.7 --search.rho 1 --prune.progressive false --prune.interval 1 --prune.exempt_below 0
--prune.ratio 0.5
"""
CONNECTION_SEARCH = f"""
{SHORT} --accumulate 2 --supernet.name resnet38 --supernet.settings.attention se
--supernet.settings.widths [4,4,8] --supernet.settings.ratio 4 --connect.steps 4
"""
TIMES = ("seconds",)  # what differs between equal runs
_UNCOMPARED = (".lock", ".worker", ".sweep", "checkpoint.safetensors", "log.txt", "worker.json", "measured.json")


@dataclass(frozen=True)
class Command:
    """A command that a campaign interrupts.

    Attributes:
        name: Its name.
        begin: Words that begin it, given a directory to write and the directory of what it starts from.
        resumes: Whether ``resume`` goes on; else the same words do.
        product: What it leaves in its directory when it is done.
        weight: Relative number of its runs; those that take long have less.
    """

    name: str
    begin: Callable[[Path, Path], list[str]]
    resumes: bool = True
    product: str = "figure.png"
    weight: float = 1.0


def _on_ticket(word: str, *more: str) -> Callable[[Path, Path], list[str]]:
    return lambda out, base: [word, str(base / "ticket"), *more, "--out", str(out / "run")]


COMMANDS = (
    Command("draw", lambda out, base: ["draw", "digits", "--out", str(out / "run"), *SMALL_DRAW.split()], weight=3),
    Command(
        "draw with loader processes",
        lambda out, base: ["draw", "digits", "--out", str(out / "run"), *SMALL_DRAW.split(), "--data.workers", "2"],
    ),
    Command(
        "search",
        lambda out, base: ["search", "digits", "--out", str(out / "run"), *CONNECTION_SEARCH.split()],
        weight=2,
    ),
    Command("retrain", _on_ticket("retrain", "--epochs", "2", "--checkpoint_seconds", "0"), weight=2),
    Command("transfer", _on_ticket("transfer", "digits", *SHORT.split()), weight=2),
    Command(
        "sweep",
        lambda out, base: ["sweep", str(base / "sweep.yaml"), "--out", str(out / "run")],
        resumes=False,
        product="results.csv",
        weight=0.3,
    ),
    Command(
        "export",
        lambda out, base: ["export", str(base / "ticket"), "--out", str(out / "run" / "model.onnx")],
        resumes=False,
        product="model.onnx",
        weight=0.5,
    ),
)


def prepare(base: Path) -> None:
    """Make what commands start from: a run with a ticket, and a sweep.

    Raises:
        RuntimeError: The draw does not end well.
    """
    words = COMMANDS[0].begin(base, base)
    status = wait(start([*words[:2], "--out", str(base), *words[4:]], base.parent / "base.log"))
    if status:
        raise RuntimeError((base.parent / "base.log").read_text())
    gc.freeze()  # so that forks share what was imported
    pairs = zip(SMALL_DRAW.split()[::2], SMALL_DRAW.split()[1::2], strict=True)
    settings = {name[2:]: yaml.safe_load(value) for name, value in pairs if name != "--prune.ratio"}
    sweep = {"recipe": "digits", "settings": settings, "ratios": [0.5, 0.6], "methods": {"two-in-one": {}}}
    (base / "sweep.yaml").write_text(yaml.safe_dump(sweep))


def start(words: Sequence[str], log: Path) -> int:
    """Start a command in a fork of this process, in a session of its own; its output goes to the end of a file.

    Returns:
        Number of the process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for place in (1, 2):
            os.dup2(file, place)
        status = main(words)
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            multiprocessing.util._exit_function()  # type: ignore[attr-defined]  # ends loader processes
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(process: int, seconds: float | None = None, until: Callable[[], bool] = lambda: False) -> int | None:
    """Wait for the end of a process.

    Returns:
        Exit status, negative for a signal; None if it goes on after some seconds, or when something has come true.
    """
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, 0 if end is None else os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if end is not None and (time.monotonic() >= end or until()):
            return None
        time.sleep(0.002)


def go_on(command: Command, out: Path, base: Path) -> list[str]:
    """Return the words that a person would give now: ``resume`` if there is something to resume, else the same."""
    run = out / "run"
    if command.resumes and (run / "run.json").exists():
        return ["resume", str(run)]
    return command.begin(out, base)


def is_done(command: Command, out: Path) -> bool:
    """Return whether a command has left its product."""
    return (out / "run" / command.product).exists()


def logged(out: Path) -> int:
    """Return the number of lines of the log of a command's run; 0 without a log."""
    log = out / "run" / "events.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def outcome(out: Path) -> dict[str, str]:
    """Return a hash of every file that a command has left, without times; files that may differ have only a name."""
    files = (path for path in sorted((out / "run").rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): _hash(path, out) for path in files}


def _hash(path: Path, out: Path) -> str:
    if path.name in _UNCOMPARED:
        return ""
    data = path.read_bytes().replace(str(out).encode(), b"OUT")
    with contextlib.suppress(ValueError):  # damaged ones differ as they are
        if path.name == "events.jsonl":
            data = json.dumps([_timeless(json.loads(line)) for line in data.splitlines()]).encode()
        elif path.suffix == ".json":
            data = json.dumps(_timeless(json.loads(data))).encode()
    if path.suffix == ".csv":
        return ""  # of a sweep: seconds; its tickets are compared
    return hashlib.sha256(data).hexdigest()


def _timeless(data: Any) -> Any:
    return {name: value for name, value in data.items() if name not in TIMES} if isinstance(data, dict) else data


def differences(one: dict[str, str], other: dict[str, str]) -> Iterator[str]:
    """Yield what differs between two outcomes, a line each."""
    for name in sorted(one.keys() | other.keys()):
        if name not in other:
            yield f"{name} is missing"
        elif name not in one:
            yield f"{name} is left over"
        elif one[name] != other[name]:
            yield f"{name} differs"
