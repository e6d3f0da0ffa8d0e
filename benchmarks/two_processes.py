"""Draw digits with two processes (gloo) and compare with the one-process runs of draw_seeds.py.

Example: cd benchmarks; python two_processes.py --against results/digits_90.json --to results/two_processes.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import supertickets as st
from supertickets.cost.latency import device_name
from supertickets.training import read_events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    one = {r["seed"]: r["test_top1"] for r in json.loads(options.against.read_text())["runs"]}
    rows = []
    for seed in options.seeds:
        out = options.runs / f"two-processes-seed{seed}"
        if not (out / "result.json").exists():
            command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "supertickets"]
            work = ["resume", str(out)] if (out / "run.json").exists() else ["draw", "digits", "--out", str(out)]
            settings = [] if work[0] == "resume" else ["--seed", str(seed), "--threads", "1"]
            subprocess.run([*command, *work, *settings], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        two = json.loads((out / "result.json").read_text())["test"]["top1"]
        # A digest is logged only after every process has shown the same one.
        agreed = sum(record["event"] == "digest" for record in read_events(out / "events.jsonl"))
        rows.append({"seed": seed, "one_process": one[seed], "two_processes": two, "epochs_with_equal_hash": agreed})
    means = {k: statistics.mean(r[k] for r in rows) for k in ("one_process", "two_processes")}
    result = {
        "device": device_name(),
        "versions": st.load(out).about["versions"],
        "test_top1_mean": means,
        "difference": means["two_processes"] - means["one_process"],
        "runs": rows,
    }
    options.to.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
