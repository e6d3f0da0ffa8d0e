"""Descriptions of tickets and recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from supertickets import Ticket, UserError
from supertickets.analysis.description import describe
from supertickets.cost import count
from supertickets.models.factory import create_spec


def test_describe_takes_tickets_runs_and_recipes(ticket: Ticket, toy_run: Path) -> None:
    for what in (toy_run, toy_run / "ticket"):
        described = describe(str(what))
        spec, mask, cost = described.spec, described.mask, described.cost
        assert spec == ticket.spec
        assert cost == ticket.cost
        assert mask.keys() == ticket.mask.keys()
    described = describe("digits")
    spec, mask, cost = described.spec, described.mask, described.cost
    assert spec == create_spec("hrnet_tiny", in_channels=1)
    assert not mask
    assert cost == count(spec)


@pytest.mark.parametrize("what", ["digit", "/nowhere"])
def test_describe_names_what_is_neither(what: str) -> None:
    with pytest.raises(UserError, match=what):
        describe(what)
