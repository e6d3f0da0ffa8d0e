"""Tables and lines of the command line."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from supertickets import Ticket
from supertickets.analysis.description import describe
from supertickets.cli.tables import architecture_table, cost_lines


def text(table: Table, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_architecture_has_a_row_per_block(ticket: Ticket) -> None:
    lines = text(architecture_table(ticket.spec, ticket.mask, ticket.cost)).splitlines()
    full = ticket.spec.full_units()
    for name, units in ticket.spec.units.items():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        for left, most in zip(units.hidden, full[name].hidden, strict=True):
            assert (f"{left}/{most}" if left < most else str(most)) in line.split()
        tokens, all_tokens = units.tokens, full[name].tokens
        assert not all_tokens or (f"{tokens}/{all_tokens}" if tokens < all_tokens else str(tokens)) in line.split()
        flags = [f for key, f in ticket.mask.items() if key.startswith(f"blocks.{name}.")]
        if flags:
            density = sum(int(f.sum()) for f in flags) / sum(f.numel() for f in flags)
            assert line.split()[-1] == f"{density:.0%}"
    assert any(line.split()[:1] == ["classifier"] for line in lines)


@pytest.mark.long
def test_a_network_without_a_mask_has_no_columns_for_one() -> None:
    described = describe("cityscapes")
    spec, mask, cost = described.spec, described.mask, described.cost
    said = text(architecture_table(spec, mask, cost), width=80)
    assert "density" not in said
    assert "…" not in said
    assert "head_transform 270->90 1080 1080 1080 41.2 G" in " ".join(said.split())


def test_figures_are_said_as_they_are(ticket: Ticket) -> None:
    said = "\n".join(cost_lines(ticket.cost))
    cost = ticket.cost
    for figure in (cost.params, cost.nonzero_params, cost.macs, cost.masked_macs, cost.paper_macs):
        assert f"{figure:,}" in said
    assert f"{cost.sparsity:.1%} of maskable" in said
    assert f"{cost.sparsity_all:.1%} of all" in said
