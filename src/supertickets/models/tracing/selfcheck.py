"""Numeric check of unit groups: a narrowed network gives what the whole one gives with the removed units silent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..units import UnitGroup, axis_flags
from .narrow import narrow_module
from .tracer import output_tensors

TOLERANCE = 1e-4  # largest difference, as a share of the largest output
_BATCH = 2


class SelfCheck:
    """Checks groups of a network with data, which must be in eval mode and stays as it is.

    Args:
        module: The network, with lively weights; see `enliven`.
        input_shape: Channels, height and width of its images.
        generator: Source of the images and of the units that are removed.
    """

    def __init__(self, module: nn.Module, input_shape: tuple[int, int, int], generator: torch.Generator) -> None:
        self._module = module
        self._without_data = to_meta(module)
        self._tensors = dict(module.state_dict())
        self._images = torch.randn(_BATCH, *input_shape, generator=generator)
        self._generator = generator

    def split(self, groups: Sequence[UnitGroup]) -> tuple[list[UnitGroup], dict[str, str]]:
        """Split groups into those that are right, together, and the others.

        Returns:
            The groups that are right, and the fault of each other group by its name.
        """
        keeps = [{group.name: choose(group) for group in groups} for choose in (self._half, self._inner)]
        runnable, faults = split_by_fault(groups, partial(self._fault_in_shapes, keeps=keeps[0]))
        for keep in keeps:
            runnable, more = split_by_fault(runnable, partial(self._fault, keeps=keep))
            faults |= more
        return runnable, faults

    def _half(self, group: UnitGroup) -> Tensor:
        """Return flags of a random half of the units."""
        order = torch.randperm(len(group), generator=self._generator)
        return torch.ones(len(group), dtype=torch.bool).index_fill(0, order[: len(group) // 2], False)

    @staticmethod
    def _inner(group: UnitGroup) -> Tensor:
        """Return flags of all units but the first and the last, which shows slices by constant places."""
        keep = torch.ones(len(group), dtype=torch.bool)
        keep[0] = False
        keep[-1] = len(group) == 2
        return keep

    def _fault_in_shapes(self, groups: Sequence[UnitGroup], keeps: Mapping[str, Tensor]) -> str | None:
        """Return why a narrowed network does not run; None if it does. Nothing is computed."""
        module = copy.deepcopy(self._without_data)
        shapes = {name: list(tensor.shape) for name, tensor in self._tensors.items()}
        for (name, dim), flags in axis_flags(groups, _of_groups(keeps, groups)).items():
            shapes[name][dim] = int(flags.sum())
        try:
            with torch.no_grad():
                narrow_module(module, shapes)(self._images.to("meta"))
        except Exception as error:  # whatever a forward raises at maps that are narrower than it expects
            return f"it does not run when narrowed: {_first_words(error)}"
        return None

    def _fault(self, groups: Sequence[UnitGroup], keeps: Mapping[str, Tensor]) -> str | None:
        """Return how a narrowed network differs from the one whose removed units are silent; None if it does not."""
        keep = _of_groups(keeps, groups)
        silent = silence_units(self._tensors, groups, keep)
        try:
            narrow = self._outputs(cut_tensors(silent, groups, keep))
        except Exception as error:  # likewise
            return f"it does not run when narrowed: {_first_words(error)}"
        whole = self._outputs(silent)
        if [out.shape for out in narrow] != [out.shape for out in whole]:
            return "the outputs have other shapes when narrowed"
        difference = max((_difference(a, b) for a, b in zip(narrow, whole, strict=True)), default=0.0)
        return None if difference <= TOLERANCE else f"outputs differ by {difference:.0e} when narrowed"

    def _outputs(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        module = share_tensors(self._module)
        narrow_module(module, {name: tensor.shape for name, tensor in tensors.items()})
        module.load_state_dict(tensors, assign=True)
        with torch.no_grad():
            return [out for out in output_tensors(module(self._images)) if out.is_floating_point()]


def split_by_fault(
    groups: Sequence[UnitGroup], find_fault: Callable[[Sequence[UnitGroup]], str | None]
) -> tuple[list[UnitGroup], dict[str, str]]:
    """Split groups into those that have no fault together, and the others, by bisection.

    Args:
        groups: Groups of a network.
        find_fault: Function that returns the fault of some groups together; None if there is none.

    Returns:
        The groups without fault, and the fault of each other group by its name.
    """
    accepted: list[UnitGroup] = []
    faults: dict[str, str] = {}

    def add(candidates: Sequence[UnitGroup]) -> None:
        fault = find_fault([*accepted, *candidates])
        if fault is None:
            accepted.extend(candidates)
        elif len(candidates) == 1:
            faults[candidates[0].name] = fault
        else:
            middle = len(candidates) // 2
            add(candidates[:middle])
            add(candidates[middle:])

    if groups:
        add(groups)
    return accepted, faults


def _of_groups(keeps: Mapping[str, Tensor], groups: Sequence[UnitGroup]) -> dict[str, Tensor]:
    return {group.name: keeps[group.name] for group in groups}


def _first_words(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of two tensors as a share of the largest entry; infinite if one is not finite."""
    if not a.numel():
        return 0.0
    difference = float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))
    return difference if difference == difference else float("inf")


def cut_tensors(
    tensors: Mapping[str, Tensor], groups: Sequence[UnitGroup], keep: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors of a state dict without the entries of units that go.

    Args:
        tensors: Tensors by name.
        groups: Groups of the network.
        keep: Group name -> flags of the units that stay.
    """
    out = dict(tensors)
    for (name, dim), flags in axis_flags(groups, keep).items():
        out[name] = out[name].index_select(dim, flags.nonzero().flatten())
    return out


def silence_units(
    tensors: Mapping[str, Tensor], groups: Sequence[UnitGroup], keep: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors of a state dict with zeros at the gates of units that go.

    Args:
        tensors: Tensors by name.
        groups: Groups of the network.
        keep: Group name -> flags of the units that stay.
    """
    out = dict(tensors)
    for group in groups:
        for gate in group.gates:
            gone = (~gate.flags(keep[group.name])).nonzero().flatten()
            out[gate.tensor] = out[gate.tensor].index_fill(gate.dim, gone, 0)
    return out


def enliven(module: nn.Module, generator: torch.Generator) -> None:
    """Give tensors that begin as constants random values, so that no unit is silent and no statistic neutral.

    Fresh norms, layer scales, zero-initialised residuals and running statistics would hide faults.

    Args:
        module: A network with data; it is changed.
        generator: Source of the values.
    """
    for tensor in module.state_dict().values():
        if not tensor.is_floating_point() or not tensor.numel() or tensor.min() != tensor.max():
            continue
        low, high = (0.5, 1.5) if tensor.flatten()[0] != 0 else (-0.2, 0.2)
        tensor.uniform_(low, high, generator=generator)


def share_tensors(module: nn.Module) -> nn.Module:
    """Return a copy of a module that shares its parameters and buffers."""
    return copy.deepcopy(module, {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]})


def to_meta(module: nn.Module) -> nn.Module:
    """Return a copy of a module on the meta device, in which tied tensors stay tied."""
    memo: dict[int, Tensor] = {}
    for layer in module.modules():
        for tensor in [*layer._parameters.values(), *layer._buffers.values(), *vars(layer).values()]:
            if isinstance(tensor, nn.Parameter):
                memo[id(tensor)] = nn.Parameter(torch.empty_like(tensor, device="meta"), tensor.requires_grad)
            elif isinstance(tensor, Tensor):
                memo[id(tensor)] = torch.empty_like(tensor, device="meta")
    return copy.deepcopy(module, memo)
