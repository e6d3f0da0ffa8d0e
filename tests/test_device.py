"""Devices by name, on machines with GPUs and without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from supertickets import UserError
from supertickets.device import computes_in_bf16, find_device


@pytest.fixture
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes PyTorch see so many GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("gpus", "name", "device"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda"),
        (2, "cuda:1", "cuda:1"),
    ],
    indirect=["gpus"],
)
def test_names_that_there_are(name: str, device: str) -> None:
    assert find_device(name) == torch.device(device)


def test_apples_gpus_are_taken_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("mps") == torch.device("mps")


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("gpus", "name", "said"),
    [
        (0, "cuda", "device cuda was asked for but PyTorch sees no GPU"),
        (0, "cuda:1", "device cuda:1 was asked for but PyTorch sees no GPU"),
        (2, "cuda:2", "device cuda:2 does not exist; there are 2 GPUs, from cuda:0"),
        (0, "mps", "device mps was asked for but PyTorch sees no GPU of Apple's"),
        (2, "tpu", "device 'tpu' is not one on which"),
        (2, "meta", "device 'meta' is not one on which"),
        (2, "", "device '' is not one on which"),
    ],
    indirect=["gpus"],
)
def test_names_that_there_are_not(name: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        find_device(name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_bfloat16_is_where_the_processor_says_so() -> None:
    """Linux names the instructions of a processor."""
    path = Path("/proc/cpuinfo")
    flags = path.read_text().split() if path.exists() else []
    if "flags" not in flags:
        pytest.skip("this system does not list them")
    assert computes_in_bf16(torch.device("cpu")) == bool({"avx512_bf16", "amx_tile"} & set(flags))


def test_bfloat16_is_not_assumed_of_other_devices() -> None:
    assert not computes_in_bf16(torch.device("mps"))
