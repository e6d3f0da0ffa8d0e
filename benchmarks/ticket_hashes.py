"""Draw toy tickets of every algorithm and print hashes of weights and masks, so that two versions can be compared.

    python benchmarks/ticket_hashes.py --out BEFORE.json            # on the old version
    python benchmarks/ticket_hashes.py --against BEFORE.json        # on the new one: exit status 1 if any differs

Equal bits need the same machine, libraries and number of threads (one here). ``--src`` takes another source tree.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
_SHORT = "--threads 1 --data.workers 0 --recalibrate_batches 2"
_HRNET = """
--supernet.settings.channels [[8],[8,12]] --supernet.settings.blocks [[1],[1,1]] --supernet.settings.stem_channels [8,8]
--supernet.settings.stem_strides [2,1] --supernet.settings.tokens 4 --supernet.settings.grid 2
--search.interval 3 --search.last_epoch 6 --search.warmup_epochs 1
--prune.ratio 0.5 --prune.interval 3 --prune.progressive false --prune.layer_floor 0.05
"""
# Name of a run -> its command; {data} is the folder of generated data, other braces are names of runs before.
COMMANDS = {
    "tunas": f"""search digits {_SHORT} --epochs 4 --evaluate_every 2 --accumulate 2 --ema_decay 0.9
        --data.validation 0.5 --data.batch 32 --data.limit 96
        --supernet.name tunas_proxyless --supernet.settings.width 0.1
        --supernet.settings.strides [1,1,2,1,1,1,2,1,1] --policy.images 8 --policy.lr 0.3 --budget.macs 3e5""",
    "ean": f"""search digits {_SHORT} --epochs 2 --evaluate_every 2 --accumulate 2 --data.batch 32 --data.limit 96
        --supernet.name resnet38 --supernet.settings.attention se --supernet.settings.widths [4,4,8]
        --supernet.settings.ratio 4 --connect.steps 12""",
    "segmentation": f"""draw camvid --data {{data}}/streets {_SHORT} {_HRNET} --epochs 12 --evaluate_every 4
        --data.size [32,40] --data.shorter 32 --data.batch 8 --data.class_names ["sky","road","tree"]
        --data.ignore [255] --augment.resize [0.75,1.5] --optimizer.lr 0.02 --search.target_shrinkage 2.5""",
    "pose": f"""draw fashion_pose --data {{data}}/people {_SHORT} {_HRNET} --epochs 12 --evaluate_every 6
        --data.size [32,24] --data.batch 12 --data.validation 0.1 --augment.jitter 0 --pose.sigma 1.0
        --optimizer.lr 0.01""",
    "snip": "prune {segmentation} --ratio 0.7 --criterion snip --data {data}/streets",
    "retrained": "retrain {segmentation} --epochs 1 --data {data}/streets",
    "transferred": """transfer {segmentation} images --data {data}/images --epochs 1 --data.size 32 --data.batch 16
        --supernet.settings.head_channels [8,12] --threads 1""",
    **{f"digits{seed}": f"draw digits --threads 1 --seed {seed}" for seed in range(3)},
}


def generate(folder: Path) -> None:
    """Write the generated datasets that the commands take."""
    from generate_people import crowd
    from generate_streets import plain, street

    street(folder / "streets", {"train": 24, "val": 6, "test": 6})
    crowd(folder / "people", {"train2017": 80, "val2017": 16})
    plain(folder / "images")


def hash_file(path: Path) -> str:
    """Return a hash of the names, types, shapes and bytes of all tensors of a file."""
    digest = hashlib.sha256()
    for name, value in sorted(load_file(path).items()):
        digest.update(f"{name} {value.dtype} {value.shape} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def run(names: list[str], src: Path, folder: Path) -> dict[str, dict[str, str]]:
    """Make the runs and return the hashes of their tickets, by run and file."""
    environment = {**os.environ, "PYTHONPATH": str(src), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    places = {"data": folder, **{name: folder / name for name in COMMANDS}}
    hashes = {}
    for name in names:
        words = [word.format(**places) for word in COMMANDS[name].split()]
        command = [sys.executable, "-m", "supertickets", *words, "--out", str(places[name])]
        subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
        files = ("model.safetensors", "mask.safetensors")
        hashes[name] = {file: hash_file(places[name] / "ticket" / file) for file in files}
    return hashes


def main() -> int:
    """Print or compare the hashes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"runs (default: all of {', '.join(COMMANDS)})")
    parser.add_argument("--src", type=Path, default=ROOT / "src", help="folder with the package (default: src)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--against", type=Path, help="JSON file to compare with")
    options = parser.parse_args()
    names = options.names or list(COMMANDS)
    if unknown := set(names) - set(COMMANDS):
        parser.error(f"unknown runs: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        hashes = run(names, options.src, Path(scratch))
    if options.out:
        options.out.write_text(json.dumps(hashes, indent=1) + "\n")
    before = json.loads(options.against.read_text()) if options.against else {}
    differing = [name for name in names if name in before and before[name] != hashes[name]]
    for name, files in hashes.items():
        state = "" if name not in before else ("  DIFFERS" if name in differing else "  equal")
        print(f"{name:14}{'  '.join(value[:16] for value in files.values())}{state}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    raise SystemExit(main())
