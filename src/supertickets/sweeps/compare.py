"""Comparisons: train tickets and references on equal terms, time them together, and weigh score against latency."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..config.recipe import Recipe, flatten
from ..deploy import Bench, BenchSettings, bench, measure_network
from ..deploy.runtimes import installed_runtimes
from ..errors import UserError
from ..plugins import recipe_plugins
from ..runs.api import load_or_run
from ..storage import write_json
from ..tasks import Metric, find_task
from ..ticket import Ticket
from ..training.run_dir import RunDir
from .compare_plan import Member, plan_comparison, plan_equal_time
from .comparison import Comparison, MemberResult, MemberRun, with_gains

_COSTS = ("params", "nonzero_params", "macs", "masked_macs", "seconds", "samples")
_MEMBERS_FILE = "members.json"  # the recipe of every run of the comparison, so that none is taken for another
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Settings of a comparison.

    Attributes:
        networks: Networks of the references; empty for the usual ones.
        factors: Budgets of the tickets as multiples of the given one; empty for half, once and twice.
        seeds: Number of seeds, from the recipe's on.
        equal_time: Whether references are trained again for as long as the tickets were.
        repeats: Timing repetitions.

    Raises:
        UserError: A number is below 1.
    """

    networks: tuple[str, ...] = ()
    factors: tuple[float, ...] = ()
    seeds: int = 1
    equal_time: bool = False
    repeats: int = 200

    def __post_init__(self) -> None:
        for name in ("seeds", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; the nearest possible is 1")
        if bad := [factor for factor in self.factors if not 0 < factor < float("inf")]:
            raise UserError(f"--factors has {bad[0]:g}; give numbers above 0")


def compare(recipe: Recipe, out: Path, settings: CompareSettings, say: Say) -> Comparison:
    """Train tickets and references where they are not there yet, and compare them; writes ``compare.json``.

    Args:
        recipe: Recipe of the tickets.
        out: Directory of the comparison; holds a run directory per member and seed.
        settings: Settings of the comparison.
        say: Function that tells a line.

    Raises:
        UserError: The recipe cannot work, or the directory holds runs with other settings, or is in use.
        Interrupted: Ctrl-C; the same call goes on.
    """
    plan = plan_comparison(recipe, settings.networks, settings.factors)
    for line in plan.notes:
        say(line)
    seeds = [recipe.seed + i for i in range(settings.seeds)]
    with RunDir(out):  # locks it
        members = [*plan.tickets, *plan.references]
        tickets = _train_all(members, seeds, out, say)
        if settings.equal_time:
            # Those of the first seed, so that more seeds later on change no run.
            seconds = {member.slug: _training_seconds(_run_dir(out, member, seeds[0])) for member in members}
            wanted = statistics.mean(seconds[member.slug] for member in plan.tickets)
            longer = plan_equal_time(plan.references, seconds, wanted)
            tickets |= _train_all(longer, seeds, out, say)
            members += longer
        _check_data(tickets, out, members)
        say(f"timing {len(members)} networks")
        comparison = _measure(members, tickets, out, settings.repeats)
        write_json(out / "compare.json", comparison.to_json())
    return comparison


def _train_all(members: Sequence[Member], seeds: Sequence[int], out: Path, say: Say) -> dict[tuple[str, int], Ticket]:
    """Return the tickets of members by slug and seed, trained now where they are not there."""
    _check_recipes(members, seeds, out)
    tickets = {}
    for i, member in enumerate(members):
        for seed in seeds:
            folder, recipe = _run_dir(out, member, seed), member.seeded(seed)
            if not (folder / "result.json").exists():
                say(f"{i + 1} of {len(members)}: {member.title}, seed {seed}")
            trust = recipe_plugins(recipe.to_json())  # the caller's own words name that code
            begin, data_dir = partial(member.begin, recipe), recipe.data.dir
            tickets[member.slug, seed] = load_or_run(folder, begin, trust, measure_network, data_dir)
    return tickets


def _check_data(tickets: Mapping[tuple[str, int], Ticket], out: Path, members: Sequence[Member]) -> None:
    """Refuse runs of one seed that learned from different data: samples that came or went between them."""
    for member in members[1:]:
        for seed in (seed for slug, seed in tickets if slug == member.slug):
            if tickets[member.slug, seed].about["data"] != tickets[members[0].slug, seed].about["data"]:
                raise UserError(
                    f"{_run_dir(out, member, seed)} was trained on other data than {_run_dir(out, members[0], seed)}: "
                    "samples were added, removed or exchanged; choose another --out"
                )


def _check_recipes(members: Sequence[Member], seeds: Sequence[int], out: Path) -> None:
    """Write down the recipe of every run, and refuse another one for a run that is there; its data may have moved."""
    path = out / _MEMBERS_FILE
    known = json.loads(path.read_text()) if path.exists() else {}
    for member in members:
        for seed in seeds:
            folder = _run_dir(out, member, seed)
            recipe = json.loads(json.dumps(flatten(member.seeded(seed).to_json())))
            before = known.get(folder.name, {}) if (folder / "run.json").exists() else recipe
            moved = {"data.dir"} if before.get("data.dir") and recipe["data.dir"] else set()
            if changed := [k for k in recipe if k not in moved and (k not in before or before[k] != recipe[k])]:
                raise UserError(
                    f"{folder} was made with {changed[0]} {before.get(changed[0])}, not {recipe[changed[0]]}; "
                    "choose another --out"
                )
            known[folder.name] = recipe
    write_json(path, known)


def _measure(
    members: Sequence[Member], tickets: Mapping[tuple[str, int], Ticket], out: Path, repeats: int
) -> Comparison:
    """Time all networks together, each once, and return what was found."""
    seeds = sorted({seed for _, seed in tickets})
    names = {(m.slug, seed): m.network or f"{m.slug}-seed{seed}" for m in members for seed in seeds}
    networks: dict[str, Ticket] = {}
    for key, name in names.items():
        networks.setdefault(name, tickets[key])
    times = bench(networks, BenchSettings(repeats=repeats, runtimes=installed_runtimes(exact=True)))
    metric = find_task(members[0].recipe.task).metric
    results = []
    for member in members:
        by_seed = {seed: _latencies(times, names[member.slug, seed]) for seed in seeds}
        shared = [name for name in times.runtimes if all(name in one for one in by_seed.values())]
        latencies = {name: statistics.mean(one[name] for one in by_seed.values()) for name in shared}
        runtime = min(latencies, key=lambda name: latencies[name])
        folders = {seed: _run_dir(out, member, seed) for seed in seeds}
        runs = [_read_run(folders[seed], seed, metric, by_seed[seed][runtime]) for seed in seeds]
        results.append(
            MemberResult(
                title=member.title,
                group=member.group,
                kind=member.kind,
                epochs=tickets[member.slug, seeds[0]].about["recipe"]["epochs"],
                runtime=runtime,
                latencies=latencies,
                runs=tuple(runs),
            )
        )
    recipe, about = members[0].recipe, tickets[members[0].slug, seeds[0]].about
    return Comparison(
        recipe=recipe.name,
        data=recipe.data.dir or recipe.data.source,
        metric=metric,
        device=times.device,
        versions={**about["versions"], **times.versions},
        members=tuple(with_gains(results, metric)),
    )


def _latencies(times: Bench, name: str) -> dict[str, float]:
    """Return the median latencies of a network by runtime, in ms."""
    return {runtime: timing.median_ms for runtime, timing in times.runs[0].by_runtime(name).items()}


def _read_run(folder: Path, seed: int, metric: Metric, latency_ms: float) -> MemberRun:
    result = json.loads((folder / "result.json").read_text())
    scores = {}
    for split in ("validation", "test"):
        if metric.name not in result[split]:
            raise UserError(f"{folder} has no {metric.display_name}: nothing in its {split} split counts; add data")
        scores[split] = float(result[split][metric.name])
    return MemberRun(
        **scores,
        seed=seed,
        run=folder.name,
        costs={name: result[name] for name in _COSTS},
        latency_ms=latency_ms,
    )


def _training_seconds(folder: Path) -> float:
    return float(json.loads((folder / "result.json").read_text())["seconds"])


def _run_dir(out: Path, member: Member, seed: int) -> Path:
    return out / f"{member.slug}-seed{seed}"
