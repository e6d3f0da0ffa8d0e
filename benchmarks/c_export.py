"""Time networks exported as C beside the sparse runtime that runs from Python: ``python benchmarks/c_export.py``.

Untrained networks, zeros drawn at random; the same weights in both. One thread, one image; time is that of the thread's
processor, since machines are shared: medians of turns in which each has some calls. Memory is the peak of a process
that runs one image.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse_engine import Case, make_ticket
from supertickets.cost.latency import device_name
from supertickets.deploy import export
from supertickets.deploy.embedded import compile_program, find_compiler
from supertickets.runtime import load

RESULTS = Path(__file__).parent / "results" / "c_export.json"
_CALLS = 50
_RUN_ONCE = """
import sys
import numpy as np
from supertickets import runtime
engine = runtime.load(sys.argv[1], threads=1, fallback="never")
print(engine(np.fromfile(sys.argv[2], np.float32).reshape(1, *engine.graph.example)).ravel())
"""


def list_cases() -> list[Case]:
    """Return what is timed."""
    resnet8 = {"width": 32, "image_size": (48, 48), "num_classes": 40}
    digits = {"image_size": (32, 32), "in_channels": 1, "num_classes": 10}
    return [
        Case("HRNet for digits, 32 px", "hrnet_tiny", digits, 0.9),
        *(Case("ResNet-8 width 32, 48 px", "resnet8", resnet8, 0.85, block) for block in (1, 4, 8)),
        Case("ResNet-8 width 32, 48 px", "resnet8", resnet8, 0.0),
        Case("MobileNetV2, 224 px", "mobilenet_v2", {}, 0.85, 4),
    ]


def peak_kilobytes(command: Sequence[str | Path]) -> int:
    """Return the peak memory of a process; `time` starts it, since a child of this process would inherit its peak."""
    words = ["/usr/bin/time", "-f", "%M", *map(str, command)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stderr.splitlines()[-1])


def measure(case: Case, turns: int, folder: Path) -> dict[str, Any]:
    """Return the figures of a case."""
    ticket = make_ticket(case)
    sources = export(ticket, folder / "c", "c")
    file = export(ticket, folder / "net.sparse", "sparse", fixed=True).path
    begin = time.perf_counter()
    program = folder / "network"
    compile_program(sources.path, program)
    seconds = time.perf_counter() - begin
    engine = load(file, threads=1, fallback="never")
    images = torch.randn(1, *ticket.spec.input_shape).numpy()
    images.tofile(folder / "image")
    printed = subprocess.run([program, folder / "image"], capture_output=True, text=True, check=True).stdout
    difference = np.abs(np.array(printed.split(), np.float32) - engine(images).reshape(-1)).max()
    times: dict[str, list[float]] = {"engine": [], "c": []}
    for _ in range(turns):
        begin_ns = time.thread_time_ns()
        for _ in range(_CALLS):
            engine(images)
        times["engine"].append(1e-6 * (time.thread_time_ns() - begin_ns) / _CALLS)
        command = [program, "--time", str(_CALLS), folder / "image"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        times["c"].append(float(said.split()[0]))
    header = (sources.path / "network.h").read_text()
    sizes = {name: int(value) for name, value in re.findall(r"NETWORK_(MEMORY|CONSTANTS) = (\d+)", header)}
    return {
        **{"network": case.name, "sparsity": case.sparsity, "block": case.block},
        **{"engine_ms": round(statistics.median(times["engine"]), 4), "c_ms": round(statistics.median(times["c"]), 4)},
        "difference": float(difference),
        **{"program_bytes": program.stat().st_size, "sparse_file_bytes": file.stat().st_size},
        **{"memory_bytes": sizes["MEMORY"], "constants_bytes": sizes["CONSTANTS"]},
        "c_peak_kb": peak_kilobytes([program, folder / "image"]),
        "python_peak_kb": peak_kilobytes([sys.executable, "-c", _RUN_ONCE, file, folder / "image"]),
        "compile_s": round(seconds, 1),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=11, help="turns per case (default: 11)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file to write")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    rows = []
    for case in list_cases():
        with tempfile.TemporaryDirectory() as folder:
            row = measure(case, options.turns, Path(folder))
        rows.append(row)
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
    compiler = find_compiler() or ""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    about = {"command": " ".join(["python", "benchmarks/c_export.py", *sys.argv[1:]]), "device": device_name()}
    about |= {"threads": "1", "compiler": version}
    options.out.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
