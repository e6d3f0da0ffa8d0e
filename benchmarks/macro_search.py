"""Policy search against ground truth: NAS-Bench-Macro knows the accuracy of all 6,561 networks of a space.

Quality is looked up, so that nothing but the controller and its reward is measured. Per target and reward, over seeds:
what the most probable network costs, and its regret: how far its reward lies below the best one of the whole space.
Beside it random search (the best reward among so many lookups) and regularised evolution (the best quality in a window
around the target).

Example: python benchmarks/macro_search.py --data DIR --to benchmarks/results/macro_search.json
    --figure docs/macro_search.png
"""

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from commands import command
from supertickets.config.search_settings import PolicySettings
from supertickets.models import Decision
from supertickets.nas import REWARDS, CostRange, Evolution, Policy, Space, evolve, fit_trend, lr_at, random_networks
from supertickets.runs.finalize import versions

FILE = "nas-bench-macro_cifar10.json"
SPACE = Space(tuple(Decision(f"layer{i}", (0, 1, 2)) for i in range(8)))  # 0 identity, 1 k3 e3, 2 k5 e6
POINTS = 40  # of a search's course that are kept
LOOKUPS = (1, 20, 50, 250, 1000, 4000, 16000)
CONSTANT = "absolute, constant rate"


@dataclass(frozen=True)
class Table:
    """Accuracy and cost of every network, by its index list read as a number of base 3.

    Attributes:
        quality: Mean accuracy of three trainings, 0 to 1, (6561,).
        cost: M MACs, (6561,).
    """

    quality: Tensor
    cost: Tensor

    @staticmethod
    def read(path: Path) -> "Table":
        known = json.loads(path.read_text())
        quality, cost = torch.zeros(3**8, dtype=torch.float64), torch.zeros(3**8, dtype=torch.float64)
        for name, row in known.items():
            place = int(name, 3)
            quality[place], cost[place] = row["mean_acc"] / 100, row["flops"] / 1e6
        return Table(quality, cost)

    @staticmethod
    def places(networks: Tensor) -> Tensor:
        """Return rows of index lists (N, 8)."""
        return (networks * 3 ** torch.arange(7, -1, -1)).sum(dim=1)

    def qualities(self, networks: Tensor) -> Tensor:
        return self.quality[self.places(networks)]

    def costs(self, networks: Tensor) -> Tensor:
        return self.cost[self.places(networks)]


def search(table: Table, kind: str, settings: PolicySettings, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run one search with lookups as quality.

    Returns:
        Its result, and the course of its diagnostics.
    """
    generator = torch.Generator().manual_seed(seed)
    policy, course = Policy(SPACE, settings), []
    for step in range(options.steps):
        draws = policy.sample(options.samples, generator)
        quality, cost = table.qualities(draws.indices), table.costs(draws.indices)
        rewards = REWARDS[kind].weigh(quality, cost, options.target, options.beta)
        policy.update(draws, rewards, lr_at(step, options.steps, settings))
        if (step + 1) % max(1, options.steps // POINTS) == 0:
            course.append(
                {
                    "step": step + 1,
                    "entropy": policy.entropy(),
                    "mean_probability": policy.mean_probability(),
                    "expected_cost": expected(policy, table.cost),
                    "most_probable_cost": float(table.costs(torch.tensor([policy.most_probable()]))[0]),
                }
            )
    best = torch.tensor([policy.most_probable()])
    every = REWARDS[kind].weigh(table.quality, table.cost, options.target, options.beta)
    return {
        "seed": seed,
        "network": "".join(map(str, best[0].tolist())),
        "quality": float(table.qualities(best)[0]),
        "cost": float(table.costs(best)[0]),
        "expected_cost": expected(policy, table.cost),
        "regret": float(every.max() - every[table.places(best)][0]),
        "course": course,
    }


def expected(policy: Policy, values: Tensor) -> float:
    """Return the mean of a value over all networks under the policy, exactly."""
    p = torch.ones(1, dtype=torch.float64)
    for row in policy.probabilities():
        p = (p[:, None] * row).flatten()
    return float((p * values).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"directory of {FILE}")
    parser.add_argument("--targets", type=float, nargs="+", default=[50, 70], help="M MACs")
    parser.add_argument("--beta", type=float, default=-0.1)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=8, help="networks per step")
    parser.add_argument(
        "--lr", type=float, default=0.003, help="at the start; this and the growth: by seeds from 100 on"
    )
    parser.add_argument("--growth", type=float, default=100.0)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table.read(options.data / FILE)
    # No weights are shared here, so that nothing must be trained before the controller begins.
    settings = PolicySettings(
        lr=options.lr, growth=options.growth, delay=0.0, warmup=0.0, op_warmup=False, filter_warmup=False
    )
    ways: dict[str, tuple[str, PolicySettings]] = {
        "absolute": ("absolute", settings),
        "soft": ("soft", settings),
        "hard": ("hard", settings),
        CONSTANT: ("absolute", dataclasses.replace(settings, lr=options.lr * options.growth**0.5, growth=1.0)),
    }
    rows = []
    for target in options.targets:
        options.target = target
        for way, (kind, how) in ways.items():
            seeds = range(options.first_seed, options.first_seed + options.seeds)
            searches = [search(table, kind, how, seed, options) for seed in seeds]
            rows.append(
                {
                    "target": target,
                    "reward": way,
                    **summary(searches, target),
                    "mean_course": mean_course([result.pop("course") for result in searches]),
                    "searches": searches,
                }
            )
            print({name: value for name, value in rows[-1].items() if isinstance(value, float | int | str)}, flush=True)
    result = {
        "command": command().replace(str(options.data), "DIR"),
        "versions": versions(),
        "slope": {f"{t:g}": fit_trend(table.quality, table.cost, t).slope for t in options.targets},
        "policy": rows,
        "rivals": [rival(table, target, options) for target in options.targets],
    }
    options.to.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["rivals"], indent=1))
    if options.figure:
        draw_figure(options.figure, table, rows, options)


def summary(searches: list[dict[str, Any]], target: float) -> dict[str, Any]:
    """Summarize searches over seeds."""
    off = [result["cost"] / target - 1 for result in searches]
    return {
        "within_5_percent": sum(abs(x) <= 0.05 for x in off),
        "mean_miss": mean(map(abs, off)),
        "mean_cost": mean(result["cost"] for result in searches),
        "mean_expected_cost": mean(result["expected_cost"] for result in searches),
        "mean_quality": mean(result["quality"] for result in searches),
        "mean_regret": mean(result["regret"] for result in searches),
    }


def mean_course(courses: list[list[dict[str, float]]]) -> dict[str, list[float]]:
    """Return the diagnostics over steps, as means over seeds."""
    points = list(zip(*courses, strict=True))
    return {key: [round(mean(one[key] for one in point), 4) for point in points] for key in courses[0][0]}


def rival(table: Table, target: float, options: argparse.Namespace) -> dict[str, Any]:
    """Run random search and evolution with as many lookups as a search, and fewer."""
    every = REWARDS["absolute"].weigh(table.quality, table.cost, target, options.beta)
    window = CostRange(0.95 * target, 1.05 * target)
    best: dict[int, list[float]] = {n: [] for n in LOOKUPS}
    evolved = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        generator = torch.Generator().manual_seed(seed)
        drawn = SPACE.sample(max(LOOKUPS), generator)
        for n in LOOKUPS:
            best[n].append(float(every.max() - every[table.places(drawn[:n])].max()))
        _, scores = evolve(SPACE, table.qualities, table.costs, window, Evolution(250), generator)
        evolved.append(float(scores.max()))
    inside = window.holds(table.cost)
    return {
        "target": target,
        "random_search_mean_regret": {str(n): mean(values) for n, values in best.items()},
        "best_quality_within_5_percent": float(table.quality[inside].max()),
        "evolution_of_250_mean_quality_within_5_percent": mean(evolved),
    }


def draw_figure(path: Path, table: Table, rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Draw random networks against searches (Fig. 1), and expected against most probable cost."""
    figure, axes = plt.subplots(2, len(options.targets), figsize=(10, 7.4), layout="constrained", squeeze=False)
    colors = {"absolute": "#d9822b", CONSTANT: "#7a5ea8", "soft": "#3f8f5f", "hard": "#b5475b"}
    for column, target in enumerate(options.targets):
        top, low = axes[0, column], axes[1, column]
        window = CostRange(0.95 * target, 1.05 * target)
        drawn = random_networks(SPACE, table.costs, window, 250, torch.Generator().manual_seed(0))
        top.hist(100 * table.qualities(drawn).numpy(), bins=30, color="#2f6db5", label="250 random networks")
        here = {row["reward"]: row for row in rows if row["target"] == target}
        for i, result in enumerate(here["absolute"]["searches"]):
            label = f"{options.seeds} searches, absolute reward" if i == 0 else None
            top.axvline(100 * result["quality"], color=colors["absolute"], linewidth=1.2, label=label)
        best = 100 * float(table.quality[window.holds(table.cost)].max())
        top.axvline(best, color="#1f2933", linestyle=":", label="the best there is")
        top.set(title=f"{target:g} M MACs ± 5%", xlabel="accuracy (%)", ylabel="networks")
        top.legend(frameon=False, loc="upper left")
        for way, row in here.items():
            course = row["mean_course"]
            low.plot(course["step"], course["expected_cost"], "--", color=colors[way])
            low.plot(course["step"], course["most_probable_cost"], color=colors[way], label=way)
        low.axhline(target, color="#1f2933", linestyle=":")
        low.set(xlabel="step", ylabel="M MACs of the most probable network\n(dashed: expected)")
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
