"""Tables and lines of the command line."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from supertickets import Ticket
from supertickets.analysis.description import describe
from supertickets.cli.tables import architecture_table, bench_table, cost_lines, fastest_line
from supertickets.cost.latency import Latency
from supertickets.deploy import Bench


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


def test_latencies_stand_side_by_side() -> None:
    latencies = {
        "dense/torch": Latency(6.0, 5.5, 7.0),
        "ticket/torch": Latency(4.0, 3.5, 4.5),
        "dense/onnxruntime": Latency(1.0, 0.9, 1.1),
        "ticket/onnxruntime": Latency(0.25, 0.2, 0.3),
    }
    lines = text(bench_table(Bench("a processor", 1, 8, latencies), ["dense"], "ticket")).splitlines()
    (torch_line,) = (line for line in lines if line.split()[:1] == ["torch"])
    (onnx_line,) = (line for line in lines if line.split()[:1] == ["onnxruntime"])
    assert "6.00 ms (5.50-7.00)" in torch_line
    assert torch_line.split()[-1] == "1.50x"
    assert onnx_line.split()[-1] == "4.00x"
    assert any("a processor" in line and "batch 8" in line for line in lines)


def test_the_fastest_runtime_is_named_with_what_the_others_take() -> None:
    times = {"torch": 6.0, "onnxruntime": 1.0, "sparse": 0.5}
    latencies = {f"ticket/{name}": Latency(ms, ms, ms) for name, ms in times.items()}
    line = fastest_line(Bench("a processor", 1, 1, latencies), "ticket")
    assert line == (
        "The ticket is the fastest in sparse (it takes 12.00x in torch, 2.00x in onnxruntime); "
        "export it with --format sparse."
    )
    latencies["ticket/sparse"] = Latency(3.0, 3.0, 3.0)
    line = fastest_line(Bench("a processor", 1, 1, latencies), "ticket")
    assert "fastest in onnxruntime (it takes 6.00x in torch, 3.00x in sparse); export it with --format onnx." in line


def test_increments_stand_beside_the_times_of_both_ends() -> None:
    """Over the first network: +50% and +25%; the ticket is compared with the second."""
    times = {"no connection": 4.0, "all connected": 6.0, "ticket": 5.0}
    latencies = {
        f"{name}/{kind}": Latency(ms, ms, ms) for name, ms in times.items() for kind in ("torch", "onnxruntime")
    }
    table = bench_table(Bench("a processor", 1, 1, latencies), list(times)[:2], "ticket")
    (line,) = (line for line in text(table).splitlines() if line.split()[:1] == ["torch"])
    assert "6.00 ms (6.00-6.00), +50.0%" in line
    assert "5.00 ms (5.00-5.00), +25.0%" in line
    assert line.split()[-1] == "1.20x"
