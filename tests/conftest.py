"""Fixtures that all tests share: one thread, no network, a tiny run, the command line in this process."""

from __future__ import annotations

import os

# Before torch is imported: results are equal to the bit at a fixed number of threads, and two cores are shared.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml

import supertickets as st
from cli_outcome import Cli, Outcome
from generate_streets import plain, street
from supertickets.cli.main import main

torch.set_num_threads(1)

pytest_plugins = ["sweep_fixtures"]

# A supernet of one stage and two branches on the embedded digits, with dropout, so that its random numbers count too.
# Units of both kinds are removed after epochs 1 and 2, weights are pruned after every epoch and reactivated once.
_TOY = """
--threads 1 --epochs 4 --evaluate_every 2 --recalibrate_batches 2 --ema_decay 0.9
--optimizer.clip_norm 5 --lr.warmup_epochs 0.5
--search.interval 1 --search.last_epoch 2 --search.warmup_epochs 0 --search.threshold 0.3 --search.rho 0.5
--prune.progressive false --prune.interval 1 --prune.exempt_below 0 --prune.ratio 0.5
--supernet.settings.channels [[6,8]] --supernet.settings.blocks [[1,1]] --supernet.settings.kernels [3,5]
--supernet.settings.stem_channels [6,6] --supernet.settings.head_channels [8,12] --supernet.settings.last_channels 24
--supernet.settings.dropout 0.1 --supernet.settings.token_dropout 0.1
--supernet.settings.expansion 1 --supernet.settings.tokens 3 --supernet.settings.grid 4
"""
# One branch of it, in five steps per epoch: it learns nothing, but everything happens to it.
_QUICK = """
--supernet.settings.channels [[6]] --supernet.settings.blocks [[1]] --supernet.settings.head_channels [8]
--supernet.settings.grid 3 --data.validation 0.5 --data.batch 128 --search.rho 1 --search.threshold 0.7
"""


IdxWriter = Callable[..., Path]


@pytest.fixture(scope="session")
def toy_words() -> list[str]:
    """Overrides of the recipe "digits" for a run of about three seconds that learns a little."""
    return _TOY.split()


@pytest.fixture(scope="session")
def quick_words() -> list[str]:
    """Overrides of the recipe "digits" for a run of about a second: four epochs of five steps."""
    return [*_TOY.split(), *_QUICK.split()]


@pytest.fixture(scope="session")
def quick_settings(quick_words: list[str]) -> dict[str, Any]:
    """`quick_words` as the settings of a sweep, which has ratios of its own."""
    words = dict(zip(quick_words[::2], quick_words[1::2], strict=True))
    return {name[2:]: yaml.safe_load(value) for name, value in words.items() if name != "--prune.ratio"}


@pytest.fixture(scope="session")
def toy_run(toy_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run; tests must not write into it."""
    folder = tmp_path_factory.mktemp("toy") / "run"
    st.draw(st.load_recipe("digits", toy_words), folder)
    return folder


@pytest.fixture(scope="session")
def ticket(toy_run: Path) -> st.Ticket:
    """The ticket of `toy_run`."""
    return st.load(toy_run / "ticket")


@pytest.fixture(scope="session")
def quick_run(quick_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run with `quick_words`; tests must not write into it."""
    folder = tmp_path_factory.mktemp("quick") / "run"
    st.draw(st.load_recipe("digits", quick_words), folder)
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in folders, of three classes."""
    return plain(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Street scenes in CamVid's layout."""
    return street(tmp_path_factory.mktemp("street"), {"train": 24, "val": 4, "test": 6})


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process."""

    def run(*words: str | Path) -> Outcome:
        capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture
def write_idx() -> IdxWriter:
    """Writes an array of bytes as an idx file, gzipped if the name says so."""

    def write(path: Path, values: npt.NDArray[np.uint8]) -> Path:
        header = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        raw = header + values.astype(np.uint8).tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
        return path

    return write


@pytest.fixture
def idx_folder(tmp_path: Path, write_idx: IdxWriter) -> Path:
    """A folder in MNIST's layout: 40 training and 20 test images of 8x8 pixels, four classes."""
    folder = tmp_path / "idx"
    generator = np.random.default_rng(0)
    for name, count in (("train", 40), ("t10k", 20)):
        images = generator.integers(0, 256, (count, 8, 8)).astype(np.uint8)
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", (np.arange(count) % 4).astype(np.uint8))
    return folder
