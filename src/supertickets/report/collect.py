"""Records of runs and sweeps, side by side: plain data, no network is loaded and nothing is drawn."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..plugins import check_trust, is_plugin
from ..storage import read_json
from ..sweeps.results import COSTS, format_ratio, result_rows
from ..sweeps.sweep import Point
from ..tasks import Metric, find_task, primary_metric
from ..training.run_dir import check_format
from .roles import Role, chosen_settings, command_of, identity, method_name, recipe_name, role_of

_NAMED_OPEN = 5  # results of a sweep that are not finished and named one by one


@dataclass(frozen=True)
class Step:
    """One training or pruning on the way to a ticket.

    Attributes:
        key: Key that is equal for steps that several tickets have in common.
        samples: Image passes.
        seconds: Training time, if it is known.
    """

    key: str
    samples: int
    seconds: float | None


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Directory, as the user reaches it.
        row: Names, metrics on both splits and costs, as `results.result_rows` has them.
        about: Record of the run.
        origin: Record of the training that it goes back to, its own perhaps; None if that is not known.
        steps: Steps to its ticket, the oldest first.
        commands: (directory, command) of every step whose directory is known, its own last.
        in_sweep: Whether it is part of a sweep, which then chose its name.
        metric: Metric of its task.
    """

    folder: Path
    row: Mapping[str, Any]
    about: Mapping[str, Any]
    origin: Mapping[str, Any] | None
    steps: tuple[Step, ...]
    commands: tuple[tuple[str, str], ...]
    in_sweep: bool
    metric: Metric

    @property
    def method(self) -> str:
        """Name of its method."""
        return str(self.row["method"])

    @property
    def ratio(self) -> float:
        """The sparsity that was asked for; 0 where there is none."""
        return float(self.row["ratio"])

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.row["seed"])


@dataclass(frozen=True)
class Comparison:
    """Runs that may be compared: one recipe, one metric, the same data.

    Attributes:
        title: Heading in the report.
        metric: Metric that is shown first.
        runs: Runs, as given.
    """

    title: str
    metric: Metric
    runs: tuple[Run, ...]

    @property
    def methods(self) -> dict[str, list[Run]]:
        """Runs by method, in the order in which they were given."""
        by_method: dict[str, list[Run]] = {}
        for run in self.runs:
            by_method.setdefault(run.method, []).append(run)
        return by_method

    @property
    def ratios(self) -> list[float]:
        """All ratios that were asked for."""
        return sorted({run.ratio for run in self.runs})

    @property
    def seeds(self) -> list[int]:
        """All seeds."""
        return sorted({run.seed for run in self.runs})

    def roles(self) -> dict[str, Role]:
        """Return the role of every method."""
        return {name: role_of(runs[0].about) for name, runs in self.methods.items()}

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of every method, as far as they are known."""
        return {name: chosen_settings(runs[0].about, runs[0].origin) for name, runs in self.methods.items()}


@dataclass(frozen=True)
class Study:
    """All runs of a report.

    Attributes:
        comparisons: Comparison per recipe, metric and data.
        left_out: Reasons why runs are missing, a line each.
    """

    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for comparison in self.comparisons for run in comparison.runs]


def collect(sources: Sequence[Path], trust: Sequence[str] = ()) -> Study:
    """Read runs and sweeps.

    Args:
        sources: Directories of runs and sweeps.
        trust: Modules that may be imported if a run's task is in them; other runs of own tasks are left out.

    Raises:
        UserError: One is neither, is damaged, or nothing is finished.
    """
    left_out: list[str] = []
    entries: list[tuple[Path, Run]] = []
    for source in sources:
        if (source / "points.json").is_file():
            entries += [(source, run) for run in _sweep(source, left_out)]
        elif (source / "run.json").is_file():
            entries += [(source, run) for run in _single_run(source, left_out)]
        elif source.is_dir():
            raise UserError(f"{source} is neither a run nor a sweep (no run.json, no points.json); give its --out")
        else:
            raise UserError(f"{source} does not exist; give the --out of a draw, a training or a sweep")
    runs = _drop_duplicates(_with_unique_names(_with_metrics(entries, trust, left_out)), left_out)
    if not runs:
        raise UserError(f"nothing to report: {left_out[0] if left_out else 'there is no run'}")
    return Study(tuple(_comparisons(runs)), tuple(left_out))


def _sweep(root: Path, left_out: list[str]) -> list[Run]:
    finished, open_ = [], []
    for entry in _read(root / "points.json"):
        try:
            point = Point(**entry)
        except TypeError as error:
            raise UserError(f"{root}/points.json is damaged ({error}); run the sweep again") from None
        if (root / point.key / "result.json").exists():
            finished.append(_run(root / point.key, point, in_sweep=True))
        else:
            ratio = f", {format_ratio(point.ratio)}" if point.ratio else ""
            open_.append(f"{root / point.key} ({point.method}{ratio}, seed {point.seed}) is not finished")
    left_out += open_[:_NAMED_OPEN]
    if len(open_) > _NAMED_OPEN:
        left_out.append(f"{len(open_) - _NAMED_OPEN} more results of {root} are not finished")
    return finished


def _single_run(folder: Path, left_out: list[str]) -> list[Run]:
    about = _read(folder / "run.json")
    check_format(about, folder / "run.json")
    if not (folder / "result.json").exists():
        left_out.append(f"{folder} is not finished; go on with: supertickets resume {folder}")
        return []
    if about.get("command") == "shared_prefix":
        left_out.append(f"{folder} is the shared prefix of a sweep, which has no ticket")
        return []
    try:
        asked = about["recipe"]["prune"]["ratio"]
        # Training a ticket further keeps its mask, and asks for no ratio itself.
        ratio = asked or round(_read(folder / "result.json")["sparsity"], 3)
        point = Point(recipe_name(about), method_name(about), ratio, about["recipe"]["seed"], folder.name)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}/run.json is damaged or of another version ({error!r}); leave it out") from None
    return [_run(folder, point, in_sweep=False)]


def _run(folder: Path, point: Point, in_sweep: bool) -> Run:
    about = _read(folder / "run.json")
    check_format(about, folder / "run.json")
    try:
        steps = _steps(folder)
        (row,) = result_rows([dataclasses.replace(point, key=folder.name)], folder.parent)
        if wrong := [name for name, value in row.items() if _is_figure(name) and not _is_number(value)]:
            raise ValueError(f"{wrong[0]} is no number")
        if type(row["seed"]) is not int:
            raise ValueError("seed is no whole number")
        seconds = [step.seconds for step in steps]
        row["samples"] = sum(step.samples for step in steps)
        row["seconds"] = None if None in seconds else round(sum(s for s in seconds if s is not None), 3)
        metric = primary_metric(name.removeprefix("test_") for name in row) or Metric("", "")
        return Run(folder, row, about, _origin(folder), tuple(steps), tuple(_commands(folder)), in_sweep, metric)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise UserError(f"{folder} is damaged or of another version ({error!r}); leave it out") from None


def _is_figure(column: str) -> bool:
    return column.startswith(("test_", "validation_")) or column in ("ratio", *COSTS)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _steps(folder: Path) -> list[Step]:
    """Return the steps to a ticket; where the directory of an earlier step is unknown, as the run's record has them."""
    result, about = _read(folder / "result.json"), _read(folder / "run.json")
    own = Step(str(folder.resolve()), result["samples"], result["seconds"])
    if (parent := _parent(folder)) is not None:
        return [*_steps(parent), own]
    lineage = (about.get("metadata") or {}).get("lineage", ())
    earlier = [Step(json.dumps(lineage[: i + 1]), step["samples"], None) for i, step in enumerate(lineage)]
    return [*earlier, own]


def _commands(folder: Path) -> list[tuple[str, str]]:
    parent, about = _parent(folder), _read(folder / "run.json")
    if parent is None:
        return [(str(folder), command_of(about, str(folder)))]
    return [*_commands(parent), (str(folder), command_of(about, str(folder), str(parent), alone=False))]


def _origin(folder: Path) -> Mapping[str, Any] | None:
    parent, about = _parent(folder), _read(folder / "run.json")
    if parent is not None:
        return _origin(parent)
    return None if (about.get("metadata") or {}).get("lineage") else dict(about)


def _parent(folder: Path) -> Path | None:
    path = folder / "parent.json"
    return folder.parent / _read(path) if path.exists() else None


def _with_metrics(
    entries: Sequence[tuple[Path, Run]], trust: Sequence[str], left_out: list[str]
) -> list[tuple[Path, Run]]:
    """Give runs of a user's own task its metric; without trust, or the code, or a score, they are left out."""
    known = []
    for source, run in entries:
        task = run.about["recipe"].get("task")
        try:
            if is_plugin(task):
                check_trust([task], trust, f"run {run.folder}")
            if is_plugin(task) or not run.metric.name:
                run = dataclasses.replace(run, metric=find_task(task or "classification").metric)
            for split in ("validation", "test"):
                if f"{split}_{run.metric.name}" not in run.row:
                    lacks = f"{run.folder} has no {run.metric.display_name}"
                    raise UserError(f"{lacks}: nothing in its {split} split counts; add data")
        except UserError as error:
            left_out.append(str(error))
            continue
        known.append((source, run))
    return known


def _with_unique_names(entries: Sequence[tuple[Path, Run]]) -> list[Run]:
    """Give single runs the names that a sweep has for their settings; tell equal names apart by directory."""
    known: dict[tuple[str, str], str] = {}
    for _, run in entries:
        if run.in_sweep:
            known.setdefault((run.row["recipe"], identity(run.about)), run.method)
    named = []
    for source, run in entries:
        method = run.method if run.in_sweep else known.get((run.row["recipe"], identity(run.about)), run.method)
        named.append((source, dataclasses.replace(run, row={**run.row, "method": method})))
    first: dict[tuple[str, str], dict[str, Path]] = {}
    for source, run in named:
        first.setdefault((run.row["recipe"], run.method), {}).setdefault(identity(run.about), source)
    clear = []
    for _, run in named:
        origins = first[run.row["recipe"], run.method]
        if len(set(origins.values())) > 1:
            method = f"{run.method} ({_tell_apart(origins.values())[origins[identity(run.about)]]})"
            run = dataclasses.replace(run, row={**run.row, "method": method})
        clear.append(run)
    return clear


def _tell_apart(folders: Iterable[Path]) -> dict[Path, str]:
    """Return the shortest ends of some paths that are all different."""
    parts = {folder: folder.resolve().parts for folder in folders}
    for count in range(1, 1 + max(map(len, parts.values()))):
        ends = {folder: "/".join(words[-count:]) for folder, words in parts.items()}
        if len(set(ends.values())) == len(set(parts.values())):
            break
    return ends


def _drop_duplicates(runs: Sequence[Run], left_out: list[str]) -> list[Run]:
    """Drop runs that are given twice, so that no seed counts twice."""
    kept: dict[tuple[str, ...], Run] = {}
    for run in runs:
        # As texts: strangers' files may have a list where a name belongs.
        names = run.row["recipe"], run.method, run.ratio, run.seed, run.about.get("data"), identity(run.about)
        at = tuple(map(repr, names))
        first = kept.setdefault(at, run)
        if first.folder.resolve() != run.folder.resolve():
            left_out.append(f"{run.folder} has method, ratio and seed of {first.folder}, which counts")
    return list(kept.values())


def _comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """Separate runs that cannot be compared: other recipes, metrics or data."""
    groups: dict[tuple[str, Metric, str], list[Run]] = {}
    for run in runs:
        data = str(run.about.get("data"))
        groups.setdefault((run.row["recipe"], run.metric, data), []).append(run)
    names = [recipe for recipe, *_ in groups]
    return [
        Comparison(f"{recipe} (data {data[:8]})" if names.count(recipe) > 1 else recipe, metric, tuple(some))
        for (recipe, metric, data), some in groups.items()
    ]


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); leave that run out") from None
