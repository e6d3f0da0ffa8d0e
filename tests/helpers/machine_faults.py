"""Let a draw meet real faults of the machine, and go on; prints what happened as JSON.

A process of its own, whose forks begin at once: see `interrupted_runs`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from interrupted_runs import COMMANDS, differences, outcome, start, wait

_WORDS = ("--data.batch", "32")
Limit = Callable[[], None]


def run(words: list[str], log: Path, limit: Limit | None = None, meanwhile: Callable[[int], None] | None = None) -> Any:
    """Run a command under a limit; return its status and the lines that it has said."""
    log.unlink(missing_ok=True)
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_AS)}
    if limit is not None:
        limit()
    process = start(words, log)
    for kind, values in before.items():
        resource.setrlimit(kind, values)
    if meanwhile is not None:
        meanwhile(process)
    status = wait(process, 120)
    lines = log.read_text().splitlines()
    return {"status": status, "last": lines[-1] if lines else "", "traceback": any("Traceback" in one for one in lines)}


def draw(out: Path, *more: str) -> list[str]:
    """Return the words of a draw of a second or two."""
    return [*COMMANDS[0].begin(out, out), *_WORDS, *more]


def wait_for(path: Path, process: int) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.002)


def at_most(kind: int, size: int) -> Limit:
    """Return a function that limits this process's forks."""
    return lambda: resource.setrlimit(kind, (size, resource.getrlimit(kind)[1]))


def used_memory() -> int:
    """Return the bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def begun(folder: Path) -> Path:
    """Begin a draw and stop it by SIGTERM."""
    folder.mkdir()
    run(draw(folder), folder / "log", meanwhile=lambda process: stop(folder, process, signal.SIGTERM))
    return folder / "run"


def stop(folder: Path, process: int, number: int) -> None:
    """Send a signal to a run that has just begun."""
    wait_for(folder / "run" / "run.json", process)
    os.kill(process, number)


def resumed(folder: Path, reference: dict[str, str]) -> dict[str, Any]:
    """Resume a run, and return how it ended and what differs from an undisturbed one."""
    ended = run(["resume", str(folder / "run")], folder / "log")
    return {"resumed": ended, "differences": list(differences(reference, outcome(folder)))}


def limits(folder: Path, reference: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Resume under limits that are too low."""
    for name, limit in (
        ("file size", at_most(resource.RLIMIT_FSIZE, 20_000)),
        ("memory", at_most(resource.RLIMIT_AS, used_memory() + (8 << 20))),
    ):
        place = folder / name.replace(" ", "-")
        checkpoint = begun(place) / "checkpoint.safetensors"
        before = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        ended = run(["resume", str(place / "run")], place / "log", limit)
        same = hashlib.sha256(checkpoint.read_bytes()).hexdigest() == before
        yield name, {"ended": ended, "checkpoint is the old one": same, **resumed(place, reference)}


def undisturbed(folder: Path, *more: str) -> dict[str, str]:
    """Return what a draw leaves that nobody disturbs."""
    folder.mkdir()
    run(draw(folder, *more), folder / "log")
    return outcome(folder)


def lost_worker(folder: Path) -> dict[str, Any]:
    """Kill a loader process; then resume."""
    words, place = ("--data.workers", "1"), folder / "worker"
    reference = undisturbed(folder / "whole-worker", *words)
    place.mkdir()

    def kill_worker(process: int) -> None:
        wait_for(place / "run" / "run.json", process)
        children: list[str] = []
        while not children:
            with contextlib.suppress(FileNotFoundError):
                children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)

    ended = run(draw(place, *words), place / "log", meanwhile=kill_worker)
    return {"ended": ended, **resumed(place, reference)}


def vanished(folder: Path, reference: dict[str, str]) -> dict[str, Any]:
    """Move the directory of a run away while it is at work; then put it back."""
    place = folder / "vanished"
    place.mkdir()

    def remove(process: int) -> None:
        wait_for(place / "run" / "run.json", process)
        os.rename(place / "run", place / "gone")

    ended = run(draw(place), place / "log", meanwhile=remove)
    os.rename(place / "gone", place / "run")
    return {"ended": ended, **resumed(place, reference)}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 4 MB; needs a superuser."""
    place = folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def full_disk(place: Path, log: Path, reference: dict[str, str]) -> dict[str, Any]:
    """Fill the disk of a run while it is at work; then make room."""

    def fill(process: int) -> None:
        wait_for(place / "run" / "run.json", process)
        with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    ended = run(draw(place), log, meanwhile=fill)
    (place / "filler").unlink()
    return {"ended": ended, **resumed(place, reference)}


def read_only_disk(place: Path, log: Path, reference: dict[str, str]) -> dict[str, Any]:
    """Resume a run on a disk that has become read-only; then make it writable."""
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    ended = run(["resume", str(place / "run")], log)
    subprocess.run(["mount", "-o", "remount,rw", place], check=True)
    return {"ended": ended, **resumed(place, reference)}


def main(folder: Path) -> dict[str, Any]:
    """Let a draw meet every fault."""
    torch.set_num_threads(1)
    reference = undisturbed(folder / "whole")
    results = dict(limits(folder, reference))
    results |= {"worker": lost_worker(folder), "vanished": vanished(folder, reference)}
    with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError), small_disk(folder) as place:
        results["full disk"] = full_disk(place, folder / "log", reference)
        shutil.rmtree(place / "run")
        run(draw(place), folder / "log", meanwhile=lambda process: stop(place, process, signal.SIGTERM))
        results["read-only disk"] = read_only_disk(place, folder / "log", reference)
    return results


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), indent=1))
