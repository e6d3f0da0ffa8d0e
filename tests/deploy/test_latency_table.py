"""Latency tables: operations that make up networks, the line over their sum, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from outcome import Cli
from supertickets import UserError
from supertickets.cost import count
from supertickets.cost.latency_table import LatencyTable, Operation, all_operations, operations
from supertickets.deploy import latency_table, measure_table
from supertickets.search import Space
from supertickets.supernets import MobileSpec, create_spec
from supertickets.supernets.mobile_spec import Block, Layer
from supertickets.supernets.trace import products

BOTTLENECK = Layer(kernels=(3, 5), expansions=(2, 4), se=(False, True), stride=2)
SPACE = MobileSpec(
    blocks=(
        Block(name="stem", filters=(8,), layers=(Layer(kind="conv", stride=2),)),
        Block(
            name="b1",
            filters=(8, 16),
            layers=(BOTTLENECK, Layer(expansions=(2,), skips=(False, True), residual=True)),
        ),
    ),
    last_filters=(8, 24),
    num_classes=3,
    image_size=(15, 12),
)


def macs(operation: Operation) -> int:
    make, shape = latency_table._alone(operation, SPACE)
    return sum(product.macs for product in products(make().eval(), torch.zeros(1, *shape))[0])


def test_operations_by_hand() -> None:
    """Maps are halved and rounded up; a layer that is left out is none."""
    network = SPACE.narrow(
        {
            "b1.0.kernel": 5,
            "b1.0.expansion": 4,
            "b1.0.se": True,
            "b1.1.skip": True,
            "b1.filters": 16,
            "last.filters": 24,
        }
    )
    assert [str(operation) for operation in operations(network)] == [
        "conv k3 s2 relu 3->8 at 15x12",
        "bottleneck k5 e4 se s2 relu 8->16 at 8x6",
        "tail 16->24 at 4x3",
    ]


def test_all_operations() -> None:
    """Stem 1; bottleneck 2 x 2 x 2 for both widths; residual layer for both widths; tail 2 x 2."""
    found = all_operations(SPACE)
    assert len(found) == len(set(map(str, found))) == 1 + 8 * 2 + 2 + 4


@pytest.mark.parametrize("name", ["tunas_proxyless", "tunas_proxyless_enlarged"])
def test_every_network_consists_of_them(name: str) -> None:
    spec = create_spec(name)
    assert isinstance(spec, MobileSpec)
    known = set(map(str, all_operations(spec)))
    space = Space(spec.decisions())
    for choices in space.genotypes(space.sample(20, torch.Generator().manual_seed(0))):
        assert {str(operation) for operation in operations(spec.narrow(choices))} <= known


def test_operations_hold_all_that_a_network_multiplies() -> None:
    space = Space(SPACE.decisions())
    for choices in space.genotypes(space.sample(5, torch.Generator().manual_seed(0))):
        network = SPACE.narrow(choices)
        assert sum(map(macs, operations(network))) == count(network).macs


def test_line_and_ranks_by_hand() -> None:
    x = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert latency_table.line(x, 3 + 2 * x) == pytest.approx((3, 2))
    assert latency_table.spearman(x, torch.tensor([10.0, 30.0, 20.0])) == pytest.approx(0.5)
    assert latency_table.spearman(x, -x) == pytest.approx(-1)


def test_a_network_that_is_the_sum_of_its_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock by which an operation takes its MACs, and a network 2 ms and 1.5 times its own.

    Those of the check take a quarter more, which neither line nor ranks see.
    """

    def times(preparations: dict[str, object], repeats: int) -> dict[str, float]:
        found = {}
        for name, prepared in preparations.items():
            make, shape = prepared.args  # type: ignore[attr-defined]
            total = sum(p.macs for p in products(make().eval(), torch.zeros(1, *shape))[0]) / 1e4
            found[name] = 2 + 1.5 * total if name.isdigit() else total
            if name in map(str, range(2, 8)):  # behind the two that the line is fitted to
                found[name] *= 1.25
        return found

    monkeypatch.setattr(latency_table, "_times", times)
    table = measure_table(SPACE, networks=6)
    assert (table.bias, table.scale) == pytest.approx((2, 1.5))
    assert table.check["median_error"] == pytest.approx(0.2)
    assert table.check["largest_error"] == pytest.approx(0.2)
    assert table.check["spearman"] == pytest.approx(1)
    choices = Space(SPACE.decisions()).genotype([0] * len(SPACE.decisions()))
    assert table.predict(choices) == pytest.approx(2 + 1.5 * count(SPACE.narrow(choices)).macs / 1e4)
    with pytest.raises(UserError, match=r"the network's b1\.0\.kernel is not chosen"):
        table.predict({})
    with pytest.raises(UserError, match="the space has no bottleneck k9"):
        table.predict({**choices, "b1.0.kernel": 9})


def test_both_runtimes_run_the_same_operation(tmp_path: Path) -> None:
    operation = all_operations(SPACE)[5]
    torch.manual_seed(0)
    make, shape = latency_table._alone(operation, SPACE)
    module = make()
    outputs = []
    for runtime in latency_table.RUNTIMES:
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
        measure_table(SPACE.narrow(Space(SPACE.decisions()).genotype([0] * len(SPACE.decisions()))))


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        LatencyTable.load(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"spec": {}}')
    with pytest.raises(UserError, match="is no latency table"):
        LatencyTable.load(tmp_path / "other.json")
