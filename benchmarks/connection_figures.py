"""Figures of connections.py: shared against own weights, ratios, how sure controllers are, rewards over samples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from supertickets.analysis.connection_schemes import JudgedSchemes
from supertickets.visualization.scheme_figure import draw_quality
from supertickets.visualization.style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, RED, STYLE, style_axes

_COLORS = {
    "policy": BLUE,
    "policy, curiosity 0.1": GREEN,
    "policy, as the paper writes it": RED,
    "enas": ORANGE,
    "genetic": PURPLE,
    "random": MUTED,
}


def draw_all(folder: Path, result: Mapping[str, Any], first: JudgedSchemes) -> None:
    """Draw the study.

    Args:
        folder: Where ``connections.png`` goes.
        result: Results of the study.
        first: All schemes with the weights of the first pre-training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(10, 7.2), layout="constrained")
        _shared_and_alone(axes[0, 0], result)
        draw_quality(axes[0, 1], first)
        _sureness(axes[1, 0], result["repeated"])
        _over_samples(axes[1, 1], result["repeated"])
        figure.savefig(folder / "connections.png", dpi=110)
        plt.close(figure)


def _shared_and_alone(axis: Axes, result: Mapping[str, Any]) -> None:
    setup, shared = next(iter(result["shared"].items()))
    alone, random = result["alone"], result["correlations"]["random"]
    correlation = random[setup]
    axis.set_title(
        f"Shared weights and alone: r = {correlation['pearson']:.2f} of {random['schemes']} random schemes", loc="left"
    )
    ends, drawn = list(alone)[:2], list(alone)[2 : 2 + random["schemes"]]
    searched = list(alone)[2 + random["schemes"] :]
    for some, color, label in ((searched, ORANGE, "found by searches"), (drawn, BLUE, "random")):
        x = [100 * shared[scheme] for scheme in some]
        axis.scatter(x, [alone[scheme]["test"] for scheme in some], 16, color=color, label=label)
    for scheme, label in zip(ends, ("no connection", "all"), strict=True):
        place = (100 * shared[scheme], alone[scheme]["test"])
        axis.scatter(*place, 16, color=INK)
        axis.annotate(label, place, (5, 4), textcoords="offset points", color=MUTED)
    axis.set(xlabel="validation accuracy with shared weights, %", ylabel="test accuracy alone, %")
    axis.legend(frameon=False)
    style_axes(axis)


def _sureness(axis: Axes, repeated: Mapping[str, Mapping[str, Any]]) -> None:
    axis.set_title("How sure controllers are of what they sample", loc="left")
    for way, color in _COLORS.items():
        if "probability" in next(iter(repeated.values()))[way]:
            curves = np.array([one[way]["probability"] for one in repeated.values()])
            x = range(1, curves.shape[1] + 1)
            axis.plot(x, curves.T, color=color, alpha=0.25, linewidth=0.8)
            axis.plot(x, curves.mean(0), color=color, label=way)
    axis.set(ylim=(0.45, 1.02), xlabel="step", ylabel="mean probability")
    axis.legend(frameon=False)
    style_axes(axis)


def _over_samples(axis: Axes, repeated: Mapping[str, Mapping[str, Any]]) -> None:
    axis.set_title("Best reward so far (0: mean of all schemes, 1: the best)", loc="left")
    for way, color in _COLORS.items():
        mean = np.mean([one[way]["best"] for one in repeated.values()], axis=0)
        axis.plot(10 * np.arange(1, len(mean) + 1), mean, color=color, label=way)
    axis.set(xlabel="schemes sampled", ylabel="mean over searches and pre-trainings")
    axis.legend(frameon=False)
    style_axes(axis)
