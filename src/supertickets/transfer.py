"""Transfer: stem and stages of one ticket under the head of another task or data set (Sec. 3.3, Table 2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .data import Preprocessing
from .errors import UserError
from .recipe import Recipe
from .supernets import Head, HRNet, HRNetSpec, create_spec
from .ticket import Ticket

# Settings of a supernet that belong to its head.
HEAD_SETTINGS = ("head_channels", "last_channels", "dropout", "init_std")
_FEATURE_SETTINGS = ("stem_channels", "stem_strides", "channels", "blocks", "expansion", "tokens")


def joined_settings(
    ticket: Ticket, head: Ticket | None, recipe: Recipe, wanted: Head, preprocessing: Preprocessing
) -> dict[str, Any]:
    """Settings of a full supernet with a ticket's stem and stages, and a head for the target.

    The head is that of ``head``; the ticket's own if it is for the same task; or else the recipe's.

    Args:
        ticket: Gives stem and stages.
        head: Gives the head, if it is inherited.
        recipe: The target's settings.
        wanted: The kind of head that the target needs.
        preprocessing: What the target's pictures are like.

    Raises:
        UserError: The features cannot serve the target, or the head does not fit them.
    """
    features = spec_with_stages(ticket)
    if features.in_channels != preprocessing.channels:
        raise UserError(
            f"the ticket's features take pictures of {features.in_channels} channels, those of {recipe.name} have "
            f"{preprocessing.channels}; take a ticket that was drawn on such pictures"
        )
    settings = {name: getattr(features, name) for name in _FEATURE_SETTINGS} | dataclasses.asdict(features.style)
    behind = features if head is None else spec_with_stages(head)
    if behind.head == wanted:
        check_join(features, behind)
        return settings | {name: getattr(behind, name) for name in ("head", *HEAD_SETTINGS)}
    if head is not None:
        raise UserError(f"--head is a ticket for {behind.head}, the data is for {wanted}; take one of that task")
    chosen = {name: value for name, value in recipe.supernet.settings.items() if name in HEAD_SETTINGS}
    usual = create_spec(recipe.supernet.name, image_size=preprocessing.size)
    assert isinstance(usual, HRNetSpec)
    branches, widths = len(features.channels[-1]), chosen.get("head_channels", usual.head_channels)
    if wanted == "classification" and len(widths) != branches:
        raise UserError(
            f"the head of {recipe.name} is for {len(widths)} branches (of {list(widths)} channels), the ticket's "
            f"features have {branches}; set supernet.settings.head_channels to {branches} numbers"
        )
    return settings | {"head": wanted} | chosen


def spec_with_stages(ticket: Ticket) -> HRNetSpec:
    """The spec of a ticket that can be parted into stem, stages and head.

    Raises:
        UserError: It is of another family.
    """
    if not isinstance(ticket.spec, HRNetSpec):
        raise UserError(
            f"transfer joins stem and stages of a supernet with a head, which {ticket.spec} has not; "
            "take a ticket of a supernet, or train it further with retrain"
        )
    return ticket.spec


def check_join(features: HRNetSpec, head: HRNetSpec) -> None:
    """Refuses a head that was trained over other maps than the features make.

    Raises:
        UserError: Names the first difference.
    """
    has_tokens = any(units.tokens for name, units in head.units.items() if not _of_features(name))
    pairs: list[tuple[str, Any, Any]] = [
        ("branches", len(features.channels[-1]), len(head.channels[-1])),
        ("channels of the last stage", features.channels[-1], head.channels[-1]),
        ("stem strides", features.stem_strides, head.stem_strides),
        ("kernels", features.style.kernels, head.style.kernels),
        ("expansion", features.expansion, head.expansion),
        *([("grid", features.style.grid, head.style.grid)] if has_tokens else []),
        *([("tokens", features.tokens, head.tokens)] if has_tokens else []),
    ]
    for what, ours, theirs in pairs:
        if ours != theirs:
            raise UserError(
                f"the head does not fit the features: its ticket has {what} {_told(theirs)}, theirs has {_told(ours)}; "
                "draw both from supernets with the same stem and stages, or leave --head out"
            )


def graft(
    full: HRNetSpec,
    features: Ticket,
    head: Ticket | None,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    seed: int,
) -> Ticket:
    """Joins features and head, each with its weights, statistics and mask.

    Without a head's ticket the features keep their own if the task is the same, but for the classifier; for another
    task the head is that of the full supernet, with fresh weights. What is fresh stays dense: nothing has been learned
    that could be ranked. It counts as maskable all the same, so that the sparsity told is that of the whole network.

    Args:
        full: The supernet with the features' stem and stages and the wanted head.
        features: Gives stem and stages.
        head: Gives all behind them, classifier included.
        classes: Names of the outputs.
        preprocessing: How a picture becomes an input.
        seed: Of fresh weights.

    Returns:
        A ticket that has not been trained as a whole yet.
    """
    behind = head or (features if features.spec.head == full.head else None)
    rest = spec_with_stages(behind) if behind else full
    units = {name: units for name, units in spec_with_stages(features).units.items() if _of_features(name)}
    units |= {name: units for name, units in rest.units.items() if not _of_features(name)}
    spec = dataclasses.replace(full, units=units)
    torch.manual_seed(seed)
    module = spec.build()

    def giver(name: str) -> Ticket | None:
        if HRNet.is_feature(name):
            return features
        return head if name.startswith("classifier.") else behind

    weights: dict[str, Tensor] = {}
    for name, fresh in module.state_dict().items():
        ticket = giver(name)
        weights[name] = fresh if ticket is None else ticket.weights[name]
    givers = [ticket for ticket in (features, behind) if ticket is not None]
    masks = [ticket.mask for ticket in givers if ticket.mask]
    mask: dict[str, Tensor] = {}
    if masks:
        masked = [name for names in masks for name in names]
        transformer, classifier = any(".tokens." in name for name in masked), "classifier.weight" in masked
        for name in module.maskable_weights(transformer=transformer, classifier=classifier):
            ticket = giver(name)
            known: Mapping[str, Tensor] = {} if ticket is None else ticket.mask
            mask[name] = known[name] if name in known else torch.ones_like(weights[name], dtype=torch.bool)
    return Ticket(spec, weights, mask, classes, preprocessing, {})


def _of_features(block: str) -> bool:
    return HRNet.is_feature(f"blocks.{block}.")


def _told(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
