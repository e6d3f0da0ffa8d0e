"""Give damaged and odd files to everything that reads them: ``python benchmarks/fuzz.py recipe ticket --inputs 10000``.

Every input has to be read, or to be refused in one UserError of one line, within 10 seconds and 1 GB, and nothing may
be written outside its folder, run or sent. Inputs are read in forked processes, many by each; if one dies, its input is
known and the next process goes on behind it. A number makes an input again: ``fuzz.py recipe --first 4711 --inputs 1``.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fuzz_data import Parser
from fuzz_parsers import PARSERS
from supertickets import UserError

SECONDS, MEMORY = 10, 10**9  # of one input; the seconds are those of its process, others may want the same cores
_PATIENCE = 300  # seconds after which a process that waits counts as hung
_SHOWN = 40  # faults of a parser that are printed
_BATCH = 5000  # inputs of one process
_ADDRESSES = 2 * 10**9  # bytes of addresses beyond those that a process begins with; not all of them become memory
_STATE = struct.Struct("qqqddq")  # number of the input, read, refused, slowest s, its number, peak bytes
_WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
_ACTIONS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.bind")


@dataclass
class Tally:
    """The outcomes of the inputs of a parser.

    Attributes:
        parser: Its name.
        inputs: Number of inputs.
        read: Those that were read.
        refused: Those that were refused in one line.
        slowest: Longest time of one, in s of its process.
        slowest_input: Its number.
        peak: Most memory of a process beyond what it began with, in MB.
        cpu: Processor time of all, making them included, in s.
        faults: All others, a line each.
    """

    parser: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    slowest_input: int = 0
    peak: float = 0.0
    cpu: float = 0.0
    faults: list[str] = field(default_factory=list)


class Watch:
    """Notice what a reader does that no reader should; a hook of Python's, which cannot be taken out again.

    Args:
        folder: Folder of the inputs, in which files may be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder) + os.sep
        self.noticed: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _ACTIONS:
            self.noticed.append(f"{event} {arguments!r}"[:200])
        elif event in _WRITES or (event == "open" and _opens_to_write(arguments[2])):
            place = arguments[0]
            if isinstance(place, str | bytes) and not self._is_inside(os.fsdecode(place)):
                self.noticed.append(f"{event} {place!r}"[:200])

    def _is_inside(self, place: str) -> bool:
        return place == os.devnull or os.path.realpath(place).startswith(self.folder)


def _opens_to_write(flags: int | None) -> bool:
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def write_input(parser: Parser, folder: Path, seed: int, number: int) -> Path:
    """Write the input of a number into a folder; return its path."""
    return parser.write(random.Random(f"{parser.name} {seed} {number}"), folder)


def read_input(parser: Parser, path: Path) -> tuple[str, str]:
    """Read an input; return "read", "refused", or "fault", and the message or the fault's description."""
    try:
        parser.read(path)
    except UserError as error:
        text = str(error)
        if len(text.splitlines()) == 1 and len(text) < 20_000:
            return "refused", text
        return "fault", f"a message of {len(text.splitlines())} lines, {len(text)} characters: {text[:200]!r}"
    except Exception:
        return "fault", " | ".join(line.strip() for line in traceback.format_exc(limit=-2).splitlines()[-5:])[:600]
    return "read", ""


def _read_batch(parser: Parser, folder: Path, seed: int, numbers: range, state: mmap.mmap, report: int) -> None:
    """Read inputs one after the other, in a process of their own."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    if parser.bounded:
        resource.setrlimit(resource.RLIMIT_AS, (pages * mmap.PAGESIZE + _ADDRESSES,) * 2)
    os.environ["XDG_CACHE_HOME"] = str(folder)  # what is kept there may be written
    watch, begin = Watch(folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read, refused, slowest, slowest_at, peak = 0, 0, 0.0, 0, 0
    for number in numbers:
        state[:] = _STATE.pack(number, read, refused, slowest, slowest_at, peak)
        path = write_input(parser, folder, seed, number)
        watch.noticed.clear()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends the process
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
        start = time.process_time()
        end, text = read_input(parser, path)
        taken = time.process_time() - start
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin)
        read, refused = read + (end == "read"), refused + (end == "refused")
        slowest, slowest_at = max((slowest, slowest_at), (taken, number))
        faults = [text] if end == "fault" else []
        faults += [f"does {what}" for what in watch.noticed]
        if grown > MEMORY >= peak:
            faults.append(f"memory: {grown // 10**6} MB")
        peak = max(peak, grown)
        for fault in faults:
            os.write(report, f"input {number}: {fault}\n".encode("utf-8", "backslashreplace"))
    for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
        signal.setitimer(timer, 0)
    state[:] = _STATE.pack(numbers.stop, read, refused, slowest, slowest_at, peak)


def _fork(work: Callable[[], None]) -> int:
    """Return the status of a process that does some work and says nothing."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        work()
        status = 0
    finally:
        os._exit(status)


def fuzz(parser: Parser, seed: int, first: int, count: int) -> Tally:
    """Return what became of inputs of a parser.

    Args:
        parser: The parser.
        seed: Number that makes all inputs others.
        first: Number of the first input.
        count: Number of inputs.
    """
    tally, end, begin = Tally(parser.name, inputs=count), first + count, _used_time()
    with tempfile.TemporaryDirectory() as root, mmap.mmap(-1, _STATE.size) as state:
        folder, faults = Path(root) / "inputs", Path(root) / "faults"
        while first < end:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            numbers = range(first, min(end, first + min(_BATCH, parser.batch)))
            report = os.open(faults, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            status = _fork(lambda: _read_batch(parser, folder, seed, numbers, state, report))  # noqa: B023
            os.close(report)
            at, read, refused, slowest, slowest_at, peak = _STATE.unpack(state[:])
            tally.read, tally.refused = tally.read + read, tally.refused + refused
            tally.peak = max(tally.peak, peak / 10**6)
            tally.slowest, tally.slowest_input = max(
                (tally.slowest, tally.slowest_input), (round(slowest, 3), int(slowest_at))
            )
            if at < numbers.stop:
                tally.faults.append(f"input {at}: the process ended: {_name_end(status)}")
            first = min(numbers.stop, at + 1)
        tally.faults += faults.read_text(errors="replace").splitlines()
        if strange := {place.name for place in Path(root).iterdir()} - {"inputs", "faults"}:
            tally.faults.append(f"written outside: {sorted(strange)}")
    tally.cpu = _used_time() - begin
    return tally


def _used_time() -> float:
    """Return the processor time of the processes that have ended, in s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _name_end(status: int) -> str:
    number = os.waitstatus_to_exitcode(status)
    if number in (-signal.SIGALRM, -signal.SIGPROF):
        return "a hang" if number == -signal.SIGALRM else f"more than {SECONDS} s"
    return signal.Signals(-number).name if number < 0 else f"status {number}"


def print_table(tallies: Sequence[Tally]) -> None:
    """Print a row per parser, as Markdown."""
    head = ("parser", "inputs", "read", "refused", "faults", "slowest", "peak", "CPU")
    print(f"| {' | '.join(head)} |", "|---" * len(head) + "|", sep="\n")
    for tally in tallies:
        print(
            f"| {tally.parser} | {tally.inputs:,} | {tally.read:,} | {tally.refused:,} | {len(tally.faults)} | "
            f"{tally.slowest:.2f} s | {tally.peak:.0f} MB | {tally.cpu:.0f} s |"
        )


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz parsers, print faults and a table; the status is 1 if there are faults."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("parsers", nargs="*", metavar="PARSER", help=f"default all: {', '.join(PARSERS)}")
    arguments.add_argument("--inputs", type=int, default=1000, help="inputs per parser (default: 1000)")
    arguments.add_argument("--seed", type=int, default=0, help="other inputs (default: 0)")
    arguments.add_argument("--first", type=int, default=0, help="number of the first input (default: 0)")
    arguments.add_argument("--minutes", type=float, help="time per parser, after which no more inputs are begun")
    arguments.add_argument("--show", action="store_true", help="print what became of every input, without a fork")
    arguments.add_argument("--out", type=Path, help="JSON file to write")
    options = arguments.parse_args(words)
    if unknown := set(options.parsers) - set(PARSERS):
        arguments.error(f"unknown parser {sorted(unknown)[0]}; take some of {', '.join(PARSERS)}")
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    torch.set_num_threads(1)
    tallies = []
    for name in options.parsers or PARSERS:
        parser = PARSERS[name]()
        if options.show:
            _show(parser, options)
            continue
        tallies.append(_fuzz_for(parser, options))
        print(*(f"{name} {fault}" for fault in tallies[-1].faults[:_SHOWN]), f"{name} is done", sep="\n", flush=True)
    print_table(tallies)
    if options.out:
        command = " ".join(["python", "benchmarks/fuzz.py", *sys.argv[1:]])
        options.out.write_text(json.dumps({"command": command, "rows": [asdict(t) for t in tallies]}, indent=1) + "\n")
    return int(any(tally.faults for tally in tallies))


def _fuzz_for(parser: Parser, options: argparse.Namespace) -> Tally:
    """Fuzz a parser in parts, until its inputs or its time are used up."""
    total, start = Tally(parser.name), time.monotonic()
    while total.inputs < options.inputs:
        if options.minutes is not None and time.monotonic() - start > 60 * options.minutes:
            break
        part = fuzz(
            parser, options.seed, options.first + total.inputs, min(parser.batch, options.inputs - total.inputs)
        )
        slowest = max(total, part, key=lambda tally: tally.slowest)
        total = Tally(
            parser.name,
            *(total.inputs + part.inputs, total.read + part.read, total.refused + part.refused),
            *(slowest.slowest, slowest.slowest_input, max(total.peak, part.peak)),
            *(total.cpu + part.cpu, total.faults + part.faults),
        )
    return total


def _show(parser: Parser, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.first, options.first + options.inputs):
            print(number, *read_input(parser, write_input(parser, Path(folder), options.seed, number)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
