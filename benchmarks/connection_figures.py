"""Drawings of connections.py: shared against own weights, ratios, how sure controllers are, rewards over samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from connection_statistics import RATIOS
from supertickets.search import every_scheme
from supertickets.study.pictures import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, clean

_COLORS = {
    "policy": BLUE,
    "policy without curiosity": GREEN,
    "enas": ORANGE,
    "genetic": PURPLE,
    "random": MUTED,
}
_STYLE = {"font.size": 9, "axes.edgecolor": MUTED, "text.color": INK, "axes.labelcolor": INK}


def draw_all(folder: Path, result: Mapping[str, Any], qualities: Mapping[str, Sequence[float]], params: Tensor) -> None:
    """Draws the study.

    Args:
        folder: Where ``connections.png`` goes.
        result: What the study found.
        qualities: Of all schemes by binary number, per pre-training; the first is drawn.
        params: Of their networks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    setup = next(iter(qualities))
    quality = torch.tensor(qualities[setup], dtype=torch.float64)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(10, 7.2), layout="constrained")
        _shared_and_alone(axes[0, 0], quality, result, setup)
        _ratios(axes[0, 1], quality)
        _sureness(axes[1, 0], result["searches"])
        _over_samples(axes[1, 1], result["repeated"])
        figure.savefig(folder / "connections.png", dpi=110)
        plt.close(figure)


def _shared_and_alone(axis: Axes, quality: Tensor, result: Mapping[str, Any], setup: str) -> None:
    alone, random = result["alone"], result["correlations"]["random"]
    found = random[setup]
    axis.set_title(
        f"Shared weights and alone: r = {found['pearson']:.2f} of {random['schemes']} random schemes", loc="left"
    )
    ends, drawn = list(alone)[:2], list(alone)[2 : 2 + random["schemes"]]
    searched = list(alone)[2 + random["schemes"] :]
    for some, color, label in ((searched, ORANGE, "found by searches"), (drawn, BLUE, "random")):
        x = [100 * float(quality[int(scheme, 2)]) for scheme in some]
        axis.scatter(x, [alone[scheme]["test"] for scheme in some], 16, color=color, label=label)
    for scheme, label in zip(ends, ("no connection", "all"), strict=True):
        place = (100 * float(quality[int(scheme, 2)]), alone[scheme]["test"])
        axis.scatter(*place, 16, color=INK)
        axis.annotate(label, place, (5, 4), textcoords="offset points", color=MUTED)
    axis.set(xlabel="validation accuracy with shared weights, %", ylabel="test accuracy alone, %")
    axis.legend(frameon=False)
    clean(axis)


def _ratios(axis: Axes, quality: Tensor) -> None:
    axis.set_title("All schemes by their ratio of connections, shared weights", loc="left")
    blocks = (len(quality) - 1).bit_length()
    number = every_scheme(blocks).sum(1)
    parts = [(100 * quality[number == int(ratio * blocks)]).numpy() for ratio in RATIOS]
    shapes = axis.violinplot(parts, showmeans=True, showextrema=True)
    for body in shapes["bodies"]:  # type: ignore[attr-defined]
        body.set_facecolor(BLUE)
    for place, label, color in ((-1, "all connected", INK), (0, "none", "#b5475b")):
        axis.axhline(100 * float(quality[place]), color=color, linestyle=":", label=label)
    labels = [f"{int(ratio * blocks)} of {blocks}" for ratio in RATIOS]
    axis.set_xticks(np.arange(1, len(labels) + 1), labels)
    axis.set(xlabel="connections", ylabel="validation accuracy, %")
    axis.legend(frameon=False)
    clean(axis)


def _sureness(axis: Axes, searches: Sequence[Mapping[str, Any]]) -> None:
    axis.set_title("How sure controllers are of what they sample", loc="left")
    for way, color in _COLORS.items():
        rows = [row["probability"] for row in searches if row["way"] == way and "probability" in row]
        for i, row in enumerate(rows):
            axis.plot(range(1, len(row) + 1), row, color=color, alpha=0.8, label=way if i == 0 else None, linewidth=1)
    axis.set(ylim=(0.45, 1.02), xlabel="step", ylabel="mean probability")
    axis.legend(frameon=False)
    clean(axis)


def _over_samples(axis: Axes, repeated: Mapping[str, Mapping[str, Any]]) -> None:
    axis.set_title("Best reward so far (0: mean of all schemes, 1: the best)", loc="left")
    for way, color in _COLORS.items():
        mean = np.mean([one[way]["best"] for one in repeated.values()], axis=0)
        axis.plot(10 * np.arange(1, len(mean) + 1), mean, color=color, label=way)
    axis.set(xlabel="schemes sampled", ylabel="mean over searches and pre-trainings")
    axis.legend(frameon=False)
    clean(axis)
