"""Kill one process of a run in mid-training, let torchrun's elastic agent start all again, and compare.

Several processes on CPU (gloo) train one run under `torchrun --max-restarts`. When the log has reached a random line,
a random one is killed by SIGKILL; the agent ends the others and starts all of them again, which resume the run. All
files must equal those of an undisturbed run with as many processes, by hash, times apart.

    python benchmarks/elastic_restart.py --processes 2 4 --kills 3 --out benchmarks/results/elastic_restart.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from interrupted_runs import CONNECTION_SEARCH, SHORT, SMALL_DRAW, differences, logged, outcome

_MORE = "--epochs 4 --data.batch 16"
_SPACE = f"""
{SHORT} --accumulate 4 --supernet.name tunas_proxyless --supernet.settings.width 0.1 --policy.images 4
--budget.params 40000 --policy.lr 0.3 --supernet.settings.statistics batch
"""
COMMANDS = {
    "draw": f"draw digits {SMALL_DRAW} {_MORE}",
    "search (TuNAS)": f"search digits {_SPACE} {_MORE}",
    "search (EAN)": f"search digits {CONNECTION_SEARCH} {_MORE} --accumulate 4",
}
_RESTARTS = 3


@dataclass(frozen=True)
class Case:
    """A command with a number of processes.

    Attributes:
        command: Name of a command.
        processes: Number of its processes.
        patience: Seconds without a line in the log after which a start counts as hung.
    """

    command: str
    processes: int
    patience: float


@dataclass(frozen=True)
class Row:
    """The outcome of a run of which a process was killed.

    Attributes:
        case: Command and number of processes.
        killed: Rank of the process that was killed.
        line: Lines of its log at that time.
        lines: Lines of the log of an undisturbed run.
        restarts: Number of times that the agent has started all processes again.
        hangs: Number of starts that hung, while gloo connected the processes; one was killed, so that all began anew.
        faults: Differences from an undisturbed run, or the end of what was said if it did not end well.
    """

    case: Case
    killed: int
    line: int
    lines: int
    restarts: int
    hangs: int
    faults: tuple[str, ...]


def launch(case: Case, out: Path) -> subprocess.Popen[bytes]:
    """Start a run under the agent: every start goes on with the run if there is one, and begins it otherwise."""
    out.mkdir()
    program, run = f"{shlex.quote(sys.executable)} -m supertickets", shlex.quote(str(out / "run"))
    line = f"""
    echo "$TORCHELASTIC_RESTART_COUNT" >> {shlex.quote(str(out / "starts"))}
    if test -f {run}/result.json; then exit; fi
    if test -f {run}/run.json; then exec {program} resume {run}; fi
    exec {program} {shlex.join(COMMANDS[case.command].split())} --out {run}
    """
    agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(case.processes)]
    with (out / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *agent, "--max-restarts", str(_RESTARTS), "--no-python", "sh", "-c", line],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def ranks(agent: int) -> dict[int, int]:
    """Return the processes of an agent, by rank."""
    processes = {}
    for process in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        for entry in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"RANK="):
                processes[int(entry[5:])] = int(process)
    return processes


def wait_for_line(agent: subprocess.Popen[bytes], out: Path, line: float, patience: float) -> int:
    """Wait until a log has some lines, or the agent has ended; return the number of starts that hung."""
    hangs, begin, seen = 0, time.monotonic(), -1
    while (lines := logged(out)) < line and agent.poll() is None:
        if lines != seen:
            begin, seen = time.monotonic(), lines
        elif time.monotonic() - begin > patience:
            for process in [*ranks(agent.pid).values()][:1]:
                os.kill(process, signal.SIGKILL)
            hangs, begin = hangs + 1, time.monotonic()
        time.sleep(0.005)
    return hangs


def run_undisturbed(case: Case, out: Path) -> tuple[dict[str, str], int]:
    """Return the outcome of a run that nobody disturbs, and the number of lines of its log.

    Raises:
        RuntimeError: It does not end well.
    """
    agent = launch(case, out)
    wait_for_line(agent, out, math.inf, case.patience)
    if agent.wait():
        raise RuntimeError((out / "log").read_text()[-2000:])
    return outcome(out), logged(out)


def kill_one(case: Case, out: Path, whole: tuple[dict[str, str], int], chance: random.Random) -> Row:
    """Kill a process at a random line of the log, wait for the end, and compare."""
    files, lines = whole
    line, rank = chance.randint(1, lines - 3), chance.randrange(case.processes)
    agent = launch(case, out)
    hangs = wait_for_line(agent, out, line, case.patience)
    at = logged(out)
    os.kill(ranks(agent.pid)[rank], signal.SIGKILL)
    hangs += wait_for_line(agent, out, math.inf, case.patience)
    status = agent.wait()
    faults = list(differences(files, outcome(out)))
    if status:
        faults.append(f"status {status}: {(out / 'log').read_text()[-1000:]}")
    restarts = max(map(int, (out / "starts").read_text().split()))
    if restarts < 1:
        faults.append("the agent has not started it again")
    return Row(case, rank, at, lines, restarts, hangs, tuple(faults))


def print_table(rows: Sequence[Row]) -> None:
    """Print a row per command and number of processes, as Markdown."""
    head = ("command", "processes", "killed", "started again", "starts that hung in gloo", "that came out differently")
    print(f"| {' | '.join(head)} |", "|---" * len(head) + "|", sep="\n")
    for case in dict.fromkeys(row.case for row in rows):
        some = [row for row in rows if row.case == case]
        again, wrong = sum(row.restarts > 0 for row in some), sum(bool(row.faults) for row in some)
        hung = sum(row.hangs for row in some)
        print(f"| {case.command} | {case.processes} | {len(some)} | {again} | {hung} | {wrong or 'none'} |")


def main() -> int:
    """Run the campaign; the exit status is 1 if a run came out differently."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4], help="Numbers of processes (default: 2 4)")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=COMMANDS, help="default: all")
    parser.add_argument("--kills", type=int, default=1, help="Killed runs of each (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the instants (default: 0)")
    parser.add_argument("--patience", type=float, default=300, help="Seconds after which a start hangs (default: 300)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    chance, rows = random.Random(options.seed), list[Row]()
    for case in (Case(*case, options.patience) for case in itertools.product(options.commands, options.processes)):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            whole = run_undisturbed(case, Path(folder) / "whole")
            for trial in range(options.kills):
                rows.append(kill_one(case, Path(folder) / f"trial-{trial}", whole, chance))
                print(*rows[-1].faults, sep="\n", file=sys.stderr, flush=True, end="\n" * bool(rows[-1].faults))
        if options.out:
            about = {"command": f"python benchmarks/elastic_restart.py {shlex.join(sys.argv[1:])}"}
            options.out.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    print_table(rows)
    return int(any(row.faults for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
