"""Search units of any module, found by tracing and checked by numbers."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...device import preserve_random_state
from ..units import UnitGroup
from .grouping import LeftOut, make_groups
from .labels import UnitRecord
from .selfcheck import SelfCheck, enliven
from .tracer import follow_forward

_SEED = 0
_BATCH = 2  # batch norms need two in train mode


@dataclass(frozen=True)
class TracedUnits:
    """Search units of a module.

    Attributes:
        groups: Groups of units that can be removed exactly; all were checked.
        left_out: Groups that cannot, and why.
    """

    groups: tuple[UnitGroup, ...]
    left_out: tuple[LeftOut, ...]


def trace_units(make: Callable[[], nn.Module], input_shape: tuple[int, int, int]) -> TracedUnits:
    """Find the search units of a module: vectors of channels that can be removed, and every entry they own.

    The operations of a forward say which entries belong together (in eval mode and in train mode, where branches may
    differ). Then random units are removed: the narrowed network must give what the whole one gives with them silent.
    Groups for which it does not are left out. Random numbers of the process stay as they are.

    Args:
        make: Function that makes the module, with any weights.
        input_shape: Channels, height and width of the images to trace with; small ones will do. Whatever the module
            raises at them is raised.
    """
    with preserve_random_state(torch.device("cpu")), torch.device("cpu"):
        torch.default_generator.manual_seed(_SEED)
        generator = torch.Generator().manual_seed(_SEED)
        module = make().eval().double()  # so that no rounding hides a small fault
        images = torch.randn(_BATCH, *input_shape, generator=generator, dtype=torch.float64)
        record = UnitRecord()
        follow_forward(_copy_state(module), images, record)
        with contextlib.suppress(Exception):  # some modules need targets in training: eval mode says all there is
            follow_forward(_copy_state(module).train(), images, record)
        groups, left_out = make_groups(record, _aliases(module), _rankable(module))
        with torch.no_grad():
            enliven(module, generator)
        accepted, faults = SelfCheck(module, images, generator).split(groups)
    sizes = {group.name: len(group) for group in groups}
    left_out += [LeftOut(name, sizes[name], fault) for name, fault in faults.items()]
    return TracedUnits(tuple(accepted), tuple(left_out))


def _copy_state(module: nn.Module) -> nn.Module:
    """Return a copy that shares the parameters alone: a forward changes statistics, and what modules remember."""
    shared: dict[int, object] = {id(parameter): parameter for parameter in module.parameters()}
    for layer in module.modules():  # what a module has computed of its parameters, as old forms of weight norm do
        for value in vars(layer).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                shared[id(value)] = value.detach().clone()
    return copy.deepcopy(module, shared)


def _rankable(module: nn.Module) -> set[str]:
    """Return the names of parameters, but for scales and shifts of norms that have two: they would count twice."""
    tied = {name for first, others in _aliases(module).items() for name in (first, *others)}
    every = module.state_dict(keep_vars=True).items()
    return {
        name for name, tensor in every if isinstance(tensor, nn.Parameter) and (tensor.ndim > 1 or name not in tied)
    }


def _aliases(module: nn.Module) -> dict[str, list[str]]:
    """Return the further names of tied tensors by the first."""
    names: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return {first: others for first, *others in names.values() if others}
