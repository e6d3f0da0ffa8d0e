"""Kill commands at random instants, go on, and compare what comes of them with what nobody interrupted.

Every run is interrupted up to six times, by SIGKILL, SIGTERM or SIGINT; then it is let finish. What it leaves must
equal an undisturbed run's by hash (times apart), with no file missing and none left over. Many kills are aimed at the
end: at what a run does behind the last line of its log (ticket, result, figure), or, without one, at its last second.

    python benchmarks/kill_campaign.py --kills 1000 --out benchmarks/results/kill_campaign.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from interrupted_runs import COMMANDS, Command, differences, go_on, is_done, logged, outcome, prepare, start, wait

_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_PIECES = 6  # kills of a run, at most
_LATE = 0.4  # share of the kills that are aimed at the end
_PATIENCE = 1800  # seconds after which a process counts as hung; others may want the same cores
_STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}


@dataclass
class Tally:
    """Figures of a campaign.

    Attributes:
        kills: Kills that met a running process, by signal.
        by_command: The same, by command.
        late: Those behind the last line of a run's log, or in its last second, as the undisturbed one took.
        runs: Runs, all finished and compared.
        faults: Differences and wrong ends, a line each.
    """

    kills: Counter[str] = field(default_factory=Counter)
    by_command: Counter[str] = field(default_factory=Counter)
    late: int = 0
    runs: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class Reference:
    """A run that nobody interrupted.

    Attributes:
        files: Its outcome.
        seconds: Time that it takes.
        tail: Time behind the last line of its log.
        lines: Lines of its log.
    """

    files: dict[str, str]
    seconds: float
    tail: float
    lines: int

    def follow(self, has_ended: bool) -> None:
        """Follow the speed of the machine: runs that end before they are killed show that it is faster now."""
        pace = 0.85 if has_ended else 1.02
        self.seconds, self.tail = self.seconds * pace, self.tail * pace


def run_undisturbed(command: Command, folder: Path, base: Path) -> Reference:
    """Run a command from beginning to end.

    Raises:
        RuntimeError: It does not end well.
    """
    (folder / "run").parent.mkdir(parents=True)
    begin = time.time()
    if wait(start(command.begin(folder, base), folder / "log")):
        raise RuntimeError((folder / "log").read_text())
    end, lines = time.time(), logged(folder)
    tail = end - (folder / "run" / "events.jsonl").stat().st_mtime if lines else 1
    return Reference(outcome(folder), end - begin, tail, lines)


def wait_for_instant(
    process: int, out: Path, reference: Reference, left: float, chance: random.Random
) -> tuple[int | None, bool]:
    """Wait for a random instant of a process that has some seconds left.

    Returns:
        Exit status, None if it goes on; whether the instant is one at the end of its run.
    """
    if chance.random() >= _LATE:
        delay = chance.uniform(0, left)
        return wait(process, delay), not reference.lines and left - delay < 1
    if not reference.lines:
        return wait(process, chance.uniform(max(0.0, left - 1), left)), True
    status = wait(process, _PATIENCE, lambda: logged(out) >= reference.lines)
    return (status if status is not None else wait(process, chance.uniform(0, reference.tail))), True


def interrupt(
    command: Command, out: Path, base: Path, reference: Reference, chance: random.Random, tally: Tally
) -> None:
    """Interrupt a run several times, let it finish, and compare it."""
    out.mkdir()
    log, worked = out / "log", 0.0
    for _ in range(chance.randint(1, _PIECES)):
        left = max(0.4 * reference.seconds, reference.seconds - worked)
        process, number = start(go_on(command, out, base), log), chance.choice(_SIGNALS)
        begin = time.monotonic()
        status, is_late = wait_for_instant(process, out, reference, left, chance)
        reference.follow(has_ended=status is not None)
        if status is None:
            os.kill(process, number)
            tally.kills[signal.Signals(number).name] += 1
            tally.by_command[command.name] += 1
            tally.late += is_late
            status = wait(process, _PATIENCE)
            if status not in (-number, _STATUS.get(number), 0):
                end = "\n".join(log.read_text().splitlines()[-3:]) if log.exists() else ""
                tally.faults.append(f"{command.name}: status {status} after {signal.Signals(number).name}: {end}")
        elif status:
            tally.faults.append(f"{command.name}: status {status} by itself: {log.read_text()[-500:]}")
        worked += time.monotonic() - begin
        if is_done(command, out):
            break
    if command.name == "sweep" or not is_done(command, out):
        status = wait(start(go_on(command, out, base), log), _PATIENCE)
        if status != 0:
            tally.faults.append(f"{command.name}: status {status} at the end: {log.read_text()[-500:]}")
    tally.runs += 1
    tally.faults += [f"{command.name}: {line} ({out})" for line in differences(reference.files, outcome(out))]


def run_campaign(options: argparse.Namespace, commands: tuple[Command, ...], folder: Path) -> dict[str, Any]:
    """Interrupt runs until a number of kills has met a process; figures are written after every run.

    Returns:
        The figures.
    """
    chance, tally, base, begin = random.Random(options.seed), Tally(), folder / "base", time.monotonic()
    prepare(base)
    references = {one.name: run_undisturbed(one, folder / f"whole-{i}", base) for i, one in enumerate(commands)}
    while True:
        (command,) = chance.choices(commands, [one.weight for one in commands])
        out, before = folder / f"trial-{tally.runs}", len(tally.faults)
        interrupt(command, out, base, references[command.name], chance, tally)
        if len(tally.faults) == before:
            shutil.rmtree(out)
        print(*tally.faults[before:], sep="\n", end="\n" * (len(tally.faults) > before), file=sys.stderr, flush=True)
        result = {
            "command": f"python benchmarks/kill_campaign.py {shlex.join(sys.argv[1:])}",
            "kills": dict(tally.kills),
            "kills_by_command": dict(tally.by_command),
            "kills_at_the_end": tally.late,
            "runs": tally.runs,
            "faults": tally.faults,
            "seconds": round(time.monotonic() - begin),
        }
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n")
        if sum(tally.kills.values()) >= options.kills:
            return result


def main() -> int:
    """Run a campaign, and print or write its figures; the exit status is 1 if a run came out differently."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="Kills that meet a running process (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the instants (default: 0)")
    parser.add_argument("--commands", nargs="+", help="Names of commands (default: all)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    commands = tuple(one for one in COMMANDS if options.commands is None or one.name in options.commands)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        result = run_campaign(options, commands, Path(folder))
    print(json.dumps(result, indent=1))
    return bool(result["faults"])


if __name__ == "__main__":
    raise SystemExit(main())
