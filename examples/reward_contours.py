"""Draw lines of equal reward over cost and quality, for the three rewards of a policy search (TuNAS, Fig. 3).

Example: python examples/reward_contours.py rewards.png
"""

import sys

import matplotlib.pyplot as plt
import torch

from supertickets.nas import REWARDS

BETA, TARGET = -0.1, 1.0


def main(path: str) -> None:
    cost, quality = torch.meshgrid(torch.linspace(0.3, 2.0, 200), torch.linspace(0.6, 0.9, 200), indexing="xy")
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
    for axis, kind in zip(axes, ("soft", "hard", "absolute"), strict=True):
        reward = REWARDS[kind].weigh(quality, cost, TARGET, BETA)
        lines = axis.contour(cost, quality, reward, levels=12, cmap="viridis", linewidths=1.2)
        axis.clabel(lines, fontsize=7)
        axis.axvline(TARGET, color="#1f2933", linestyle=":")
        axis.set(title=f"{kind}, beta {BETA:g}", xlabel="cost / target")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("quality")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(sys.argv[1])
