"""Files of weights that others trained: read without running any code, and matched with a network by name and shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UserError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # entries that training scripts keep weights in
_OWN_PREFIX = "network."  # of tensors of a network that other code makes; files know them without it
_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class WeightMatch:
    """The tensors of a file, by whether they fit a network.

    Attributes:
        tensors: Tensors that fit, by the network's names.
        missing: Names of the network that the file lacks.
        misshapen: Shapes in the file and in the network, by the network's names.
        unused: Names in the file that the network lacks.
        would_be: What the network would call each of these.
    """

    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...]
    misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unused: tuple[str, ...]
    would_be: tuple[str, ...]

    def describe(self, names: Iterable[str]) -> str:
        """Return what is wrong with some of the missing and misshapen tensors, in one line."""
        faults = [
            "{} is {}, here {}".format(name, *self.misshapen[name]) if name in self.misshapen else f"{name} is missing"
            for name in names
        ]
        return shorten(faults)


def shorten(texts: Iterable[str]) -> str:
    """Return the first few of some texts, and how many more there are."""
    known = list(texts)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more


def read_weights(path: Path, setting: str) -> dict[str, Tensor]:
    """Read a safetensors file, or a state dict in PyTorch's format, also inside ``{"state_dict": ...}`` and the like.

    Pickled code never runs (``weights_only``).

    Args:
        path: The file.
        setting: Name of the setting that gives it, for messages.

    Raises:
        UserError: The file is missing, damaged, or holds something else than tensors by name.
    """
    try:
        data = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{setting} {path} does not exist; check the path") from None
    except UnpicklingError as error:
        raise UserError(
            f"{setting} {path} holds more than tensors, which may run code and is not loaded ({_first_line(error)}); "
            "save model.state_dict(), best as safetensors"
        ) from None
    except (OSError, RuntimeError, SafetensorError, EOFError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{setting} {path} is damaged or holds no weights ({_first_line(error)})") from None
    tensors = _unwrap(data)
    if not tensors:
        raise UserError(f"{setting} {path} holds no tensors by name; save model.state_dict()")
    return tensors


def match_weights(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> WeightMatch:
    """Match the tensors of a file with those of a network by name and shape.

    All names in a file may share a prefix, such as ``module.`` of several GPUs; it is found by the names behind it.

    Args:
        wanted: Parameters and buffers of the network.
        given: Tensors of the file.
    """
    prefix = _find_prefix(wanted, given)
    of_file = {name: f"{prefix}{name.removeprefix(_OWN_PREFIX)}" for name in wanted}
    named = {name: given[theirs] for name, theirs in of_file.items() if theirs in given}
    fitting = {name: value for name, value in named.items() if value.shape == wanted[name].shape}
    own = _OWN_PREFIX if any(name.startswith(_OWN_PREFIX) for name in wanted) else ""
    unused = tuple(sorted(set(given) - set(of_file.values())))
    return WeightMatch(
        tensors=fitting,
        missing=tuple(name for name in wanted if name not in named),
        misshapen={
            name: (tuple(value.shape), tuple(wanted[name].shape))
            for name, value in named.items()
            if name not in fitting
        },
        unused=unused,
        would_be=tuple(f"{own}{name.removeprefix(prefix)}" for name in unused),
    )


def _find_prefix(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Return the prefix under which a file has the most names of a network."""
    bare = [name.removeprefix(_OWN_PREFIX) for name in wanted]
    for name in bare:
        prefixes = {theirs.removesuffix(name) for theirs in given if f".{theirs}".endswith(f".{name}")}
        if prefixes:
            return max(sorted(prefixes), key=lambda prefix: sum(f"{prefix}{each}" in given for each in bare))
    return ""


def _unwrap(data: Any) -> dict[str, Tensor]:
    """Return the tensors by name of a file, wherever training scripts keep them."""
    if not isinstance(data, Mapping):
        return {}
    for wrapper in _WRAPPERS:
        if isinstance(data.get(wrapper), Mapping):
            return _unwrap(data[wrapper])
    return {str(name): value for name, value in data.items() if isinstance(value, Tensor)}


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
