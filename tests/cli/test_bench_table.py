"""Tables and lines of a benchmark."""

from __future__ import annotations

import io

from rich.console import Console

from supertickets.cli.bench_table import advice_lines, bench_table, comparison_lines
from supertickets.deploy.bench_ticket import Advice
from supertickets.deploy.benchmark import Bench, BenchRun, Timing


def timing(ms: float, spread: float = 0.0) -> Timing:
    return Timing(ms, ms, ms, ms - spread, ms + spread, 10 * ms)


def a_bench(times: dict[str, float], failures: dict[str, str] | None = None) -> Bench:
    names = tuple(dict.fromkeys(name.rpartition("/")[0] for name in times))
    run = BenchRun(1, 8, {name: timing(ms, 0.1 * ms) for name, ms in times.items()}, failures or {})
    return Bench("a processor", "AVX2", {"torch": "2.9.0+cpu"}, names, (run,), ("a note",))


def rows(bench: Bench, width: int = 100) -> dict[str, list[str]]:
    console = Console(file=io.StringIO(), width=width)
    console.print(bench_table(bench, bench.runs[0]))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "1 thread, batch 8" in text
    return {line.split("  ")[0].strip(): line.split() for line in text.splitlines() if line.strip()}


TIMES = {
    "dense supernet/torch": 6.0,
    "ticket/torch": 4.0,
    "dense supernet/onnxruntime": 1.0,
    "ticket/onnxruntime": 0.25,
}


def test_networks_stand_below_each_other_and_runtimes_side_by_side() -> None:
    cells = rows(a_bench(TIMES))
    assert cells["network"][1:] == ["torch", "onnxruntime", "x", "ticket"]
    assert cells["ticket"][1:] == ["4.00", "±10%", "0.250", "±10%", "1.00"]
    assert cells["dense supernet"][2:] == ["6.00", "±10%", "1.00", "±10%", "4.00"]


def test_a_ratio_is_that_of_the_fastest_runtimes_that_change_no_scores() -> None:
    cells = rows(a_bench({**TIMES, "ticket/int8": 0.1, "dense supernet/int8": 0.2}))
    assert cells["dense supernet"][-1] == "4.00"


def test_six_columns_fit_into_a_hundred() -> None:
    names = ("dense supernet", "ticket, not compacted", "ticket", "MobileNetV3 x0.25 untrained")
    runtimes = ("torch", "onnxruntime", "openvino", "sparse", "int8")
    cells = rows(a_bench({f"{name}/{runtime}": 12.345 for name in names for runtime in runtimes}))
    assert set(names) <= cells.keys()
    assert all(len(" ".join(words)) < 100 for words in cells.values())


def test_what_did_not_run_is_told_once_per_reason() -> None:
    both = {f"{name}/sparse": "no kernels" for name in ("dense supernet", "ticket")}
    lines = list(comparison_lines(a_bench(TIMES, {**both, "ticket/openvino": "no such operation"})))
    assert lines[0] == "sparse, 1 thread, batch 8: no network: no kernels"
    assert lines[1] == "openvino, 1 thread, batch 8: not ticket: no such operation"
    assert "first call of the ticket, ms: torch 40.00, onnxruntime 2.50" in lines
    assert "a processor (AVX2); torch 2.9.0" in lines
    assert lines[-1] == "a note"


def test_increments_over_no_connection() -> None:
    """+50% and +25% (LTH4SA, Eq. 7)."""
    times = {"no connection/torch": 4.0, "all connected/torch": 6.0, "ticket/torch": 5.0}
    lines = list(comparison_lines(a_bench(times)))
    assert "over no connection, torch: all connected +50.0%, ticket +25.0%" in lines


def test_what_to_deploy_ends_it() -> None:
    advice = Advice("onnxruntime", 0.25, "supertickets export mine", "run(images)")
    lines = list(advice_lines(a_bench({**TIMES, "ticket/int8": 0.1}), advice))
    assert lines[1] == "Deploy it with onnxruntime: it takes 16.00x in torch, 0.40x in int8."
    assert lines[2:4] == ["  supertickets export mine", "  run(images)"]
    assert "8-bit integers are faster still" in lines[4]
    assert list(advice_lines(a_bench({"dense supernet/torch": 6.0}), None)) == ["No runtime ran the ticket."]
    (alone,) = advice_lines(a_bench({"ticket/int8": 0.1}), None)
    assert alone == "Only forms that change the scores were timed: export --int8 says by how much."
