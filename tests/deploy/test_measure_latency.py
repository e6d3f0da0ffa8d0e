"""Latency tables: the line over the sum of operations, and the command."""

from __future__ import annotations

import json
from math import nan
from pathlib import Path

import pytest
import torch

from cli_outcome import Cli
from supertickets import UserError
from supertickets.cost import count
from supertickets.cost.latency import Latency
from supertickets.cost.latency_table import RUNTIMES, LatencyTable, TableSettings
from supertickets.cost.operations import build_operation, list_operations
from supertickets.deploy import measure_latency as latency_table
from supertickets.deploy import measure_latency_table
from supertickets.models.op_counter import count_operations
from supertickets.nas import Space
from toy_mobile import SPACE


def test_line_and_check_by_hand() -> None:
    """The line 3 + 2 x through the first three; then 5, 7, 9 are predicted of 5, 14, 10, whose ranks are 1, 3, 2."""
    plain = LatencyTable(spec=SPACE, device="any", runtime="torch", threads=1, ms={}, check={})
    table = latency_table.fit_table(plain, [1, 2, 4, 1, 2, 3], [5, 7, 11, 5, 14, 10], 3)
    assert (table.bias, table.scale, table.networks) == (pytest.approx(3), pytest.approx(2), 3)
    by_hand = {"networks": 3, "median_error": 0.1, "largest_error": 0.5, "spearman": 0.5}
    assert table.check == pytest.approx(by_hand | {"fastest_ms": 5, "slowest_ms": 14})


def test_a_network_that_is_the_sum_of_its_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock by which an operation takes its MACs, and a network 2 ms and 1.5 times its own.

    Those of the check take a quarter more, which neither line nor ranks see.
    """

    def times(preparations: dict[str, object], repeats: int, say: object = None) -> dict[str, Latency]:
        taken = {}
        for name, prepared in preparations.items():
            make, shape = prepared.args  # type: ignore[attr-defined]
            total = sum(p.macs for p in count_operations(make().eval(), torch.zeros(1, *shape))[0]) / 1e4
            # An operation's time is the low percentile, a network's the median; nothing else is looked at.
            taken[name] = Latency(2 + 1.5 * total, nan, nan) if name.isdigit() else Latency(nan, total, nan)
            if name in map(str, range(2, 8)):  # behind the two that the line is fitted to
                taken[name] = Latency(1.25 * taken[name].median_ms, nan, nan)
        return taken

    monkeypatch.setattr(latency_table, "_times", times)
    table = measure_latency_table(SPACE, TableSettings(networks=6))
    assert (table.bias, table.scale) == pytest.approx((2, 1.5))
    assert table.check["median_error"] == pytest.approx(0.2)
    assert table.check["largest_error"] == pytest.approx(0.2)
    assert table.check["spearman"] == pytest.approx(1)
    choices = Space(SPACE.decisions()).genotype([0] * len(SPACE.decisions()))
    assert table.predict(choices) == pytest.approx(2 + 1.5 * count(SPACE.select(choices)).macs / 1e4)
    with pytest.raises(UserError, match=r"the network's b1\.0\.kernel is not chosen"):
        table.predict({})
    with pytest.raises(UserError, match="the space has no bottleneck k9"):
        table.predict({**choices, "b1.0.kernel": 9})


def test_both_runtimes_run_the_same_operation(tmp_path: Path) -> None:
    operation = list_operations(SPACE)[5]
    torch.manual_seed(0)
    make, shape = build_operation(operation, SPACE)
    module = make()
    outputs = []
    for runtime in RUNTIMES:
        torch.manual_seed(1)
        call = latency_table._prepared(lambda: module, shape, runtime=runtime, threads=1, folder=tmp_path)
        outputs.append(torch.as_tensor(call()))
    torch.testing.assert_close(*outputs)


def test_the_command(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--width", "0.1", "--size", "16", "16", "--classes", "4", "--repeats", "1", "--networks", "2")
    done = cli("latency-table", "tunas_proxyless", *words, "--json")
    assert done.status == 0
    table = LatencyTable.load(tmp_path / "latency-tunas_proxyless.json")
    assert json.loads(json.dumps(table.to_json())) == json.loads(done.out)
    assert (table.threads, table.runtime, table.networks, table.check["networks"]) == (1, "torch", 2, 2)
    assert all(value > 0 for value in table.ms.values())
    said = cli("latency-table", "tunas_proxyless", *words, "--out", tmp_path / "own.json").out
    assert "checked: of 2 other networks" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["mobilenet_v2"], "unknown space 'mobilenet_v2'"),
        (["tunas_proxyles"], "did you mean 'tunas_proxyless'"),
        (["tunas_proxyless", "--runtime", "tvm"], "--runtime is tvm; take one of torch, onnxruntime"),
        (["tunas_proxyless", "--networks", "1"], "--networks is 1; the nearest possible is 2"),
        (["tunas_proxyless", "--out", "none/x.json"], "none/x.json cannot be written; choose another --out"),
        (["tunas_proxyless", "--out", "."], ". cannot be written"),
        (["tunas_proxyless", "--size", "0", "64"], "--size has 0; the nearest possible is 1"),
        (["tunas_proxyless", "--classes", "0"], "--classes is 0; the nearest possible is 1"),
    ],
)
def test_wrong_words(words: list[str], named: str, cli: Cli) -> None:
    broken = cli("latency-table", *words)
    assert broken.status == 2
    assert named in broken.err


def test_one_network_needs_no_table() -> None:
    with pytest.raises(UserError, match="this is one network, not a space; time it with supertickets bench"):
        measure_latency_table(SPACE.select(Space(SPACE.decisions()).genotype([0] * len(SPACE.decisions()))))


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        LatencyTable.load(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"spec": {}}')
    with pytest.raises(UserError, match="is no latency table"):
        LatencyTable.load(tmp_path / "other.json")
