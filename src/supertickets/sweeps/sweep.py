"""Sweeps: a YAML file of recipes, methods, ratios and seeds becomes jobs, of which none is done twice."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from ..config.loading import load_recipe, recipe_from_json, settings_as_words
from ..config.recipe import Recipe
from ..config.schedule import check_schedule, pruning_timeline
from ..config.setting_types import convert, read_yaml
from ..config.shipped import list_sweeps
from ..errors import UserError, suggest
from ..pruning import find_criterion
from ..runs.derive import NO_SEARCH_NO_PRUNING, fixed_network, reject_settings
from ..tasks import Metric, find_task

_KEYS = ("description", "recipe", "settings", "methods", "ratios", "seeds")
_METHOD_KEYS = ("search", "train", "prune", "batches", "rounds", "settings", "retrain")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to a network.

    Attributes:
        name: Name in tables.
        kind: "draw" (two-in-one), "search" (search only), "train" (the dense supernet), or "prune" (search only, then
            pruned in one shot).
        settings: Command-line words for the recipe.
        prune: For "prune": the settings of `prune_recipe` besides the ratio.
        retrain: Epochs that the ticket is trained further; 0 for none.
    """

    name: str
    kind: Literal["draw", "search", "train", "prune"] = "draw"
    settings: tuple[str, ...] = ()
    prune: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    retrain: int = 0

    @property
    def has_ratio(self) -> bool:
        """True if its result depends on the sparsity that is asked for."""
        return self.kind in ("draw", "prune")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a sweep.

    Attributes:
        command: Kind of work; a "trunk" is the first part of several draws, trained once for all of them.
        recipe: Settings of draws, trunks and dense trainings.
        options: Other arguments of the command: ``until`` (trunk), ``ratio`` and the criterion (prune), ``epochs``
            (retrain).
        parent: Key of the job that it begins from: a trunk, or the run of a ticket.
    """

    command: Literal["draw", "train", "trunk", "prune", "retrain"]
    recipe: Recipe | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parent: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        recipe = None if self.recipe is None else self.recipe.to_json()
        return {"command": self.command, "recipe": recipe, "options": dict(self.options), "parent": self.parent}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Job:
        """Read what `to_json` wrote."""
        return Job(**{**data, "recipe": None if data["recipe"] is None else recipe_from_json(data["recipe"])})

    @functools.cached_property
    def key(self) -> str:
        """Name of its directory: a hash of all that its result depends on.

        Where a draw begins makes no difference to its result, so that it is found again when a sweep grows.
        """
        data = self.to_json()
        if self.command not in ("prune", "retrain"):
            del data["parent"]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Point:
    """One result of a sweep.

    Attributes:
        recipe: Its name.
        method: Its name.
        ratio: The sparsity that was asked for; 0 where there is none.
        seed: The seed.
        key: The job whose ticket it is.
    """

    recipe: str
    method: str
    ratio: float
    seed: int
    key: str


@dataclass(frozen=True)
class Plan:
    """The work of a sweep.

    Attributes:
        points: Its results, in the order of the file.
        jobs: Runs that the results need, parents before children.
    """

    points: tuple[Point, ...]
    jobs: tuple[Job, ...]

    def metrics(self) -> dict[str, Metric]:
        """Return the metric of every recipe's task, by the recipe's name."""
        jobs, metrics = {job.key: job for job in self.jobs}, dict[str, Metric]()
        for point in self.points:
            job = jobs[point.key]
            while job.recipe is None and job.parent is not None:
                job = jobs[job.parent]
            if job.recipe is not None:
                metrics[point.recipe] = find_task(job.recipe.task).metric
        return metrics


def read_sweep(source: str | Path, changes: Mapping[str, Any] | None = None, words: Sequence[str] = ()) -> Plan:
    """Read a sweep: a YAML file, or a shipped one by name.

    ``recipe`` (a name, a file or a list), ``settings`` (for every run), ``ratios``, ``seeds`` and ``methods``, by name.
    A method is two-in-one training, or ``search: true`` (no pruning), ``train: true`` (the dense supernet), or
    ``prune: CRITERION`` (with ``batches`` and ``rounds``); it may have ``settings`` of its own and ``retrain: EPOCHS``.

    Args:
        source: File, or name of a shipped sweep.
        changes: Values that replace its ``recipe``, ``ratios`` and ``seeds``.
        words: Command-line words for every run; they win over ``settings``, but not over those of a method.

    Raises:
        UserError: The file is missing, no YAML, or asks for what cannot work.
    """
    path = _find(source)
    data = _read(path) | dict(changes or {})
    _check_keys(data, _KEYS, str(path))
    methods = [
        _method(name, settings or {}, f"{path}: method '{name}'")
        for name, settings in _method_names(data, path).items()
    ]
    ratios = _numbers(data, "ratios", float, path) if any(method.has_ratio for method in methods) else [0.0]
    if wrong := [ratio for ratio in ratios if any(m.has_ratio for m in methods) and not 0 < ratio < 1]:
        raise UserError(f"{path}: ratio {wrong[0]:g} is no share of the weights, e.g. 0.9")
    seeds = _numbers(data, "seeds", int, path) if "seeds" in data else [0]
    recipes = data.get("recipe", [])
    recipes = [convert(name, str, f"{path}: recipe") for name in (recipes if isinstance(recipes, list) else [recipes])]
    common = (*_words(data.get("settings") or {}, f"{path}: settings"), *words)
    for some in (common, *(method.settings for method in methods)):
        reject_settings(some, ("seed",), str(path), "seeds (--seeds) set it")
        reject_settings(some, ("prune.ratio",), str(path), "ratios (--ratios) set it")
    stems = [Path(name).stem for name in dict.fromkeys(recipes)]
    titles = {name: name if stems.count(Path(name).stem) > 1 else Path(name).stem for name in recipes}
    points: list[Point] = []
    jobs: dict[str, Job] = {}
    for name in recipes:
        for seed in seeds:
            for method in methods:
                for ratio in ratios if method.has_ratio else [0.0]:
                    chain = _chain(method, name, (*common, "--seed", str(seed), *method.settings), ratio)
                    jobs |= {job.key: job for job in chain}
                    points.append(Point(titles[name], method.name, ratio, seed, chain[-1].key))
    if not points:
        raise UserError(f"sweep {source} has no recipe; name one with --recipe, or in the file, e.g. recipe: digits")
    return Plan(tuple(points), tuple(_in_order({job.key: job for job in share_prefixes(list(jobs.values()))})))


def _chain(method: Method, source: str, words: Sequence[str], ratio: float) -> list[Job]:
    """Return the jobs of one result: a training, then pruning or retraining of its ticket."""
    last = (
        NO_SEARCH_NO_PRUNING
        if method.kind == "train"
        else ("--prune.ratio", f"{ratio:g}" if method.kind == "draw" else "0")
    )
    recipe = _load(source, (*words, *last))
    if method.kind == "train":
        recipe = fixed_network(recipe)
    check_schedule(recipe)
    chain = [Job(command="train" if method.kind == "train" else "draw", recipe=recipe)]
    if method.kind == "prune":
        chain.append(Job(command="prune", options={"ratio": ratio, **method.prune}, parent=chain[-1].key))
    if method.retrain:
        chain.append(Job(command="retrain", options={"epochs": method.retrain}, parent=chain[-1].key))
    return chain


@functools.lru_cache(maxsize=1024)
def _load(source: str, words: tuple[str, ...]) -> Recipe:
    return load_recipe(source, words)


def share_prefixes(jobs: Sequence[Job]) -> list[Job]:
    """Train what draws have in common once, as trunks.

    Draws that differ in ``prune`` alone train alike until the first epoch in which their pruning differs
    (`schedule.pruning_timeline`). They become a tree: a trunk per common part, a branch per draw.

    Args:
        jobs: Draws that begin at their first epoch, and other jobs, which stay as they are.
    """
    families: dict[str, dict[str, Recipe]] = {}
    planned = []
    for job in jobs:
        # Epochs that minutes choose, and the way to a budget, are known when a draw begins, and not here.
        if job.command != "draw" or job.recipe is None or job.recipe.minutes is not None or job.recipe.budget.given:
            planned.append(job)
            continue
        rest = {k: v for k, v in job.recipe.to_json().items() if k not in ("name", "description", "prune")}
        families.setdefault(json.dumps(rest, sort_keys=True), {})[job.key] = job.recipe
    for draws in families.values():
        courses = {key: pruning_timeline(recipe) for key, recipe in draws.items()}
        planned += _extend_tree(list(draws), draws, courses, None, 0)
    return planned


def _extend_tree(
    keys: Sequence[str],
    draws: Mapping[str, Recipe],
    courses: Mapping[str, Sequence[tuple[object, ...]]],
    parent: str | None,
    done: int,
) -> Iterator[Job]:
    """Yield the tree of some draws that have the first ``done`` epochs in common, which ``parent`` has trained."""
    first = draws[keys[0]]
    if len(keys) == 1:
        yield Job(command="draw", recipe=first, parent=parent)
        return
    common = done
    while common < first.epochs and len({courses[key][common] for key in keys}) == 1:
        common += 1
    if common > done:
        trunk = Job(command="trunk", recipe=first, options={"until": common}, parent=parent)
        yield trunk
        parent = trunk.key
    groups: dict[object, list[str]] = {}
    for key in keys:
        groups.setdefault(courses[key][common] if common < first.epochs else key, []).append(key)
    for group in groups.values():
        yield from _extend_tree(group, draws, courses, parent, common)


def _in_order(jobs: Mapping[str, Job]) -> list[Job]:
    """Return the jobs with parents before children, else as given."""
    ordered: dict[str, Job] = {}

    def add(job: Job) -> None:
        if job.parent is not None and job.parent not in ordered:
            add(jobs[job.parent])
        ordered.setdefault(job.key, job)

    for job in jobs.values():
        add(job)
    return list(ordered.values())


def _method(name: str, entry: Any, where: str) -> Method:
    if not isinstance(entry, dict):
        raise UserError(f"{where} must be a mapping, e.g. {{prune: magnitude, retrain: 10}}")
    _check_keys(entry, _METHOD_KEYS, where)
    kinds = [kind for kind in ("search", "train", "prune") if entry.get(kind)]
    if len(kinds) > 1:
        raise UserError(f"{where} has both {kinds[0]} and {kinds[1]}; keep one")
    kind = kinds[0] if kinds else "draw"
    options = {key: entry[key] for key in ("batches", "rounds") if key in entry}
    if options and kind != "prune":
        raise UserError(f"{where} has {next(iter(options))}, which is for prune: CRITERION")
    if kind == "prune":
        find_criterion(str(entry["prune"]))
        options["criterion"] = str(entry["prune"])
    for key in ("batches", "rounds", "retrain"):
        if key in entry and (type(entry[key]) is not int or entry[key] < 1):
            raise UserError(f"{where}: {key} is {entry[key]!r}; the nearest possible is 1")
    words = _words(entry.get("settings") or {}, where)
    return Method(name=name, kind=kind, settings=words, prune=options, retrain=entry.get("retrain", 0))  # type: ignore[arg-type]


def _words(settings: Any, where: str) -> tuple[str, ...]:
    """Return settings, nested or dotted, as command-line words."""
    if not isinstance(settings, dict):
        raise UserError(f"{where} must hold settings as 'name: value'")
    return settings_as_words(settings, where)


def _find(source: str | Path) -> Path:
    """Return the file of a sweep; a shipped one is found by its name."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    if str(source) not in (known := list_sweeps()):
        raise UserError(f"there is no sweep '{source}'{suggest(str(source), known)}; or give a YAML file")
    return Path(str(resources.files("supertickets.recipes").joinpath(f"sweeps/{source}.yaml")))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = read_yaml(path.read_text())
    except FileNotFoundError:
        raise UserError(f"sweep file {path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read or is not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} must hold {', '.join(_KEYS)}")
    return data


def _method_names(data: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    methods = data.get("methods")
    if not isinstance(methods, dict) or not methods:
        raise UserError(f"{path} has no methods; name them, e.g. methods: {{two-in-one: {{}}}}")
    return {convert(name, str, f"{path}: name of a method"): entry for name, entry in methods.items()}


def _numbers(data: Mapping[str, Any], key: str, kind: type, path: str | Path) -> list[Any]:
    values = data.get(key)
    values = values if isinstance(values, list) else [] if values is None else [values]
    if not values or any(isinstance(n, bool) or not isinstance(n, (int, kind)) for n in values):
        raise UserError(f"{path}: {key} must be numbers, e.g. {key}: [{'0.5, 0.9' if kind is float else '0, 1, 2'}]")
    if len(set(values)) < len(values):
        raise UserError(f"{path}: {key} has a number twice")
    return [kind(n) for n in values]


def _check_keys(data: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in data:
        if key not in known:
            raise UserError(f"{where}: unknown '{key}'{suggest(str(key), known)}")
