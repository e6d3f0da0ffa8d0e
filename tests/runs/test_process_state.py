"""A run leaves the process that it was called in as it was."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import supertickets as st
from supertickets import load_recipe
from supertickets.analysis.connection_schemes import count_parameters, time_networks
from supertickets.analysis.description import describe
from supertickets.cost.latency_table import TableSettings
from supertickets.deploy import export, measure_latency_table
from supertickets.deploy.benchmark import BenchSettings, bench
from supertickets.deploy.references import reference_twins
from supertickets.device import keep_freed_memory, on_threads, preserve_random_state, use_deterministic_algorithms
from supertickets.models.factory import create_spec
from supertickets.runs.evaluate import evaluate_ticket
from toy_mobile import SPACE


def process_state() -> dict[str, Any]:
    """Everything of this process that a run may touch, as values to compare."""
    return {
        "python random": random.getstate(),
        "numpy random": np.random.get_state()[1].tolist(),  # type: ignore[index]
        "torch random": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "environment": dict(os.environ),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)},
        "start method": multiprocessing.get_start_method(allow_none=True),
        "directory": Path.cwd(),
        "warnings": list(warnings.filters),
        "print options": np.get_printoptions(),
        "living threads": threading.active_count(),
        "collector": gc.isenabled(),
    }


def test_a_draw_leaves_nothing_behind(quick_words: list[str], tmp_path: Path) -> None:
    words = ["--threads", "1", "--deterministic", "true", "--data.workers", "1"]
    recipe = load_recipe("digits", [*quick_words, *words])
    st.draw(recipe, tmp_path / "first")  # whatever libraries set up once is set up
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(7)
    with on_threads(2):
        before = process_state()
        st.draw(recipe, tmp_path / "run")
        after = process_state()
    assert {name for name in before if before[name] != after[name]} == set()


def test_a_refused_run_leaves_nothing_behind_either(quick_words: list[str], tmp_path: Path) -> None:
    before = process_state()
    words = [*quick_words, "--deterministic", "true", "--threads", "2", "--data.batch", "5000"]
    with pytest.raises(st.UserError, match="batch is 5000"):
        st.draw(load_recipe("digits", words), tmp_path / "run")
    assert process_state() == before


@pytest.mark.parametrize(
    "call",
    [
        lambda ticket, folder: ticket.predict(np.zeros((8, 8), np.uint8)),
        lambda ticket, folder: evaluate_ticket(ticket),
        lambda ticket, folder: export(ticket, folder / "model.onnx"),
        lambda ticket, folder: bench(reference_twins(ticket), BenchSettings(threads=(2,), repeats=2)),
        lambda ticket, folder: describe("digits"),
        lambda ticket, folder: measure_latency_table(SPACE, TableSettings(threads=2, repeats=2, networks=6)),
        lambda ticket, folder: time_networks({"plain": create_spec("resnet38", image_size=(8, 8))}, 1, 2, threads=2),
        lambda ticket, folder: count_parameters(
            create_spec("resnet38", attention="se"), torch.ones(1, 12, dtype=torch.bool)
        ),
    ],
    ids=["predict", "evaluate", "export", "bench", "describe", "latency table", "time networks", "count parameters"],
)
def test_calls_on_a_ticket_leave_nothing_behind(
    call: Callable[[st.Ticket, Path], object], toy_run: Path, tmp_path: Path
) -> None:
    """Fresh weights are made in all of these, and threads set in some."""
    ticket = st.load(toy_run)
    (tmp_path / "first").mkdir()
    call(st.load(toy_run), tmp_path / "first")  # whatever libraries set up once is set up
    with on_threads(1):
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(7)
        before = process_state()
        call(ticket, tmp_path)
        after = process_state()
    assert {name for name in before if before[name] != after[name]} == set()


def test_progress_of_a_run_is_shown_if_asked_for(
    quick_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = partial(st.draw, st.load_recipe("digits", [*quick_words, "--epochs", "1", "--search.last_epoch", "1"]))
    st.load_or_run(tmp_path / "quiet", begin)
    assert "epoch" not in capsys.readouterr().err
    st.load_or_run(tmp_path / "shown", begin, verbose=True)
    assert "epoch   1/1" in capsys.readouterr().err


def test_settings_of_the_caller_are_restored() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            with use_deterministic_algorithms(True):
                assert not torch.is_deterministic_algorithms_warn_only_enabled()
                assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
            assert torch.is_deterministic_algorithms_warn_only_enabled()
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
        finally:
            torch.use_deterministic_algorithms(False)


def test_random_numbers_go_on_behind_an_error_too() -> None:
    random.seed(3)
    expected = random.random()
    random.seed(3)
    block = preserve_random_state(torch.device("cpu"))
    block.__enter__()
    random.seed(0)
    assert not block.__exit__(KeyError, KeyError(), None)  # the error goes on
    assert random.random() == expected


def test_freed_memory_is_kept_by_the_outermost_block(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr("supertickets.device._set_thresholds", lambda mmap, trim: calls.append((mmap, trim)))
    with keep_freed_memory():
        with keep_freed_memory():
            pass
        assert calls == [(1 << 30, 2**31 - 1)]
    assert calls[1:] == [(128 * 1024, 128 * 1024)]
