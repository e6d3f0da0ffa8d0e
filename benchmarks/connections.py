"""Searches for connections on the same shared weights, and what they find, trained alone (LTH4SA, Table I).

Example: python benchmarks/connections.py --data DIR --to benchmarks/results/connections.json
For every beta and seed a ResNet38 learns all connection schemes at once (attention_tiny.yaml, 20 epochs, 520 images
held out) and all 4,096 are judged; since a scheme's quality is then known, searches that only ask for qualities read it
from there, and see what they would have measured. Schemes are trained alone once each, by the recipe as it is, from one
seed: those that were found, 24 random ones, no connection and all. Runs that are finished are not repeated: parts may
run side by side, and a last call collects them.
"""

import argparse
import csv
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import supertickets as st
from commands import command
from connection_figures import draw_all
from connection_statistics import correlations, level_of_top, progress
from supertickets.algorithms.connection_search import rank_schemes
from supertickets.algorithms.scheme_evaluator import SchemeEvaluator
from supertickets.analysis.connection_schemes import (
    JudgedSchemes,
    periodicity,
    read_scheme_search,
    sort_schemes,
    summarize_schemes,
)
from supertickets.analysis.scheme_trial import TrainedScheme, choose_schemes, ticket_verdict
from supertickets.config.search_settings import ConnectSettings
from supertickets.cost.latency import device_name
from supertickets.models import ResNetSpec, create_resnet
from supertickets.nas import (
    SearchStep,
    enas_settings,
    evaluate_schemes,
    every_scheme,
    genetic_search,
    periodic_scheme,
    policy_search,
    random_search,
)
from supertickets.runs.api import load_or_run, search
from supertickets.runs.derive import NO_SEARCH_NO_PRUNING
from supertickets.runs.finalize import versions
from supertickets.runs.session import open_session

RECIPE = Path(__file__).with_name("attention_tiny.yaml")
M = 12
SETUPS = ((0.5, 0), (0.5, 1), (0.5, 2), (0.2, 0), (0.8, 0))  # beta, seed
SHARED = ["--epochs", "20", "--data.validation", "0.065"]
RATIOS = {
    "recalibrated": ["--connect.statistics", "recalibrated", "--connect.each", "25"],
    "resnet164": ["--supernet.name", "resnet164", "--epochs", "10", "--connect.each", "50"],
}
STEPS = 100
FROM_TABLE = ("policy", "enas", "genetic", "random", "every")
FROM_WEIGHTS = ("darts", "l1", "median")
THREE = ("policy", "enas", "genetic", "random")  # whose best three are trained
VARIED: dict[str, dict[str, Any]] = {
    "policy without curiosity": {"curiosity": 0.0},
    "policy, curiosity 0.1": {"curiosity": 0.1},
    "policy, as the paper writes it": {"optimizer": "sgd", "temperature": 1.0, "baseline": None, "reuse": "paper"},
}
REPEATED = ("policy", *VARIED, "enas", "genetic", "random")
SEEDS = 10  # of searches that are repeated, which costs little since qualities are known
SURE = 0.95  # mean probability from which on a controller samples hardly anything new


@dataclass(frozen=True)
class Shared:
    """All schemes judged with the weights of one pre-training."""

    beta: float
    seed: int
    out: Path
    quality: Tensor  # (4096,), by the scheme as a binary number

    def judge(self, schemes: Tensor) -> Tensor:
        """Return the quality of schemes (S, M)."""
        return self.quality[numbers(schemes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/connections"))
    parser.add_argument("--setups", type=int, nargs="+", default=list(range(len(SETUPS))), help="by number")
    parser.add_argument("--random", type=int, default=24, help="random schemes that are trained alone")
    parser.add_argument("--deep", action="store_true", help="some schemes of a ResNet164 too, by their ratio")
    parser.add_argument("--list", action="store_true", help="print the schemes that are to be trained alone")
    parser.add_argument("--trained", action="store_true", help="leave out schemes that are not trained yet")
    parser.add_argument("--figures", type=Path, help="a directory for the drawings")
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    words = ["--data.dir", str(options.data), "--threads", "1"]
    searches = []
    for beta, seed in (SETUPS[i] for i in options.setups):
        shared = learn_all(options.runs, words, beta, seed)
        for way in (*FROM_TABLE, *FROM_WEIGHTS):
            steps = find(way, shared, words)
            candidates = 3 if way in THREE else 1
            searches.append({"beta": beta, "seed": seed, "way": way, **tell(steps, candidates)})
    chosen = dict.fromkeys(candidate for row in searches for candidate in row["candidates"])
    schemes = list(dict.fromkeys([*fixed(options.random), *chosen]))
    if options.list:
        print("\n".join(schemes))
        return
    if options.trained:
        schemes = [scheme for scheme in schemes if (options.runs / "alone" / f"{scheme}-0" / "result.json").exists()]
    alone = {scheme: train_alone(options.runs, words, scheme) for scheme in schemes}
    if options.to is None:
        return
    random = [scheme for scheme in fixed(options.random)[2:] if scheme in alone]
    tables = {
        (beta, seed): learn_all(options.runs, words, beta, seed) for beta, seed in (SETUPS[i] for i in options.setups)
    }
    tried = {
        scheme: TrainedScheme(scheme, row["validation"], row["test"], row["params"], 0.0)
        for scheme, row in alone.items()
    }
    full = replace(tried["1" * M], percent=math.inf)  # connection_times.py tells times, and that all are faster
    for row in searches:
        candidates = [tried[scheme] for scheme in row["candidates"] if scheme in tried]
        if not candidates:
            continue
        chosen = choose_schemes(candidates)
        period, share = periodicity([digit == "1" for digit in chosen.scheme])
        row |= {"chosen": chosen.scheme, "periodicity": {"period": period, "share": share}}
        row |= {key: alone[chosen.scheme][key] for key in ("validation", "test", "params")}
        row["ticket"] = ticket_verdict(chosen, full, shared=False)["ticket"]
        row["top_5_percent"] = row["test"] >= level_of_top([alone[scheme]["test"] for scheme in random], 0.05)
    first = tables[SETUPS[0]]
    qualities = {f"{beta} {seed}": shared.quality.tolist() for (beta, seed), shared in tables.items()}
    known = {key: {scheme: values[int(scheme, 2)] for scheme in alone} for key, values in qualities.items()}
    known["0.5 0, recalibrated"] = recalibrated(options.runs, first, words, list(alone))
    pruned = draw_pruned(options.runs, words, searches[0]["chosen"])
    studies = {
        f"{beta} {seed}": summarize_schemes(shared_study(one.quality), {}) for (beta, seed), one in tables.items()
    }
    studies["0.5 0, recalibrated"] = of_ratios(options.runs, words, "recalibrated", shared=first.out)
    if options.deep:
        studies["resnet164"] = of_ratios(options.runs, words, "resnet164")
    result = {
        "command": command().replace(str(options.data), "DIR"),
        "device": device_name(),
        "threads": 1,
        "versions": versions(),
        "alone": alone,
        "searches": searches,
        "pruned": pruned,
        "correlations": correlations(known, alone, random),
        "shared": known,
        "time": search_time(options.runs, first, words),
        "evidence": studies,
        "repeated": {f"{beta} {seed}": repeat_searches(shared) for (beta, seed), shared in tables.items()},
    }
    options.to.write_text(json.dumps(result, indent=1) + "\n")
    if options.figures:
        draw_all(options.figures, result, shared_study(first.quality))


def fixed(random: int) -> list[str]:
    """Return the schemes that are always trained: no connection, all, and random ones."""
    order = torch.randperm(2**M, generator=torch.Generator().manual_seed(0))[:random].tolist()
    return ["0" * M, "1" * M, *(f"{number:0{M}b}" for number in order)]


def numbers(schemes: Tensor) -> Tensor:
    """Return schemes (S, M) as binary numbers (S,)."""
    return (schemes.long() << torch.arange(M - 1, -1, -1)).sum(1)


def create(scheme: str) -> ResNetSpec:
    """Return the network of a scheme, for the data."""
    return create_resnet("resnet38", attention="se", scheme=strokes(scheme), num_classes=40, image_size=(16, 16))


def shared_study(quality: Tensor) -> JudgedSchemes:
    """Return all schemes with these qualities (4096,), the best first."""
    return sort_schemes(create("1" * M), every_scheme(M), quality)


def strokes(scheme: str) -> str:
    """Return a scheme as settings take it."""
    return "|".join(scheme[i : i + 4] for i in range(0, M, 4))


def load_recipe(words: Iterable[str]) -> st.Recipe:
    return st.load_recipe(str(RECIPE), [*NO_SEARCH_NO_PRUNING, *words])


def shared_words(words: list[str], beta: float, seed: int) -> list[str]:
    return [*words, *SHARED, "--seed", str(seed), "--connect.probability", str(beta)]


def learn_all(runs: Path, words: list[str], beta: float, seed: int) -> Shared:
    """Run the pre-training and judge all schemes."""
    out = runs / f"all-{beta}-{seed}"
    recipe = load_recipe([*shared_words(words, beta, seed), "--connect.by", "all"])
    load_or_run(out, lambda out: search(recipe, out))
    with (out / "schemes.csv").open() as file:
        qualities = {int(row["scheme"].replace("|", ""), 2): float(row["quality"]) for row in csv.DictReader(file)}
    return Shared(beta, seed, out, torch.tensor([qualities[i] for i in range(2**M)], dtype=torch.float64))


def train_alone(runs: Path, words: list[str], scheme: str) -> dict[str, Any]:
    """Train the network of a scheme from fresh weights."""
    recipe = load_recipe([*words, "--supernet.settings.scheme", strokes(scheme)])
    ticket = load_or_run(runs / "alone" / f"{scheme}-0", lambda out: st.train(recipe, out))
    scores = {split: ticket.about[split]["top1"] for split in ("validation", "test")}
    return {**scores, "params": ticket.cost.params, "macs": ticket.cost.macs}


def recalibrated(runs: Path, shared: Shared, words: list[str], schemes: list[str]) -> dict[str, float]:
    """Return the quality of schemes with shared weights and batch norms measured anew for each."""
    recipe = load_recipe([*shared_words(words, shared.beta, shared.seed), "--connect.statistics", "recalibrated"])
    module = st.load(shared.out / "shared").module
    flags = torch.tensor([[digit == "1" for digit in scheme] for scheme in schemes])
    with open_session(recipe, runs / "judged", lambda recipe, splits: module.spec) as (session, _):
        return dict(zip(schemes, SchemeEvaluator(session, module.eval())(flags).tolist(), strict=True))


def of_ratios(runs: Path, words: list[str], name: str, shared: Path | None = None) -> dict[str, Any]:
    """Return the study of Sec. III of some schemes by their ratio: with own statistics, or of a deeper network."""
    some = shared_words(words, 0.5, 0) + RATIOS[name]
    out = runs / f"ratios-{name}"
    load_or_run(out, lambda out: search(load_recipe([*some, "--connect.by", "ratios"]), out, shared=shared))
    return summarize_schemes(read_scheme_search(out), {})


def search_time(runs: Path, shared: Shared, words: list[str]) -> dict[str, float]:
    """Time a search by the policy and a training; check that the table gives the same search."""
    recipe = load_recipe([*shared_words(words, shared.beta, shared.seed), "--connect.steps", str(STEPS)])
    begin = time.perf_counter()
    ticket = search(recipe, runs / f"timed-{int(time.time())}", shared=shared.out)
    searched = time.perf_counter() - begin
    outcome = tell(from_table("policy", shared, shared.seed), 1)
    assert ticket.about["connection_search"]["scheme"].replace("|", "") == outcome["candidates"][0]
    assert ticket.about["connection_search"]["judged"] == outcome["judged"]
    trained = json.loads((runs / "alone" / f"{'1' * M}-0" / "result.json").read_text())["seconds"]
    return {"search": searched, "judged": outcome["judged"], "training": trained}


def draw_pruned(runs: Path, words: list[str], scheme: str) -> dict[str, Any]:
    """Draw the network of a scheme, half of whose weights are pruned while it trains."""
    pruning = ["--prune.ratio", "0.5", "--prune.interval", "1", "--search.interval", "0"]
    recipe = st.load_recipe(str(RECIPE), [*words, "--supernet.settings.scheme", strokes(scheme), *pruning])
    ticket = load_or_run(runs / f"drawn-{scheme}", lambda out: st.draw(recipe, out))
    scores = {split: ticket.about[split]["top1"] for split in ("validation", "test")}
    cost = ticket.cost
    costs = {
        "params": cost.params,
        "nonzero_params": cost.nonzero_params,
        "macs": cost.macs,
        "masked_macs": cost.masked_macs,
    }
    return {"scheme": scheme, **scores, **costs}


def find(way: str, shared: Shared, words: list[str]) -> list[SearchStep]:
    """Run a search; return what it saw, step by step."""
    if way in FROM_TABLE:
        return from_table(way, shared, shared.seed)
    chosen = [*shared_words(words, shared.beta, shared.seed), "--connect.by", way]
    out = shared.out.with_name(f"{way}-{shared.beta}-{shared.seed}")
    load_or_run(out, lambda out: search(load_recipe(chosen), out, shared=shared.out))
    with (out / "schemes.csv").open() as file:
        rows = [[digit == "1" for digit in row["scheme"].replace("|", "")] for row in csv.DictReader(file)]
    return [evaluate_schemes(torch.tensor([row]), shared.judge, ConnectSettings()) for row in rows]


def from_table(way: str, shared: Shared, seed: int) -> list[SearchStep]:
    """Run a search that only asks for qualities, on the table; return what it saw."""
    settings = ConnectSettings(steps=STEPS, probability=shared.beta)
    ways: dict[str, Callable[[], list[SearchStep]]] = {
        "policy": lambda: policy_search(M, shared.judge, settings, seed),
        "enas": lambda: policy_search(M, shared.judge, enas_settings(settings), seed),
        "genetic": lambda: genetic_search(M, shared.judge, settings, seed),
        "random": lambda: random_search(M, shared.judge, settings, seed),
        "every": lambda: [evaluate_schemes(periodic_scheme(M, period), shared.judge, settings) for period in (2, 3)],
    }
    if way in VARIED:
        return policy_search(M, shared.judge, replace(settings, **VARIED[way]), seed)
    return ways[way]()


def tell(steps: list[SearchStep], candidates: int) -> dict[str, Any]:
    """Summarize a search: the candidates to be trained, and how sure it became."""
    best = rank_schemes(steps)
    texts = ["".join(str(int(flag)) for flag in scheme) for scheme in best]
    outcome: dict[str, Any] = {
        "candidates": texts[:candidates],
        "reward": next(iter(best.values()))[0],
        "shared_quality": next(iter(best.values()))[1],
        "samples": sum(len(step.schemes) for step in steps),
        "judged": len(best),
    }
    if steps[0].probability is not None:
        outcome["probability"] = [round(step.probability or 0.0, 4) for step in steps]
    return outcome


def repeat_searches(shared: Shared) -> dict[str, Any]:
    """Repeat searches with many seeds: the best reward so far after every 10 samples, and how sure controllers become.

    ``last`` is the mean reward of the last 30 samples, where 0 is the mean of all schemes and 1 the best of all.
    ``at_equal_judged`` is where random search is after as many different schemes as the policy has judged.
    """
    rewards = shared.quality + ConnectSettings().sparsity * (1 - every_scheme(M).double().mean(1))
    spread = rewards.max() - rewards.mean()
    summary: dict[str, Any] = {}
    seen: dict[str, list[Tensor]] = {}
    for way in REPEATED:
        runs = [from_table(way, shared, seed) for seed in range(SEEDS)]
        seen[way] = [torch.cat([numbers(step.schemes) for step in steps]) for steps in runs]
        summary[way] = {
            "best": progress([rewards[drawn] for drawn in seen[way]], rewards),
            "last": float((torch.cat([rewards[drawn[-30:]] for drawn in seen[way]]).mean() - rewards.mean()) / spread),
            "judged": statistics.fmean(len(drawn.unique()) for drawn in seen[way]),
        }
        if runs[0][0].probability is not None:
            sure = torch.tensor([[step.probability or 0.0 for step in steps] for steps in runs])
            summary[way]["probability"] = [round(value, 4) for value in sure.mean(0).tolist()]
            summary[way]["steps_until_sure"] = statistics.median(
                next((i for i, step in enumerate(steps, start=1) if (step.probability or 0) > SURE), STEPS + 1)
                for steps in runs
            )
    pairs = [
        (rewards[one], rewards[other[: len(one.unique())]])
        for one, other in zip(seen["policy"], seen["random"], strict=True)
    ]
    ends = [[float((values.max() - rewards.mean()) / spread) for values in pair] for pair in pairs]
    summary["at_equal_judged"] = {
        "policy": statistics.fmean(one for one, _ in ends),
        "random": statistics.fmean(other for _, other in ends),
        "policy_better": sum(one > other for one, other in ends),
        "random_better": sum(one < other for one, other in ends),
        "searches": len(ends),
    }
    return summary


if __name__ == "__main__":
    main()
