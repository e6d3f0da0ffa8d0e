"""Check that a ticket and a dataset fit each other."""

from __future__ import annotations

import warnings

from ..data import Splits
from ..errors import UserError
from .ticket import Ticket


def check_data(who: str, ticket: Ticket, splits: Splits) -> None:
    """Refuse data that a ticket cannot serve, and warn if the ticket was made with other data.

    Args:
        who: Noun for the ticket in messages.
        ticket: The ticket.
        splits: The data.

    Raises:
        UserError: Channels or classes differ.
    """
    check_classes(who, ticket, splits)
    if ticket.about.get("data") not in (None, splits.digest()):
        warnings.warn(
            f"the data is not what {who} was made with, so that images it has learned from may be in the test split",
            stacklevel=3,
        )


def check_classes(who: str, ticket: Ticket, splits: Splits) -> None:
    """Check that a ticket takes the data's images and knows its classes.

    Args:
        who: Noun for the ticket in messages.
        ticket: The ticket.
        splits: The data.

    Raises:
        UserError: Channels or classes differ.
    """
    classes, channels = splits.classes, splits.preprocessing.channels
    if ticket.spec.in_channels != channels:
        raise UserError(f"{who} takes images of {ticket.spec.in_channels} channels, the data has {channels}")
    if len(ticket.classes) != len(classes):
        raise UserError(f"{who} knows {len(ticket.classes)} classes, the data has {len(classes)}")
    for known, given in zip(ticket.classes, classes, strict=True):
        if known != given:
            raise UserError(
                f"{who} knows a class '{known}' where the data has '{given}'; give the data it was drawn on"
            )
