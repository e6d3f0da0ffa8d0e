"""The features of a network that lost traced units, under the head of another task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import supertickets as st
from generate_streets import street
from supertickets.models.traced import TracedSpec

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def colored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three colours, with noise, in a folder per class."""
    root = tmp_path_factory.mktemp("colored")
    generator = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir()
        for i in range(20):
            pixels = generator.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def test_features_keep_their_widths_under_the_head_of_scenes(colored: Path, tmp_path: Path) -> None:
    words = [
        *("--data.dir", str(colored), "--data.size", "32", "--data.batch", "12", "--data.workers", "0"),
        *("--supernet.name", "resnet8", "--supernet.settings.width", "8", "--threads", "1", "--epochs", "3"),
        *("--evaluate_every", "3", "--recalibrate_batches", "1", "--search.interval", "1", "--search.end", "0.7"),
        *("--budget.params", "1e4", "--search.importance", "gate", "--prune.ratio", "0.3", "--prune.schedule", "cubic"),
    ]
    drawn = st.draw(st.load_recipe("images", words), tmp_path / "images")
    assert isinstance(drawn.spec, TracedSpec)
    streets = street(tmp_path / "streets", {"train": 16, "val": 4, "test": 4})
    scenes = [
        *("--data.dir", str(streets), "--threads", "1", "--epochs", "1", "--recalibrate_batches", "1"),
        *("--data.size", "[32,40]", "--data.shorter", "32", "--data.batch", "8", "--data.workers", "0"),
        *("--data.class_names", '["sky","road","tree"]', "--data.ignore", "[255]"),
    ]
    moved = st.transfer(drawn, st.transfer_recipe(drawn, "camvid_fpn", scenes), tmp_path / "moved")
    features = [name for name in drawn.weights if moved.module.is_feature(name)]
    assert len(features) > 20
    assert all(moved.weights[name].shape == drawn.weights[name].shape for name in features)
    assert any("head" in name for name in moved.weights)
    mask = [name for name in drawn.mask if name in features]
    assert all(torch.equal(moved.mask[name], drawn.mask[name]) for name in mask)
    assert st.load(tmp_path / "moved").module(torch.zeros(1, 3, 32, 40)).shape[1] == 3
