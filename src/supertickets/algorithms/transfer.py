"""Transfer: the features of one ticket under the head of another task or data set (Sec. 3.3, Table 2).

The features of a multi-resolution supernet are its stem and stages; those of a ResNet are its stem and blocks with
their attention modules; those of a network of other code are all but its classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..config.recipe import Recipe
from ..data import Preprocessing
from ..errors import UserError
from ..models import Head, Network, Spec, TransferTarget
from ..models.factory import create_spec
from ..ticket import Ticket


def head_settings(ticket: Ticket) -> tuple[str, ...]:
    """Return the settings of a recipe's supernet that a ticket's fresh head takes.

    Raises:
        UserError: The ticket's network cannot be parted into features and head.
    """
    settings = ticket.spec.head_settings
    if settings is None:
        raise UserError(
            f"transfer parts a network into features and head, which it cannot do with {ticket.spec}; "
            "take a ticket of another network, or train it further with retrain"
        )
    return settings


def check_transfer(ticket: Ticket, head: Ticket | None, recipe: Recipe) -> None:
    """Check that features, head and recipe can be joined, whatever the data is like.

    Raises:
        UserError: The ticket's network cannot be parted into features and head, or the head or the recipe is for
            another family than the features.
    """
    head_settings(ticket)
    ticket.spec.check_transfer(None if head is None else head.spec, recipe.supernet.name)


def join_specs(
    ticket: Ticket, head: Ticket | None, recipe: Recipe, wanted: Head, preprocessing: Preprocessing
) -> Callable[..., Spec]:
    """Return a function that makes the full network with a ticket's features and a head for the target.

    It takes what follows from the data. The head is that of ``head``; the ticket's own if it is for the same task; or
    else the recipe's.

    Args:
        ticket: Ticket with the features.
        head: Ticket with the head, if it is inherited.
        recipe: The target's settings.
        wanted: Kind of head that the target needs.
        preprocessing: Channels and size of the target's images.

    Raises:
        UserError: The features cannot serve the target, or the head does not fit them.
    """
    spec = ticket.spec
    if spec.in_channels != preprocessing.channels:
        raise UserError(
            f"the ticket's features take images of {spec.in_channels} channels, those of {recipe.name} have "
            f"{preprocessing.channels}; take a ticket that was drawn on such images"
        )
    target = TransferTarget(
        name=recipe.name,
        network=recipe.supernet.name,
        settings=recipe.supernet.settings,
        head=wanted,
        image_size=preprocessing.size,
        create=create_spec,
    )
    return spec.join_head(None if head is None else head.spec, target)


def join_tickets(
    full: Spec,
    features: Ticket,
    head: Ticket | None,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    seed: int,
) -> Ticket:
    """Join features and head, each with its weights, statistics and mask.

    Without a head's ticket the features keep their own if the task is the same, but for the classifier; for another
    task the head is that of the full supernet, with fresh weights. What is fresh stays dense: nothing has been learned
    that could be ranked. It counts as maskable all the same, so that the sparsity is that of the whole network.

    Args:
        full: The network with the wanted head, and all units that features and head may have lost.
        features: Ticket with everything in front of the head.
        head: Ticket with everything behind that, classifier included.
        classes: Names of the outputs.
        preprocessing: Steps from an image to an input.
        seed: Seed of fresh weights.

    Returns:
        A ticket that has not been trained as a whole yet.
    """
    behind = head or (features if features.spec.head == full.head else None)
    spec = full.join_units(features.spec, behind.spec if behind else full)
    torch.manual_seed(seed)
    module = spec.build()
    layers = _classifier_layers(module)

    def is_classifier(name: str) -> bool:
        return name.startswith(layers) and not module.is_feature(name)

    def giver(name: str) -> Ticket | None:
        if module.is_feature(name):
            return features
        return head if is_classifier(name) else behind

    weights: dict[str, Tensor] = {}
    for name, fresh in module.state_dict().items():
        ticket = giver(name)
        weights[name] = fresh if ticket is None else ticket.weights[name]
        if weights[name].shape != fresh.shape:
            raise UserError(
                f"the ticket's {name} {tuple(weights[name].shape)} does not fit images of "
                "{1} x {2} pixels, which make it".format(*spec.input_shape)
                + f" {tuple(fresh.shape)}; set data.size to the ticket's {features.spec.image_size[0]}"
            )
    givers = [ticket for ticket in (features, behind) if ticket is not None]
    masks = [ticket.mask for ticket in givers if ticket.mask]
    mask: dict[str, Tensor] = {}
    if masks:
        masked = [name for names in masks for name in names]
        transformer, classifier = any(".tokens." in name for name in masked), any(map(is_classifier, masked))
        for name in module.maskable_weights(transformer=transformer, classifier=classifier):
            ticket = giver(name)
            known: Mapping[str, Tensor] = {} if ticket is None else ticket.mask
            mask[name] = known[name] if name in known else torch.ones_like(weights[name], dtype=torch.bool)
    return Ticket(spec, weights, mask, classes, preprocessing, {})


def _classifier_layers(module: Network) -> tuple[str, ...]:
    """Return the prefixes of the names of what makes the scores: the layers that pruning spares unless it is told."""
    names = set(module.maskable_weights(classifier=True)) - set(module.maskable_weights())
    return tuple(f"{name.rpartition('.')[0]}." for name in names)
