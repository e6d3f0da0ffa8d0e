"""Files of weights: every usual form is read, nothing in them runs, and what does not fit is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from safetensors.torch import save_file
from torch import Tensor, nn

from supertickets import UserError
from supertickets.models.weights_file import match_weights, read_weights


def network(classes: int = 3) -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, classes))


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


FORMS: list[Callable[[dict[str, Tensor]], Any]] = [
    lambda tensors: tensors,
    lambda tensors: {"state_dict": tensors, "epoch": 3, "best": 0.5},
    lambda tensors: {"model": tensors, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}},
    lambda tensors: {"state_dict": prefixed("module.", tensors)},  # of several GPUs
    lambda tensors: {"model_state_dict": prefixed("_orig_mod.module.", tensors)},  # compiled, of several GPUs
    lambda tensors: {"state_dict": {**prefixed("model.", tensors), "criterion.weight": torch.ones(3)}},
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_all_tensors(form: Callable[[dict[str, Tensor]], Any], tmp_path: Path) -> None:
    tensors = dict(network().state_dict())
    torch.save(form(tensors), tmp_path / "weights.pth")
    match = match_weights(tensors, read_weights(tmp_path / "weights.pth", "x"))
    assert match.tensors.keys() == tensors.keys()
    assert all(torch.equal(match.tensors[name], value) for name, value in tensors.items())
    assert (match.missing, match.misshapen) == ((), {})
    assert match.unused in ((), ("criterion.weight",))


def test_safetensors_are_read(tmp_path: Path) -> None:
    tensors = dict(network().state_dict())
    save_file(tensors, tmp_path / "weights.safetensors")
    given_tensors = read_weights(tmp_path / "weights.safetensors", "x")
    assert all(torch.equal(given_tensors[name], value) for name, value in tensors.items())


def test_another_classifier_is_told_apart() -> None:
    """The network has 5 classes, the file 3, and a layer that the network lacks."""
    of_file = dict(network(3).state_dict()) | {"4.weight": torch.ones(2)}
    match = match_weights(network(5).state_dict(), of_file)
    assert match.misshapen == {"3.weight": ((3, 16), (5, 16)), "3.bias": ((3,), (5,))}
    assert match.unused == ("4.weight",)
    assert match.describe(["3.weight"]) == "3.weight is (3, 16), here (5, 16)"
    assert set(match.tensors) == set(of_file) - {"3.weight", "3.bias", "4.weight"}


def test_what_is_missing_is_named_in_one_line() -> None:
    tensors = dict(network().state_dict())
    match = match_weights(tensors, {name: value for name, value in tensors.items() if not name.startswith("1.")})
    assert match.missing == ("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")
    assert match.describe(match.missing) == (
        "1.weight is missing, 1.bias is missing, 1.running_mean is missing and 2 more"
    )


def test_a_network_of_other_code_is_matched_without_its_own_prefix() -> None:
    """Its tensors are called ``network.NAME``; a file of a library says NAME, one of a ticket network.NAME."""
    tensors = dict(network().state_dict())
    wanted = prefixed("network.", tensors)
    for of_file in (tensors, wanted, prefixed("module.network.", tensors)):
        assert match_weights(wanted, of_file).tensors.keys() == wanted.keys()


@given(
    prefix=some.lists(some.sampled_from(["a", "module", "0", "network"]), max_size=3),
    kept=some.sets(some.integers(0, 8), min_size=1),
    strange=some.booleans(),
)
def test_whatever_the_prefix_the_same_is_found(prefix: list[str], kept: set[int], strange: bool) -> None:
    tensors = dict(network().state_dict())
    names = [name for i, name in enumerate(tensors) if i in kept]
    of_file = prefixed("".join(f"{part}." for part in prefix), {name: tensors[name] for name in names})
    given_tensors = of_file | ({"zzz": torch.ones(1)} if strange else {})
    match = match_weights(tensors, given_tensors)
    assert set(match.tensors) == set(names)
    assert match.unused == (("zzz",) if strange else ())


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("wrapped", [False, True])
def test_pickled_code_does_not_run(tmp_path: Path, wrapped: bool) -> None:
    trap, path = tmp_path / "trap", tmp_path / "weights.pth"
    torch.save({"state_dict": network().state_dict(), "args": Hostile(trap)} if wrapped else Hostile(trap), path)
    with pytest.raises(UserError, match=r"x .*weights.pth holds more than tensors, .*; save model.state_dict\(\)") as e:
        read_weights(path, "x")
    assert "\n" not in str(e.value)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pth", b"", "is damaged or holds no weights"),
        ("a.pth", b"PK\x03\x04 cut off", "is damaged or holds no weights"),
        ("a.safetensors", b"\x00" * 20, "is damaged or holds no weights"),
        ("a.safetensors", None, "does not exist; check the path"),
        ("a.pth", None, "does not exist; check the path"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_weights(tmp_path / name, "supernet.pretrained")
    assert str(error.value).startswith(f"supernet.pretrained {tmp_path / name} ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [[1, 2], {"epoch": 3}, {}, torch.ones(3)])
def test_what_holds_no_tensors_by_name_is_refused(data: Any, tmp_path: Path) -> None:
    torch.save(data, tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds no tensors by name"):
        read_weights(tmp_path / "a.pth", "x")
