"""The training step: precision, compilation and accumulation change how it is computed, not what happens."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import supertickets as st
from supertickets.models.factory import create_spec
from supertickets.tasks import Classification
from supertickets.training import Reporter, RunDir, Runtime, Session, TrainState, initial_state, read_events
from supertickets.training.step import Stepper


def losses(run: Path) -> list[float]:
    return [event["train_loss"] for event in read_events(run / "events.jsonl") if event["event"] == "epoch"]


@pytest.mark.long
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


@pytest.mark.slow
def test_a_run_is_compiled_by_the_real_backend(quick_words: list[str], quick_run: Path, tmp_path: Path) -> None:
    """Code of inductor, on this CPU, through shrinks and prunes; it rounds otherwise than eager PyTorch does."""
    words = [*quick_words, "--compile", "true", "--epochs", "2", "--search.last_epoch", "1", "--evaluate_every", "1"]
    ticket = st.draw(st.load_recipe("digits", words), tmp_path / "run")
    assert losses(tmp_path / "run")[0] == pytest.approx(losses(quick_run)[0], rel=1e-3)
    assert ticket.cost.sparsity == pytest.approx(0.5, abs=0.01)


def test_bfloat16_trains_and_keeps_weights_in_float32(quick_words: list[str], quick_run: Path, tmp_path: Path) -> None:
    ticket = st.draw(st.load_recipe("digits", [*quick_words, "--precision", "bf16"]), tmp_path / "run")
    assert {w.dtype for w in ticket.weights.values() if w.is_floating_point()} == {torch.float32}
    actual, wanted = losses(tmp_path / "run"), losses(quick_run)
    assert actual[0] == pytest.approx(wanted[0], rel=0.05)
    assert actual[0] != wanted[0]  # it was really computed in another precision


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


# Gradients and weights of single steps --------------------------------------------------------------------------------

# Steps of plain gradient descent at a learning rate of 0.5: nothing but the gradients changes the weights.
PLAIN = "--optimizer.lr 0.5 --optimizer.momentum 0 --optimizer.weight_decay 0 --lr.shape constant --lr.warmup_epochs 0"
QUIET = "--search.rho 0 --supernet.settings.dropout 0 --supernet.settings.token_dropout 0"


def make_stepper(words: list[str], *more: str) -> tuple[Stepper, TrainState]:
    """Return a stepper for a network with fixed weights, whose BN uses its running statistics, and its state."""
    recipe = st.load_recipe("digits", [*words, *PLAIN.split(), *QUIET.split(), *more])
    spec = create_spec(
        recipe.supernet.name, in_channels=1, image_size=(8, 8), num_classes=10, **recipe.supernet.settings
    )
    state = initial_state(spec, recipe, torch.device("cpu"))
    state.module.eval()
    task = Classification(tuple("0123456789"), recipe.label_smoothing)
    batches, run = SimpleNamespace(steps_per_epoch=5), RunDir(Path("unused"), writes=False)
    parts = (recipe, spec, batches, task, Runtime(torch.device("cpu")), run, Reporter(1, 5, quiet=True))
    return Stepper(Session(*parts), state), state  # type: ignore[arg-type]


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 1, 8, 8, generator=generator), torch.randint(0, 10, (12,), generator=generator)


def change_of_weights(words: list[str], *more: str) -> torch.Tensor:
    """Return by how much one step changes all weights, as one vector."""
    take_step, state = make_stepper(words, *more)
    before = [value.detach().clone() for value in state.parameters().values()]
    take_step(make_batch(), 0, 0)
    pairs = zip(before, state.parameters().values(), strict=True)
    return torch.cat([(new.detach() - old).flatten() for old, new in pairs])


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_takes_the_step_of_the_whole_batch(quick_words: list[str], parts: int) -> None:
    """Loss and gradients are means over the whole batch, not sums over its parts."""
    images, labels = make_batch()
    take_step, state = make_stepper(quick_words, "--accumulate", str(parts), "--label_smoothing", "0")
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(state.module(images), labels)
    assert float(take_step.gradients((images, labels))) == pytest.approx(float(expected), rel=1e-5)
    whole, in_parts = (change_of_weights(quick_words, "--accumulate", str(n)) for n in (1, parts))
    assert float(whole.norm()) > 1e-3
    torch.testing.assert_close(in_parts, whole, rtol=1e-3, atol=1e-6)


def test_gradients_are_clipped_to_their_largest_norm(quick_words: list[str]) -> None:
    """A step is the learning rate (0.5) times the gradient: clipped, it has the same direction and length 0.005."""
    free = change_of_weights(quick_words, "--optimizer.clip_norm", "null")
    assert float(free.norm()) > 0.5 * 0.02
    clipped = change_of_weights(quick_words, "--optimizer.clip_norm", "0.01")
    assert float(clipped.norm()) == pytest.approx(0.5 * 0.01, rel=1e-3)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm(), rtol=1e-2, atol=1e-4)
    wide = change_of_weights(quick_words, "--optimizer.clip_norm", "1e6")
    torch.testing.assert_close(wide, free, rtol=0, atol=0)
