"""Derive the recipes of runs that begin with a ticket, and keep the record of what went before."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from ..algorithms.transfer import head_settings
from ..config.data_sources import check_source, published_source
from ..config.loading import check_words, load_recipe, override_settings, recipe_from_json
from ..config.recipe import DistillSettings, PruneSettings, Recipe
from ..config.search_settings import BudgetSettings, ConnectBy
from ..config.stretch import stretch_schedule
from ..errors import UserError
from ..plugins import is_plugin
from ..pruning import find_criterion
from ..tasks import find_task
from ..ticket import Ticket

# A schedule that only matters to search and pruning must not stop a training without them.
NO_SEARCH_NO_PRUNING = ("--prune.ratio", "0", "--search.interval", "0", "--search.last_epoch", "null")
# What pruning in one shot has no use for, since it trains nothing; and the settings of pruning that it has.
PRUNE_PASSES_OVER = (
    "search.",
    "prune.",
    "supernet.",
    "optimizer.",
    "lr.",
    "distill.",
    "epochs",
    "minutes",
    "ema_decay",
)
PRUNE_WORDS = ("prune.criterion", "prune.batches", "prune.rounds")  # those that have a word of the command's own
PRUNE_USES = PRUNE_WORDS + tuple(
    f"prune.{name}"
    for name in (
        *("layer_floor", "exempt_below", "normalise", "transformer", "classifier", "stem", "depthwise"),
        *("scope", "group", "pattern"),
    )
)


def search_recipe(source: str, words: Sequence[str]) -> Recipe:
    """Return the recipe of a search: nothing is removed or pruned, so no runtime that skips zeros is searched for.

    Args:
        source: A shipped name or the path of a YAML file; for a runtime that skips zeros PyTorch takes its place.
        words: Command-line words, which win.
    """
    fixed = list(NO_SEARCH_NO_PRUNING)
    if load_recipe(source, fixed).budget.runtime == "sparse":
        fixed += ["--budget.runtime", "torch"]
    return load_recipe(source, [*fixed, *words])


def recipe_of(ticket: Ticket) -> Recipe:
    """Return the recipe a ticket was made by.

    Raises:
        UserError: It is damaged.
    """
    try:
        return recipe_from_json(ticket.about["recipe"])
    except (ArgumentError, KeyError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"the ticket's recipe cannot be read ({why}); it is damaged or of another version") from None


def fixed_network(recipe: Recipe) -> Recipe:
    """Return the recipe without search and pruning."""
    return dataclasses.replace(
        recipe,
        budget=BudgetSettings(),
        search=dataclasses.replace(recipe.search, interval=0, last_epoch=None, rho=0.0),
        prune=dataclasses.replace(recipe.prune, ratio=0.0),
    )


def check_budget_given(recipe: Recipe) -> None:
    """Check that a search has a target.

    Raises:
        UserError: The recipe limits nothing.
    """
    if not recipe.budget.given:
        raise UserError("a search needs a target: --budget.latency_ms, --budget.macs or --budget.params")


def with_search_method(recipe: Recipe, by: str | None) -> Recipe:
    """Return the recipe of a search for connections, with another way to find them.

    Raises:
        UserError: There is no such way.
    """
    if by is None:
        return recipe
    if by not in get_args(ConnectBy):
        raise UserError(f"--by {by} searches a space; connections are found by one of {', '.join(get_args(ConnectBy))}")
    return dataclasses.replace(recipe, connect=dataclasses.replace(recipe.connect, by=cast(ConnectBy, by)))


def subnet_recipe(recipe: Recipe, choices: Mapping[str, Any]) -> Recipe:
    """Return a recipe with a space, restated for training one network of it from fresh weights."""
    given = recipe.supernet.settings
    settings = {**given, "choices": {**given.get("choices", {}), **choices}}
    supernet = dataclasses.replace(recipe.supernet, settings=settings)
    return dataclasses.replace(fixed_network(recipe), supernet=supernet)


def scheme_recipe(recipe: Recipe, scheme: str) -> Recipe:
    """Return a recipe with a ResNet, restated for training the network of one connection scheme from fresh weights."""
    supernet = dataclasses.replace(recipe.supernet, settings={**recipe.supernet.settings, "scheme": scheme})
    return dataclasses.replace(fixed_network(recipe), supernet=supernet)


def reject_budget(recipe: Recipe, command: str) -> None:
    """Check that a recipe limits no cost where nothing is searched for it.

    Raises:
        UserError: It limits one.
    """
    for name in recipe.budget.given:
        raise UserError(f"{command} takes no budget.{name}; leave it out (draw and search take budgets)")


def retrain_recipe(ticket: Ticket, epochs: int, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe a ticket was made by, restated for training it further.

    The peak learning rate is a tenth of the recipe's, and its schedule is the same, over the new epochs: warm-up,
    milestones and intervals of a decay are stretched or shortened with them. Overrides win.

    Raises:
        UserError: A setting is unknown or impossible.
    """
    if epochs < 1:
        raise UserError(f"--epochs is {epochs}; the nearest possible is 1")
    nothing = "architecture and mask stay as they are"
    reject_settings(overrides, ("search.", "prune.", "supernet.", "policy.", "connect."), "retrain", nothing)
    made_by = fixed_network(recipe_of(ticket))
    fixed = dataclasses.replace(
        made_by,
        name=f"{made_by.name}-retrained",
        epochs=epochs,
        optimizer=dataclasses.replace(made_by.optimizer, lr=made_by.optimizer.lr / 10),
        lr=stretch_schedule(made_by.lr, epochs / made_by.epochs),
    )
    return override_settings(fixed, overrides)


def transfer_recipe(ticket: Ticket, source: str, overrides: Sequence[str] = (), head: Ticket | None = None) -> Recipe:
    """Return a recipe of the target, restated to train a ticket's features on its data: whole schedule, no search.

    Of the recipe's network, the settings of a fresh head are all that counts; the network of a ResNet's ticket is
    named as in the ticket's own recipe.

    Args:
        ticket: Ticket with the features.
        source: Name or file of the recipe.
        overrides: Command-line words; of the supernet only a fresh head has settings left to choose.
        head: Ticket with the head, if it is inherited.

    Raises:
        UserError: A setting is unknown, impossible or of no use.
    """
    recipe = load_recipe(source, [*NO_SEARCH_NO_PRUNING, *check_words(overrides)])
    reject_settings(overrides, ("search.", "prune."), "transfer", "architecture and mask stay as they are")
    fresh = head is None and recipe_of(ticket).task != recipe.task
    settings = head_settings(ticket)
    free = tuple(f"supernet.settings.{name}" for name in settings) if fresh else ()
    whose = "but the head, is the ticket's" if fresh else "the head too, is the tickets'"
    reject_settings(overrides, ("supernet.",), "transfer", f"the network, {whose}", free)
    supernet = recipe.supernet
    if ticket.spec.transfers_network:
        own = recipe_of(ticket).supernet  # its published weights are the ticket's by now
        supernet = dataclasses.replace(own, name=own.architecture, pretrained=False)
        if fresh:
            kept = {name: value for name, value in supernet.settings.items() if name not in ("head", *settings)}
            chosen = {name: value for name, value in recipe.supernet.settings.items() if name in settings}
            supernet = dataclasses.replace(supernet, settings=kept | chosen)
    elif supernet.family is not (own := recipe_of(ticket).supernet).family:  # the recipe's network does not matter
        chosen = {name: value for name, value in supernet.settings.items() if name in settings}
        supernet = dataclasses.replace(own, settings=chosen)
    return dataclasses.replace(recipe, name=f"{recipe.name}-from-{recipe_of(ticket).name}", supernet=supernet)


def prune_recipe(ticket: Ticket, ratio: float, criterion: str = "magnitude", overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe a ticket was made by, restated for pruning it in one shot.

    Args:
        ticket: Ticket to prune.
        ratio: Share of the maskable weights that is zero afterwards.
        criterion: Ranking of the weights, ``prune.criterion``. A ticket's own is never taken, since it may name code;
            its ``prune.normalise`` holds for magnitudes alone.
        overrides: Command-line words on the data, the device, the criterion and what is exempt from pruning; the
            recipe's own exemptions hold otherwise.

    Raises:
        UserError: A setting is unknown, impossible or of no use.
    """
    if not 0 < ratio < 1:
        raise UserError(f"--ratio is {ratio:g}; it is a share of the weights, e.g. 0.9")
    reject_settings(overrides, ("prune.ratio",), "prune", "the share of zeros is --ratio")
    reject_settings(overrides, PRUNE_PASSES_OVER, "prune", "nothing is trained", PRUNE_USES)
    made_by = fixed_network(recipe_of(ticket))
    once = dataclasses.replace(
        made_by.prune,
        criterion=criterion,
        batches=PruneSettings.batches,
        rounds=None,
        ratio=ratio,
        progressive=False,
        interval=1,
        normalise=made_by.prune.normalise if find_criterion(criterion).uses_magnitudes else "none",
    )
    alone = dataclasses.replace(made_by, name=f"{made_by.name}-pruned", prune=once, distill=DistillSettings())
    return override_settings(alone, overrides)


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return a recipe whose paths do not depend on the working directory: of data, boxes, table and teacher."""
    data, budget, distill = recipe.data, recipe.budget, recipe.distill
    boxes = data.boxes if data.boxes in ("truth", "detected") else str(Path(data.boxes).absolute())
    is_folder = distill.teacher not in (None, "", "ema") and Path(distill.teacher or "").exists()
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(data, dir=_absolute(data.dir), boxes=boxes),
        budget=dataclasses.replace(budget, table=_absolute(budget.table)),
        distill=dataclasses.replace(
            distill,
            teacher=_absolute(distill.teacher) if is_folder else distill.teacher,
            weights=_absolute(distill.weights),
        ),
    )


def with_data_dir(recipe: Recipe, data_dir: str | None) -> Recipe:
    """Return a recipe whose data lies elsewhere; None leaves it where it is.

    Raises:
        UserError: Its data comes with the package and lies nowhere.
    """
    if data_dir is None:
        return recipe
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, dir=data_dir))
    source = recipe.data.source
    if not is_plugin(source):
        check_source(published_source(source), recipe.data, find_task(recipe.task).rules.samples, recipe.task)
    return with_absolute_paths(recipe)


def _absolute(path: str | None) -> str | None:
    return str(Path(path).absolute()) if path else path


def lineage(ticket: Ticket) -> list[dict[str, Any]]:
    """Return every run that led to a ticket, the oldest first, its own last."""
    about, recipe = ticket.about, recipe_of(ticket)
    step = {
        "command": about.get("command"),
        "recipe": recipe.name,
        "seed": recipe.seed,
        "task": recipe.task,
        "data": recipe.data.source,
        "digest": about.get("data"),
        "classes": len(ticket.classes),
        "samples": about.get("samples"),
        "sparsity": ticket.cost.sparsity,
    }
    more = {key: about[key] for key in ("head", "pretrained", "criterion", "batches", "rounds") if key in about}
    return [*about.get("lineage", ()), step | more]


def reject_settings(
    words: Iterable[str], prefixes: tuple[str, ...], command: str, why: str, allowed: tuple[str, ...] = ()
) -> None:
    """Reject settings that a command has no use for.

    Args:
        words: Command-line words.
        prefixes: Beginnings of their names.
        command: Command that takes none of them.
        why: The reason, or what to do instead.
        allowed: Names that it takes all the same.

    Raises:
        UserError: Names the first such setting.
    """
    for word in check_words(words):
        name = word[2:].split("=")[0]
        if word.startswith("--") and name.startswith(prefixes) and name not in allowed:
            raise UserError(f"{command} takes no {name}: {why}")
