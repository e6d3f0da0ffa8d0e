"""The training step: precision, compilation and accumulation change how it is computed, not what happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import supertickets as st
from supertickets.training import read_events


def losses(run: Path) -> list[float]:
    return [event["train_loss"] for event in read_events(run / "events.jsonl") if event["event"] == "epoch"]


def test_a_compiled_network_is_compiled_anew_after_a_rebuild_and_only_then(
    quick_words: list[str], quick_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backend that computes as eager PyTorch does, so that results must be equal."""
    original, graphs, starts = torch.compile, [], {}

    def counting(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        graphs.append(graph)
        return graph.forward

    def compile_with_it(module: torch.nn.Module, **options: Any) -> Any:
        starts.setdefault(id(module), (len(graphs), module))  # the module is kept, so that no other gets its id
        return original(module, backend=counting, **options)

    monkeypatch.setattr(torch, "compile", compile_with_it)
    st.draw(st.load_recipe("digits", [*quick_words, "--compile", "true"]), tmp_path / "run")
    rebuilds = sum(e["event"] == "shrink" for e in read_events(tmp_path / "run" / "events.jsonl"))
    assert rebuilds == 2
    before = [count for count, _ in starts.values()]
    # One graph for the supernet and one after each rebuild, though there are four epochs of five steps.
    assert [b - a for a, b in zip(before, [*before[1:], len(graphs)], strict=True)] == [1] * (1 + rebuilds)
    assert losses(tmp_path / "run") == pytest.approx(losses(quick_run), rel=1e-4)


def test_bfloat16_trains_and_keeps_weights_in_float32(quick_words: list[str], quick_run: Path, tmp_path: Path) -> None:
    ticket = st.draw(st.load_recipe("digits", [*quick_words, "--precision", "bf16"]), tmp_path / "run")
    assert {w.dtype for w in ticket.weights.values() if w.is_floating_point()} == {torch.float32}
    found, wanted = losses(tmp_path / "run"), losses(quick_run)
    assert found[0] == pytest.approx(wanted[0], rel=0.05)
    assert found[0] != wanted[0]  # it was really computed in another precision


def test_a_batch_in_parts_is_the_same_number_of_steps_and_samples(
    quick_words: list[str], quick_run: Path, tmp_path: Path
) -> None:
    st.draw(st.load_recipe("digits", [*quick_words, "--accumulate", "2"]), tmp_path / "run")
    results = [json.loads((run / "result.json").read_text()) for run in (tmp_path / "run", quick_run)]
    assert results[0]["samples"] == results[1]["samples"]
    assert losses(tmp_path / "run")[0] == pytest.approx(losses(quick_run)[0], rel=0.05)


def test_a_batch_that_cannot_be_parted_is_refused(quick_words: list[str], tmp_path: Path) -> None:
    with pytest.raises(st.UserError, match="in 3 parts each; the nearest possible is 129"):
        st.draw(st.load_recipe("digits", [*quick_words, "--accumulate", "3"]), tmp_path / "run")
