"""Evaluate a ticket on the data it was drawn on."""

from __future__ import annotations

import dataclasses

from ..config.recipe import AugmentSettings
from ..data import Batches, Samples, load_splits
from ..device import find_device, preserve_random_state
from ..errors import UserError
from ..ticket import Ticket, check_data
from ..ticket.compatibility import check_classes
from ..training import Runtime, evaluate
from .derive import recipe_of, with_data_dir


def evaluate_ticket(
    ticket: Ticket,
    data_dir: str | None = None,
    split: str = "test",
    boxes: str | None = None,
    device: str = "auto",
) -> dict[str, float]:
    """Evaluate a ticket on a split of the data it was drawn on.

    Args:
        ticket: Ticket to evaluate.
        data_dir: Folder with the data set, if it has moved.
        split: "train", "validation" or "test".
        boxes: File with boxes of people in the test split, in place of the recipe's ``data.boxes``.
        device: Device of the network; "auto" takes a GPU if there is one.

    Raises:
        UserError: The data is missing, or has other classes; or there is no such device.
    """
    if boxes is not None and split != "test":
        raise UserError(f"--boxes are boxes of the test split; leave them out, or --split {split}")
    runtime = Runtime(find_device(device))
    batches = load_ticket_data(ticket, data_dir, boxes)
    samples: Samples = getattr(batches.splits, split)
    module = ticket.module_on(runtime.device)
    with preserve_random_state(runtime.device):
        return evaluate(module, batches.evaluation(samples), samples, ticket.task, runtime)


def load_ticket_data(ticket: Ticket, data_dir: str | None = None, boxes: str | None = None) -> Batches:
    """Load the data that a ticket was drawn on, without augmentation and with the ticket's own preprocessing.

    Args:
        ticket: A ticket.
        data_dir: Folder with the data set, if it has moved.
        boxes: File with boxes of people in the test split, in place of the recipe's ``data.boxes``.

    Raises:
        UserError: The data is missing, or has other classes.
    """
    recipe = with_data_dir(recipe_of(ticket), data_dir)
    data = recipe.data
    if boxes is not None:
        if not ticket.task.rules.boxes:
            raise UserError(f"--boxes are boxes of people, but the ticket is for {recipe.task}; leave them out")
        data = dataclasses.replace(data, boxes=boxes)
    splits = load_splits(data, recipe.task)
    check = check_data if boxes is None else check_classes  # other boxes are no other images
    check("the ticket", ticket, splits)
    splits = dataclasses.replace(splits, preprocessing=ticket.preprocessing)
    return Batches(splits, data, AugmentSettings(), recipe.seed)
