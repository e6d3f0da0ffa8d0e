"""Latencies side by side: every runtime, the networks beside a ticket, failures, and what to deploy."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cli_outcome import Cli
from supertickets import Ticket, UserError
from supertickets.data import Preprocessing
from supertickets.deploy import BenchSettings, bench, references, untrained_ticket
from supertickets.deploy import benchmark as module
from supertickets.deploy.bench_ticket import advise, bench_ticket
from supertickets.deploy.benchmark import Bench, BenchRun, Timing
from supertickets.deploy.runtimes import RUNTIMES, DeployForms, InferenceRuntime
from supertickets.models import create_resnet
from supertickets.models.factory import create_spec


def a_ticket(**settings: object) -> Ticket:
    """A plain network with random weights, of which half of the second layer's filters are empty."""
    spec = create_spec("resnet8", width=4, image_size=(8, 8), in_channels=1, num_classes=3, **settings)
    torch.manual_seed(0)
    weights = dict(spec.build().state_dict())
    weights["stages.0.0.conv1.weight"][2:] = 0
    return Ticket(spec, weights, {}, ("a", "b", "c"), Preprocessing(1, (8, 8), (0.5,), (0.3,)), {"recipe": {}})


def timing(ms: float) -> Timing:
    return Timing(ms, ms, ms, ms, ms, ms)


@pytest.mark.long
def test_every_network_is_timed_in_every_runtime_and_setting() -> None:
    threads = torch.get_num_threads()
    ticket = a_ticket()
    settings = BenchSettings(threads=(1,), batch=(2, 1), repeats=3)
    result = bench({"ticket": ticket}, settings)
    available = [name for name, runtime in RUNTIMES.items() if runtime.available()]
    assert {"torch", "onnxruntime", "int8"} <= set(available)
    assert [(run.threads, run.batch) for run in result.runs] == [(1, 2), (1, 1)]
    for run in result.runs:
        assert run.failures == {}
        assert set(run.latencies) == {f"ticket/{name}" for name in available}
        for timing_ in run.latencies.values():
            assert 0 < timing_.low_ms <= timing_.lower_quartile_ms <= timing_.median_ms
            assert timing_.median_ms <= timing_.upper_quartile_ms <= timing_.high_ms
            assert timing_.first_ms > 0
    said = json.loads(json.dumps(result.to_json()))
    assert (said["threads"], said["batch"]) == (1, 2)
    assert said["latencies"] == said["runs"][0]["latencies"]
    assert said["versions"]["torch"] == importlib.metadata.version("torch")
    assert said["device"]
    assert said["instruction_set"]
    assert torch.get_num_threads() == threads


class _Wrong(InferenceRuntime):
    name = "onnxruntime"
    snippet = ""

    def prepare(self, forms: DeployForms, threads: int) -> object:  # type: ignore[override]
        return lambda images: np.ones((len(images), 3), np.float32)


class _Unable(InferenceRuntime):
    name = "openvino"
    snippet = ""

    def prepare(self, forms: DeployForms, threads: int) -> object:  # type: ignore[override]
        raise RuntimeError("no such operation\nstack")


def test_what_fails_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among it a runtime whose scores are not the ticket's: its time is worth nothing."""
    monkeypatch.setattr(
        module, "RUNTIMES", {"torch": RUNTIMES["torch"], "onnxruntime": _Wrong(), "openvino": _Unable()}
    )
    run = bench({"ticket": a_ticket()}, BenchSettings(repeats=1)).runs[0]
    assert set(run.latencies) == {"ticket/torch"}
    assert run.failures["ticket/openvino"] == "no such operation"
    assert "differ from the ticket's by" in run.failures["ticket/onnxruntime"]


def test_the_fastest_runtime_changes_no_scores() -> None:
    times = {"torch": 6.0, "onnxruntime": 1.0, "sparse": 2.0, "int8": 0.5}
    run = BenchRun(1, 1, {f"ticket/{name}": timing(ms) for name, ms in times.items()}, {})
    assert run.fastest_runtime("ticket") == "onnxruntime"
    assert run.fastest_runtime("other") is None
    result = Bench("a processor", "AVX2", {}, ("ticket",), (run,))
    advice = advise(result, a_ticket(), "runs/mine")
    assert advice is not None
    assert (advice.runtime, advice.median_ms) == ("onnxruntime", 1.0)
    assert advice.command == "supertickets export runs/mine --format onnx --out runs/mine/model.onnx"
    assert 'InferenceSession("runs/mine/model.onnx")' in advice.python
    scene = advise(result, a_ticket(head="segmentation"), "mine")
    assert scene is not None
    assert "--fixed" in scene.command  # as it was timed


@pytest.mark.parametrize(
    ("target_ms", "about_macs", "nearest", "timed"),
    [
        (0.1, 900, 8, [24, 8]),
        (0.7, 900, 8, [24, 16]),  # by the line, which goes on to 0.6; by the proportion it would be 16
        (0.72, 100, 8, [8]),  # which was timed, and is near enough
        (1.3, 100, 24, [8, 16]),
        (9.0, 1600, 32, [32]),
        (9.0, 0, 32, [8, 32]),
    ],
)
def test_the_nearest_width_follows_from_at_most_two(
    target_ms: float, about_macs: int, nearest: int, timed: list[int]
) -> None:
    macs = {8: 100, 16: 400, 24: 900, 32: 1600}
    asked = []

    def time_ms(width: float) -> float:
        asked.append(width)
        return 0.5 + macs[int(width)] / 1000

    assert references._nearest(macs, time_ms, target_ms, about_macs) == nearest
    assert asked == timed


@pytest.mark.long
def test_a_ticket_stands_beside_what_it_was_and_ordinary_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "_MOBILE", {})
    settings = BenchSettings(repeats=2, runtimes=("onnxruntime",))
    result = bench_ticket(a_ticket(), settings)
    supernet, before, ticket, ordinary = result.networks
    assert (supernet, before, ticket) == ("dense supernet", "ticket, not compacted", "ticket")
    assert ordinary.startswith("ResNet-8 width ")
    assert ordinary.endswith("untrained")
    assert set(result.runs[0].latencies) == {f"{name}/onnxruntime" for name in result.networks}
    assert any("untrained: ordinary networks" in note for note in result.notes)


@pytest.mark.parametrize(("head", "classes"), [("classification", 5), ("segmentation", 5), ("density", 1)])
def test_ordinary_networks_give_what_the_ticket_gives(head: str, classes: int) -> None:
    spec = create_spec("resnet8", width=4, image_size=(64, 96), num_classes=classes, head=head)
    with torch.no_grad():
        wanted = spec.build().eval()(torch.zeros(1, 3, 64, 96)).shape
        for network, widths in {**references._PLAIN, **references._MOBILE}.items():
            other = references._reference_spec(network, spec, widths[0])
            assert other.build().eval()(torch.zeros(1, 3, 64, 96)).shape[:2] == wanted[:2]


def test_a_resnet_is_timed_beside_both_ends() -> None:
    spec = create_resnet("resnet38", attention="se", scheme="1010|0000|0001", widths=(4, 4, 4), image_size=(8, 8))
    prepare = Preprocessing(3, (8, 8), (0.5,) * 3, (0.3,) * 3)
    twins = references.reference_twins(Ticket(spec, spec.build().state_dict(), {}, ("a",), prepare, {}))
    schemes = {name: getattr(other.spec, "scheme", "") for name, other in twins.items()}
    assert schemes == {"no connection": "0000|0000|0000", "all connected": "1111|1111|1111"}


def test_the_untrained_twin_is_the_full_supernet(ticket: Ticket) -> None:
    twin = untrained_ticket(ticket, ticket.spec.full())
    assert twin.spec.units == twin.spec.full_units()
    assert twin.cost.macs > ticket.cost.macs
    assert twin.cost.sparsity == 0


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UserError, match="unknown runtime 'onnx'; did you mean 'onnxruntime'"):
        BenchSettings(runtimes=("onnx",))
    with pytest.raises(UserError, match="--threads is 0"):
        BenchSettings(threads=(1, 0))


@pytest.mark.long
def test_the_command(cli: Cli, quick_run: Path) -> None:
    words = ("bench", quick_run, "--against", quick_run, "--repeats", "2", "--batch", "1,3")
    done = cli(*words, "--runtimes", "torch")
    assert done.status == 0, done.err
    assert done.out.count("Latency in ms: 1 thread, batch") == 2
    assert "Deploy it with torch" in done.out
    said = json.loads(cli(*words, "--runtimes", "torch", "--json").out)
    assert said["deploy"]["runtime"] == "torch"
    assert [run["batch"] for run in said["runs"]] == [1, 3]
