"""The trial of a connection search: its candidates trained alone, beside both ends (LTH4SA, Sec. V)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ..algorithms.connection_search import SHARED_DIR
from ..config.loading import override_settings
from ..config.recipe import Recipe, flatten
from ..errors import UserError
from ..models import ResNetSpec, require_resnet
from ..plugins import recipe_trust, trusted
from ..runs.api import load_or_run, train
from ..runs.derive import recipe_of, reject_settings, scheme_recipe
from ..ticket import Ticket, load
from .connection_schemes import time_networks, without_connections

ALONE = "alone"  # in the run's directory: a run per scheme


@dataclass(frozen=True)
class TrainedScheme:
    """A network that was trained alone.

    Attributes:
        scheme: Connections of the network.
        validation: Primary metric on the validation split, signed so that more is better.
        test: Primary metric on the test split, likewise.
        params: Parameters.
        percent: Relative inference time increment (Eq. 7); 0 without connections.
    """

    scheme: str
    validation: float
    test: float
    params: int
    percent: float


def choose_schemes(tried: Sequence[TrainedScheme]) -> TrainedScheme:
    """Return the scheme that is best on the validation split; of equals the first."""
    return max(tried, key=lambda one: one.validation)


def ticket_verdict(one: TrainedScheme, full: TrainedScheme, *, shared: bool) -> dict[str, bool]:
    """Check the conditions of a ticket against the network with all connections (Sec. II-B); the test split judges.

    Where the blocks of a stage share a module, it may be as large.
    """
    conditions = {
        "sparser": one.scheme.count("1") < full.scheme.count("1"),
        "faster": one.percent < full.percent,
        "smaller": one.params < full.params + shared,
        "as_accurate": one.test >= full.test,
    }
    return conditions | {"ticket": all(conditions.values())}


def resnet_spec(ticket: Ticket) -> ResNetSpec:
    """Return the spec of a ResNet's ticket."""
    return require_resnet(ticket.spec)


def train_candidates(
    run: Path,
    words: Sequence[str] = (),
    batch: int = 10,
    repeats: int = 30,
    threads: int = 1,
    trust: Iterable[str] = (),
) -> dict[str, Any]:
    """Train the candidates of a search, and the networks with all and without connections, each from fresh weights.

    What is finished is not repeated.

    Args:
        run: Directory of the search; the runs go below it.
        words: Overrides of the search's recipe.
        batch: Images per call, where times are measured.
        repeats: Timing repetitions.
        threads: CPU threads, where times are measured.
        trust: Modules that may be imported if the search names them; those that ``words`` name are trusted.

    Returns:
        ``networks`` as in `TrainedScheme`, the last two with all and without connections; ``chosen``, the scheme
        that is best on the validation split; its `ticket_verdict` as ``verdict``; and the ``metric``.

    Raises:
        UserError: The run is no search for connections, it names code that is not trusted, or a setting cannot work.
    """
    trust = trusted(trust)
    searched = load(run, trust)
    connected = searched.about.get("connection_search")
    if connected is None:
        raise UserError(f"{run} is no search for connections; begin with supertickets search")
    kept = ("search.", "prune.", "connect.", "supernet.")
    reject_settings(words, kept, "schemes --train", "it trains what was found")
    recipe = override_settings(recipe_of(searched), words)
    space = resnet_spec(Ticket.from_pretrained(run / SHARED_DIR, trust))
    ends = (space.scheme, without_connections(space).scheme)
    candidates = [row["scheme"] for row in connected["candidates"]]
    schemes = [*(scheme for scheme in candidates if scheme not in ends), *ends]
    folder = run / ALONE
    made = {s: _train_alone(folder / s.replace("|", "-"), scheme_recipe(recipe, s)) for s in schemes}
    specs = {scheme: resnet_spec(made[scheme]) for scheme in (ends[1], *schemes)}
    longer = time_networks(specs, batch, repeats, threads)
    metric = searched.task.metric

    def tried(scheme: str) -> TrainedScheme:
        ticket = made[scheme]
        validation, test = (metric.sign * float(ticket.about[s][metric.name]) for s in ("validation", "test"))
        percent = longer[scheme].percent if scheme in longer else 0.0
        return TrainedScheme(scheme, validation, test, ticket.cost.params, percent)

    rows = {scheme: tried(scheme) for scheme in schemes}
    chosen = choose_schemes([rows[scheme] for scheme in candidates])
    return {
        "metric": metric.name,
        "networks": [asdict(row) for row in rows.values()],
        "chosen": chosen.scheme,
        "verdict": ticket_verdict(chosen, rows[ends[0]], shared=space.sharing == "stage"),
    }


def _train_alone(out: Path, recipe: Recipe) -> Ticket:
    """Train a network by a recipe; a finished run is taken if it was trained so."""
    ticket = load_or_run(out, partial(train, recipe), recipe_trust(recipe.to_json()))
    made = flatten(recipe_of(ticket).to_json())
    for name, value in flatten(recipe.to_json()).items():
        if value is not None and made[name] != value:  # null was left to the run
            raise UserError(f"{out} has {name} {made[name]}, not {value}; remove {out.parent} to train all anew")
    return ticket


def trial_table(trial: Mapping[str, Any]) -> Table:
    """Return a table with a row per network, the last two with all and without connections, and the verdict below."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left", caption=_sentence(trial))
    table.add_column("scheme", no_wrap=True)
    for heading in (f"validation {trial['metric']}", f"test {trial['metric']}", "parameters", "longer than none, %"):
        table.add_column(heading, justify="right")
    for row in trial["networks"]:
        figures = (abs(row["validation"]), abs(row["test"]))
        cells = [f"{value:.2f}" for value in figures] + [f"{row['params']:,}", f"{row['percent']:.1f}"]
        table.add_row(row["scheme"], *cells, style="bold" if row["scheme"] == trial["chosen"] else None)
    return table


def _sentence(trial: Mapping[str, Any]) -> str:
    conditions = {name.replace("_", " "): holds for name, holds in trial["verdict"].items() if name != "ticket"}
    fails = [name for name, holds in conditions.items() if not holds]
    what = f"is no ticket: not {', not '.join(fails)}" if fails else f"is a ticket: {', '.join(conditions)}"
    return f"{trial['chosen']} {what}, beside all connected (accuracy on the test split, time on this device)"
