"""Cut the power under a run at random instants: what was not yet on the disk is lost; then go on, and compare.

A run works on an ext4 file system of its own (an image, mounted through a loop device). At a random instant the file
system is shut down without writing anything more, as xfstests does (the ioctl EXT4_IOC_SHUTDOWN with NOLOGFLUSH): the
image then holds what a disk would hold behind a power cut. It is mounted again, which replays its journal. Half of the
images have ext4's own help against lost renames switched off (noauto_da_alloc, data=writeback). Needs a superuser.

    sudo python benchmarks/power_cut.py --cuts 50 --out benchmarks/results/power_cut.json
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import random
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch

from interrupted_runs import COMMANDS, Command, differences, go_on, is_done, outcome, prepare, start, wait

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_NO_LOG_FLUSH = struct.pack("I", 2)
_OPTIONS = ("defaults", "noauto_da_alloc,data=writeback")
_PIECES = 3  # cuts of a run, at most


class Disk:
    """A file system in an image, whose power can be cut.

    Args:
        folder: Folder for the image and the mount point.
        options: Options of the mount.
    """

    def __init__(self, folder: Path, options: str) -> None:
        folder.mkdir()
        self.image, self.place, self.options = folder / "image", folder / "disk", options
        self.place.mkdir()
        with self.image.open("wb") as file:
            file.truncate(64 << 20)
        _call("mkfs.ext4", "-q", "-F", str(self.image))
        self.mount()

    def mount(self) -> None:
        """Mount the image; a journal is replayed."""
        _call("mount", "-o", f"loop,{self.options}", str(self.image), str(self.place))

    def unmount(self) -> None:
        """Unmount the image; processes that were killed may hold it for a moment."""
        for _ in range(100):
            if subprocess.run(["umount", self.place], capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        _call("umount", str(self.place))

    def cut_power(self) -> None:
        """Let nothing more reach the image."""
        handle = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(handle)


def _call(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@dataclass
class Tally:
    """Figures of a campaign.

    Attributes:
        cuts: Power cuts under a run at work, by command.
        finished: Power cuts right behind a command that had said that it is done.
        lost: Runs whose directory, of which a checkpoint had been written, was not there any more.
        runs: Runs, all finished and compared.
        faults: Differences and wrong ends, a line each.
    """

    cuts: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    lost: int = 0
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def can_mount() -> bool:
    """Return whether this process may mount images and cut their power."""
    if not shutil.which("mkfs.ext4") or os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(subprocess.CalledProcessError, OSError):
        disk = Disk(Path(folder) / "probe", _OPTIONS[1])
        try:
            disk.cut_power()
            return True
        finally:
            disk.unmount()
    return False


def cut(disk: Disk, command: Command, base: Path, seconds: float, chance: random.Random, tally: Tally) -> None:
    """Cut the power under a command, or right behind its end, and mount the disk again."""
    log = disk.image.parent / "log"
    process = start(go_on(command, disk.place, base), log)
    had_begun = (disk.place / "run" / "run.json").exists()
    status = wait(process, chance.uniform(0.3 * seconds, 1.1 * seconds))
    had_begun = had_begun or (disk.place / "run" / "run.json").exists()
    disk.cut_power()
    if status is None:
        os.kill(process, signal.SIGKILL)
        wait(process)
        tally.cuts[command.name] += 1
    else:
        tally.finished += 1
        if status:
            tally.faults.append(f"{command.name}: status {status}: {log.read_text()[-500:]}")
    disk.unmount()
    disk.mount()
    if status == 0 and not is_done(command, disk.place):
        tally.faults.append(f"{command.name}: it had said that it is done, and is not")
    if had_begun and command.resumes and not (disk.place / "run" / "run.json").exists():
        tally.lost += 1


def run_campaign(cuts: int, seed: int, commands: tuple[Command, ...], folder: Path) -> Tally:
    """Cut the power until it has met a number of running commands."""
    chance, tally, base = random.Random(seed), Tally(), folder / "base"
    prepare(base)
    references: dict[str, tuple[dict[str, str], float]] = {}
    trial = 0
    while sum(tally.cuts.values()) < cuts:
        (command,) = chance.choices(commands, [one.weight for one in commands])
        disk = Disk(folder / f"trial-{trial}", _OPTIONS[trial % len(_OPTIONS)])
        try:
            if command.name not in references:
                begin = time.monotonic()
                if status := wait(start(command.begin(disk.place, base), folder / "log")):
                    raise RuntimeError(f"status {status}: {(folder / 'log').read_text()}")
                references[command.name] = outcome(disk.place), time.monotonic() - begin
                shutil.rmtree(disk.place / "run")
            files, seconds = references[command.name]
            for _ in range(chance.randint(1, _PIECES)):
                if not is_done(command, disk.place):
                    cut(disk, command, base, seconds, chance, tally)
            if not is_done(command, disk.place):
                status = wait(start(go_on(command, disk.place, base), disk.image.parent / "log"))
                if status:
                    end = (disk.image.parent / "log").read_text()[-500:]
                    tally.faults.append(f"{command.name}: status {status} at the end: {end}")
            tally.runs += 1
            tally.faults += [f"{command.name}: {one}" for one in differences(files, outcome(disk.place))]
        finally:
            disk.unmount()
            shutil.rmtree(disk.image.parent)
        trial += 1
    return tally


def main() -> int:
    """Run a campaign, and print or write its figures; the exit status is 1 if a run came out differently."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=50, help="Power cuts under a run at work (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the instants (default: 0)")
    parser.add_argument("--commands", nargs="+", default=["draw", "retrain", "transfer", "search"], help="Commands")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    if not can_mount():
        parser.error("this process may not mount images; start it as a superuser, where ext4 and loop devices are")
    torch.set_num_threads(1)
    commands = tuple(one for one in COMMANDS if one.name in options.commands)
    with tempfile.TemporaryDirectory() as folder:
        tally = run_campaign(options.cuts, options.seed, commands, Path(folder))
    result = {
        "command": f"python benchmarks/power_cut.py {shlex.join(sys.argv[1:])}",
        "cuts": dict(tally.cuts),
        "cuts_behind_the_end": tally.finished,
        "runs": tally.runs,
        "runs_lost": tally.lost,
        "faults": tally.faults,
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return bool(tally.faults)


if __name__ == "__main__":
    raise SystemExit(main())
