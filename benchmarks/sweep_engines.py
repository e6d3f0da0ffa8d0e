"""Run one sweep on this machine and on a Ray cluster of two nodes, undisturbed and disturbed, and compare.

Example: python benchmarks/sweep_engines.py --to benchmarks/results/sweep_engines.json
"local" is the reference: processes of this machine, one at a time. "one" and "two" are workers of the cluster. In
"disturbed" one of two workers is killed in mid-run, then a node is removed while it has a job in mid-run. Every worker
has one thread. The times of "one" and "two" are compared, so the machine should be quiet until these are done. Parts
may be left out (--parts local disturbed); what an earlier call left under --runs is deleted.
"""

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from commands import command
from supertickets.cost.latency import device_name
from supertickets.runs.finalize import versions
from supertickets.sweeps.sweep import Plan, read_sweep

_NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}
_PARTS = ("one", "two", "local", "disturbed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/sweep-engines"))
    options = parser.parse_args()
    plan = read_sweep(options.sweep)
    kinds = {job.key: job.command for job in plan.jobs}
    shutil.rmtree(options.runs, ignore_errors=True)
    seconds, disturbances = {}, []
    for part in options.parts:
        out = options.runs / part
        if part == "local":
            seconds[part] = sweep(options.sweep, out, "local", 1)
            continue
        with_two_nodes = Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
        second = with_two_nodes.add_node(**_NODE)
        os.environ["RAY_ADDRESS"] = with_two_nodes.address
        if part == "disturbed":
            trained = {key for key, kind in kinds.items() if kind != "prune"}
            args = (out, trained, with_two_nodes, second, disturbances)
            threading.Thread(target=disturb, args=args, daemon=True).start()
        seconds[part] = sweep(options.sweep, out, "ray", 1 if part == "one" else 2)
        with_two_nodes.shutdown()
    rows_by_part = {part: results(options.runs / part) for part in options.parts}
    reference = "local" if "local" in rows_by_part else options.parts[0]
    result: dict[str, Any] = {
        "command": command(),
        "device": device_name(),
        "cpus": os.cpu_count(),
        "threads": 1,
        "versions": versions() | {"ray": ray.__version__},
        "results": len(plan.points),
        "jobs": len(plan.jobs),
        "seconds": {part: round(value, 1) for part, value in seconds.items() if part in ("one", "two")},
        "disturbed_by": [disturbance | {"what": kinds[disturbance["key"]]} for disturbance in disturbances],
        "went_on_from_checkpoints": {part: went_on(plan, options.runs / part) for part in options.parts},
        "jobs_done": {part: len(list((options.runs / part).glob("*/result.json"))) for part in options.parts},
        "rows": {part: len(rows) for part, rows in rows_by_part.items()},
        f"equal_to_{reference}": {part: rows == rows_by_part[reference] for part, rows in rows_by_part.items()},
    }
    if {"one", "two"} <= seconds.keys():
        result["two_workers_of_one"] = round(seconds["two"] / seconds["one"], 3)
    options.to.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def sweep(file: Path, out: Path, engine: str, workers: int) -> float:
    """Run the sweep by the command line; return its seconds."""
    words = ["sweep", str(file), "--engine", engine, "--workers", str(workers), "--threads", "1", "--out", str(out)]
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "supertickets", *words], check=True)
    return time.monotonic() - began


def results(out: Path) -> list[dict[str, str]]:
    """Return the rows of ``results.csv`` without the clock."""
    with (out / "results.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def went_on(plan: Plan, out: Path) -> list[str]:
    """Return jobs that were taken up from a checkpoint, once per time; a draw that begins at a trunk does so anyway."""
    keys = []
    for job in plan.jobs:
        times = (out / job.key / "log.txt").read_text().count("resuming")
        keys += [job.key] * (times - (job.command == "draw" and job.parent is not None))
    return keys


def disturb(out: Path, keys: set[str], cluster: Cluster, node: Any, log: list[dict[str, Any]]) -> None:
    """Kill a worker that is in mid-run of some jobs, then remove the node once it is in mid-run of one of them."""
    raylet = node.all_processes["raylet"][0].process.pid
    folder, pid = next(in_mid_run(out, keys, lambda pid: True))
    os.kill(pid, signal.SIGKILL)
    log.append({"how": "worker killed (SIGKILL)", "key": folder.name})
    folder, _ = next(in_mid_run(out, keys, lambda other: other != pid and raylet in ancestors(other)))
    cluster.remove_node(node, allow_graceful=False)
    log.append({"how": "node removed", "key": folder.name})


def in_mid_run(out: Path, keys: set[str], fits: Callable[[int], bool]) -> Iterator[tuple[Path, int]]:
    """Return the directory and process of a job that has trained an epoch and is not done."""
    while True:
        for worker in (worker for key in keys if (worker := out / key / "worker.json").exists()):
            events, pid = worker.with_name("events.jsonl"), json.loads(worker.read_text())["pid"]
            trained = events.exists() and events.stat().st_mtime > worker.stat().st_mtime
            if trained and not worker.with_name("result.json").exists() and fits(pid):
                yield worker.parent, pid
        time.sleep(0.02)


def ancestors(pid: int) -> list[int]:
    """Return the process that began another, that which began this one, and so on."""
    pids = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except FileNotFoundError:
            break
        pids.append(pid)
    return pids


if __name__ == "__main__":
    main()
