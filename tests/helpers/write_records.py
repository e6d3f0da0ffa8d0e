"""Records of runs and of sweeps as their commands leave them, with figures made up."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supertickets.config.loading import load_recipe
from supertickets.training.run_dir import FORMAT_VERSION


def write_run(
    folder: Path,
    command: str = "draw",
    scores: Mapping[str, float] | float = 90.0,
    settings: Mapping[str, Any] | None = None,
    parent: str | None = None,
    lineage: Sequence[Mapping[str, Any]] = (),
    name: str | None = None,
    data: str = "d" * 64,
    made: Mapping[str, Any] | None = None,
    **result: Any,
) -> Path:
    """Write a finished run without a ticket.

    Args:
        folder: Its directory.
        command: What it did.
        scores: Metrics of the test split, those of validation are one point higher; a number is top1.
        settings: Settings by dotted names that are not those of the recipe "digits".
        parent: Name of the directory beside it that it began from.
        lineage: What led to it, where no directory tells.
        name: Name of the recipe.
        data: Hash of its data.
        made: What else it recorded.
        result: Costs that are not as usual.
    """
    folder.mkdir(parents=True)
    recipe = json.loads(_digits())
    for dotted, value in {"name": name or "digits", **(settings or {})}.items():
        *rooms, last = dotted.split(".")
        functools.reduce(dict.__getitem__, rooms, recipe)[last] = value
    earlier = {"lineage": list(lineage)} if lineage else {}
    about = {
        "format_version": FORMAT_VERSION,
        "command": command,
        "recipe": recipe,
        "data": data,
        "metadata": {**earlier, **(made or {})},
    }
    (folder / "run.json").write_text(json.dumps(about))
    test = dict(scores) if isinstance(scores, Mapping) else {"loss": 0.5, "top1": scores}
    costs = {
        "params": 1000,
        "nonzero_params": 500,
        "sparsity": 0.5,
        "sparsity_all": 0.5,
        "macs": 2000,
        "masked_macs": 1000,
        "paper_macs": 900,
        "samples": 100,
        "seconds": 10.0,
    }
    validation = {metric: value + 1 for metric, value in test.items()}
    (folder / "result.json").write_text(json.dumps({"validation": validation, "test": test, **costs, **result}))
    if parent is not None:
        (folder / "parent.json").write_text(json.dumps(parent))
    return folder


@functools.lru_cache
def _digits() -> str:
    return json.dumps(load_recipe("digits").to_json())


def write_points(root: Path, points: Sequence[tuple[str, float, int, str]]) -> Path:
    """Write what a sweep asks for: (method, ratio, seed, key) of the recipe "digits"."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [{"recipe": "digits", "method": m, "ratio": r, "seed": s, "key": key} for m, r, s, key in points]
    (root / "points.json").write_text(json.dumps(rows))
    return root
