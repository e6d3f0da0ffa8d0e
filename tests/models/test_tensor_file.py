"""Tensors in files: shared ones are stored once, damage and full disks are noticed."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from supertickets.models.tensor_file import load_tensors, save_tensors


def test_a_tensor_with_two_names_is_stored_once_and_read_by_both(tmp_path: Path) -> None:
    weight = torch.arange(6.0).view(2, 3)
    save_tensors(tmp_path / "a.safetensors", {"one": weight, "two": weight, "third": weight.clone()}, {"k": "v"})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["one", "third"]
    tensors, metadata = load_tensors(tmp_path / "a.safetensors")
    assert {name: value.tolist() for name, value in tensors.items()} == dict.fromkeys(
        ("one", "two", "third"), weight.tolist()
    )
    assert tensors["two"] is tensors["one"]
    assert metadata == {"k": "v"}


def test_views_of_one_memory_are_stored_as_they_are(tmp_path: Path) -> None:
    memory = torch.arange(8.0)
    tensors = {"all": memory, "begin": memory[:3], "rows": memory.view(2, 4), "turned": memory.view(2, 4).t()}
    save_tensors(tmp_path / "a.safetensors", tensors)
    loaded, _ = load_tensors(tmp_path / "a.safetensors")
    assert {name: value.tolist() for name, value in loaded.items()} == {k: v.tolist() for k, v in tensors.items()}


def test_a_limit_of_file_sizes_leaves_the_old_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", {"w": torch.ones(2)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            save_tensors(tmp_path / "a.safetensors", {"w": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_tensors(tmp_path / "a.safetensors")[0]["w"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_table_of_names_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", {"w": torch.ones(2)}, {"shared": '{"v": "x"}'})
    with pytest.raises(ValueError, match="shared"):
        load_tensors(tmp_path / "a.safetensors")
