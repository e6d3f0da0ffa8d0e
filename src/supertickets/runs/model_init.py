"""Choose the network that a run begins with, fitted to its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..config.recipe import Recipe
from ..cost import count
from ..data import Splits
from ..errors import UserError
from ..models import MobileSpec, ResNetSpec, Spec, require_mobile, require_resnet
from ..models.factory import create_spec, list_spaces
from ..nas import can_be_scored
from ..plugins import recipe_trust
from ..tasks import Task, find_task
from ..ticket import Ticket, check_classes, check_data
from ..training import Session, TrainState, initial_state

# What a run begins with, given its recipe and its data: a full supernet, or a network with weights and mask.
ModelInit = Callable[[Recipe, Splits], Spec | Ticket]
MOST_BLOCKS = 16  # of a network whose connection schemes can all be judged
_INSTEAD = {"in_channels": "", "image_size": " and set data.size", "num_classes": ""}


def supernet_for(recipe: Recipe, splits: Splits) -> Spec:
    """The network that a training begins with, fitted to the data: channels, size and classes."""
    spec = _network(recipe, splits)
    if spec.is_search_space():
        name = recipe.supernet.name
        raise UserError(
            f"supernet.name {name} is a space of networks: search it (supertickets search), or take one of its "
            "networks, e.g. mobilenet_v2, or ticket:RUN of a search"
        )
    return spec


def space_for(recipe: Recipe, splits: Splits) -> MobileSpec:
    """The space that a policy search explores, fitted to the data."""
    spec = _network(recipe, splits)
    if not spec.is_search_space():
        raise UserError(
            f"supernet.name {recipe.supernet.name} leaves nothing open that a policy could decide; take one of "
            f"{', '.join(list_spaces())}, or draw"
        )
    given = recipe.supernet.settings.get("choices", {})
    if any(name.endswith(".skip") and answer is True for name, answer in given.items()):
        raise UserError("supernet.settings.choices of a search may not leave layers out; leave their .skip open")
    return require_mobile(spec)


def searches_connections(recipe: Recipe) -> bool:
    """Return whether a search of the network is one for connections: that of a ResNet, by name or as a ticket."""
    if (folder := recipe.supernet.ticket) is None:
        return recipe.supernet.family.search == "connections"
    return Ticket.from_pretrained(folder, recipe_trust(recipe.to_json())).spec.search == "connections"


def connection_supernet(recipe: Recipe, splits: Splits) -> ResNetSpec:
    """The ResNet whose connection schemes are searched, fitted to the data."""
    spec = require_resnet(_network(recipe, splits))
    if spec.attention is not None and not any(spec.connected):
        raise UserError("supernet.settings.scheme connects no block; leave it out, then all schemes are searched")
    if spec.attention is None:
        raise UserError(
            f"supernet.name {recipe.supernet.name} has no attention module to connect; set "
            "supernet.settings.attention, e.g. to se"
        )
    check_search_method(spec, recipe, make_task(recipe, splits))
    return spec


def check_search_method(spec: ResNetSpec, recipe: Recipe, task: Task) -> None:
    """Refuses a way to find connections that cannot work, before anything trains.

    Raises:
        UserError: Says what the way needs.
    """
    by, blocks, settings = recipe.connect.by, sum(spec.connected), recipe.connect
    if by == "all" and blocks > MOST_BLOCKS:
        raise UserError(f"--by all judges 2^{blocks} schemes; with more than {MOST_BLOCKS} blocks take another --by")
    if by == "all" and not task.sees_images_once:
        raise UserError(
            "--by all judges images that go through the network once, as they are, which joints do not: take another "
            "--by; for masks set segmentation.window to null"
        )
    if by in ("all", "darts") and settings.statistics == "recalibrated":
        raise UserError(f"--by {by} cannot measure batch norms for every scheme; set connect.statistics to running")
    if by == "darts" and settings.statistics == "batch":
        raise UserError("--by darts needs connect.statistics running")
    if by == "darts" and spec.head != "classification":
        raise UserError(f"--by darts is for classification, the data is for {spec.head}; take another --by")
    if by in ("l1", "median") and spec.sharing == "stage":
        raise UserError(f"--by {by} ranks modules, but the blocks of a stage share one; take another --by")
    if by == "median" and spec.attention == "sge":
        raise UserError("--by median compares filters, and sge has none; take another --by")
    if by in ("l1", "median") and not any(can_be_scored(*named) for named in spec.build().attention.named_parameters()):
        raise UserError(f"--by {by} ranks modules by weights, and {spec.attention} has none; take another --by")


def _network(recipe: Recipe, splits: Splits) -> Spec:
    name, settings = recipe.supernet.architecture, network_settings(recipe)
    for key, value in _fitted_to_data(splits).items():
        if key in settings:
            raise UserError(f"supernet.settings.{key} follows from the data ({value}); leave it out{_INSTEAD[key]}")
    if "transformer" in settings:
        raise UserError("supernet.settings.transformer is no setting; set supernet.transformer instead")
    if (folder := recipe.supernet.ticket) is not None:
        architecture = Ticket.from_pretrained(folder, recipe_trust(recipe.to_json())).spec
        return fitted_spec(lambda **fitted: architecture.refit(settings, fitted), recipe, splits)
    return fitted_spec(partial(create_spec, name, transformer=recipe.supernet.transformer, **settings), recipe, splits)


def network_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of a recipe's network, with the head that its task needs where the family leaves it open."""
    chosen = {"head": find_task(recipe.task).head} if recipe.supernet.family.head_by_task else {}
    return chosen | recipe.supernet.settings


def _fitted_to_data(splits: Splits) -> dict[str, Any]:
    """Return the settings that follow from the data."""
    shape = splits.preprocessing
    return {"in_channels": shape.channels, "image_size": shape.size, "num_classes": len(splits.classes)}


def fitted_spec(make: Callable[..., Spec], recipe: Recipe, splits: Splits) -> Spec:
    """The spec of a network for some data.

    Args:
        make: Takes what follows from the data: ``in_channels``, ``image_size``, ``num_classes``.
        recipe: Says what is learned, and the settings for messages.
        splits: The data.

    Raises:
        UserError: The settings make no network, or one for another task.
    """
    try:
        spec = make(**_fitted_to_data(splits))
        count(spec)
    except UserError:  # it names the setting itself
        raise
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"the settings supernet.settings {recipe.supernet.settings} make no network ({why})") from None
    if spec.head != (wanted := make_task(recipe, splits).head):
        other = f"set supernet.settings.head to {wanted}, or " if wanted in spec.heads else ""
        if recipe.supernet.ticket is not None:
            other = "move its features (supertickets transfer), or "
        raise UserError(
            f"supernet.name {recipe.supernet.name} has a head for {spec.head}, the data is for {wanted}; "
            f"{other}take another supernet"
        )
    return spec


def make_task(recipe: Recipe, splits: Splits) -> Task:
    """Return the task of a recipe, with the names that the data has."""
    return find_task(recipe.task).from_recipe(splits.classes, recipe.to_json(), splits.limbs)


def init_from_ticket(ticket: Ticket) -> ModelInit:
    """A run that begins with a ticket, on data of the kind that it was made with."""

    def beginning(recipe: Recipe, splits: Splits) -> Ticket:
        check_data("the ticket", ticket, splits)
        if ticket.preprocessing.size != splits.preprocessing.size:
            size = ticket.spec.image_size
            raise UserError("the ticket's size of images is {} x {}, set data.size to it".format(*size))
        return ticket

    return beginning


def init_from_search(folder: Path) -> ModelInit:
    """A search for connections that begins with the trained network of another one.

    Args:
        folder: Of that network.
    """

    def beginning(recipe: Recipe, splits: Splits) -> Ticket:
        if not folder.is_dir():
            raise UserError(
                f"{folder.parent} is no search for connections that has trained its network: no {folder.name}/"
            )
        trust = recipe_trust(recipe.to_json())
        ticket, spec = Ticket.from_pretrained(folder, trust), connection_supernet(recipe, splits)
        check_classes(f"the network of {folder.parent}", ticket, splits)
        for name, value in dataclasses.asdict(spec).items():
            if value != (trained := getattr(ticket.spec, name, None)):
                raise UserError(
                    f"{folder.parent} has trained a network of {name} {trained}, the recipe asks for {value}"
                )
        if ticket.about.get("data") != splits.digest():
            raise UserError(
                f"the data is not what {folder.parent} was trained on, or is split otherwise: schemes would be judged "
                "by what was learned; take its data settings"
            )
        return ticket

    return beginning


def state_from_ticket(ticket: Ticket, session: Session) -> TrainState:
    """A ticket as the beginning of a training."""
    state = initial_state(ticket.spec, session.recipe, session.runtime.device)
    state.module.load_state_dict(dict(ticket.weights))
    if state.ema is not None:
        for name, value in state.ema.tensors.items():
            value.copy_(ticket.weights[name])
    mask = {name: flags.to(session.runtime.device) for name, flags in ticket.mask.items()}
    state.sparse = dataclasses.replace(state.sparse, mask=mask, ratio=ticket.cost.sparsity)
    return state
