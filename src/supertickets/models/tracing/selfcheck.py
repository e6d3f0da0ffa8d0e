"""Numeric check of unit groups: a narrowed network gives what the whole one gives with the removed units silent."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..units import UnitGroup, axis_flags
from .narrow import narrow_module
from .tracer import output_tensors

TOLERANCE = 1e-6  # largest difference, as a share of the largest output
_REVIVALS = 2  # attempts to turn signs


class SelfCheck:
    """Checks groups of a network, which stays as it is.

    Args:
        module: The network in eval mode, with lively weights of double precision; see `enliven`.
        images: (B, C, H, W).
        generator: Source of the units that are removed.
    """

    def __init__(self, module: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        self._module = module
        self._tensors = dict(module.state_dict())
        self._images = images
        self._generator = generator

    def split(self, groups: Sequence[UnitGroup]) -> tuple[list[UnitGroup], dict[str, str]]:
        """Split groups into those that are right, together, and the others.

        Returns:
            The groups that are right, and the fault of each other group by its name.
        """
        dead = self._revive(groups)
        choices = (self._half, self._all_but_first, self._all_but_last)
        draws = [{group.name: choose(group) for group in groups} for choose in choices]
        checks: list[Callable[[Sequence[UnitGroup]], str | None]] = [partial(self._fault_in_shapes, keeps=draws[0])]
        if self._fault_in_shapes([], {}, training=True) is None:
            checks.append(partial(self._fault_in_shapes, keeps=draws[0], training=True))
        checks += [partial(self._fault_in_outputs, keeps=keeps) for keeps in draws]
        left = [group for group in groups if group not in dead]
        faults = {group.name: "it has no effect on the outputs in eval mode" for group in dead}
        for check in checks:
            left, more = split_by_fault(left, check)
            faults |= more
        return left, faults

    def _half(self, group: UnitGroup) -> Tensor:
        """Return flags of a random half of the units."""
        order = torch.randperm(len(group), generator=self._generator)
        return torch.ones(len(group), dtype=torch.bool).index_fill(0, order[: len(group) // 2], False)

    @staticmethod
    def _all_but_first(group: UnitGroup) -> Tensor:
        """Return flags that show slices by constant places from the front."""
        return torch.arange(len(group)) > 0

    @staticmethod
    def _all_but_last(group: UnitGroup) -> Tensor:
        """Return flags that show slices by constant places from the back."""
        return torch.arange(len(group)) < len(group) - 1

    def _revive(self, groups: Sequence[UnitGroup]) -> list[UnitGroup]:
        """Turn the signs of groups on which no output depends, e.g. behind a ReLU.

        Returns:
            Groups for which that is in vain, so that numbers cannot check them.
        """
        dead = self._without_effect(groups)
        for _ in range(_REVIVALS if dead else 0):
            for gate in {gate.tensor for group in dead for gate in group.gates}:
                self._tensors[gate] = -self._tensors[gate]
            dead = self._without_effect(groups)
        return dead

    def _without_effect(self, groups: Sequence[UnitGroup]) -> list[UnitGroup]:
        """Return the groups on whose gates no output depends."""
        tensors = {
            gate.tensor: self._tensors[gate.tensor].detach().requires_grad_() for g in groups for gate in g.gates
        }
        outputs = [out for out in run_with(self._module, self._tensors | tensors, self._images) if out.requires_grad]
        if not outputs:
            return list(groups)
        total = torch.stack([out.square().sum() for out in outputs]).sum()
        gradients = torch.autograd.grad(total, list(tensors.values()), allow_unused=True)
        reached = {
            name
            for name, gradient in zip(tensors, gradients, strict=True)
            if gradient is not None and bool(gradient.any())
        }
        return [group for group in groups if not any(gate.tensor in reached for gate in group.gates)]

    def _fault_in_shapes(
        self, groups: Sequence[UnitGroup], keeps: Mapping[str, Tensor], training: bool = False
    ) -> str | None:
        """Return why a narrowed network does not run; None if it does."""
        tensors = dict(self._tensors)
        for (name, dim), flags in axis_flags(groups, _of_groups(keeps, groups)).items():
            tensors[name] = tensors[name].narrow(dim, 0, int(flags.sum()))  # any entries will do
        try:
            if training:  # which changes statistics
                tensors |= {name: tensors[name].clone() for name, _ in self._module.named_buffers() if name in tensors}
            with torch.no_grad():
                run_with(self._module.train(training), tensors, self._images)
        except Exception as error:  # whatever a forward raises at maps that are narrower than it expects
            return f"it does not run when narrowed: {' '.join(str(error).split())[:120] or type(error).__name__}"
        finally:
            self._module.eval()
        return None

    def _fault_in_outputs(self, groups: Sequence[UnitGroup], keeps: Mapping[str, Tensor]) -> str | None:
        """Return how a narrowed network differs from the one whose removed units are silent; None if it does not."""
        keep = _of_groups(keeps, groups)
        narrow = cut_tensors(self._tensors, groups, keep)
        try:
            silent = silence_units(self._tensors, groups, keep)
            difference = largest_difference(self._module, silent, narrow, self._images)
        except Exception as error:  # likewise
            return f"it does not run when narrowed: {' '.join(str(error).split())[:120] or type(error).__name__}"
        return None if difference <= TOLERANCE else f"outputs differ by {difference:.0e} when narrowed"


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


def largest_difference(
    module: nn.Module, tensors: Mapping[str, Tensor], narrow: Mapping[str, Tensor], images: Tensor
) -> float:
    """Return the largest difference of any output with narrower tensors, as a share of the largest entry of the output.

    It is infinite if an output has another shape or is not finite.

    Args:
        module: A network, in the mode that is asked about; it stays as it is.
        tensors: Tensors of its state dict.
        narrow: The same without some of their entries.
        images: (B, C, H, W).
    """
    with torch.no_grad():
        pairs = list(zip(*(run_with(module, state, images) for state in (narrow, tensors)), strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return math.inf
    shares = [float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in pairs if a.numel()]
    return max((math.inf if math.isnan(share) else share for share in shares), default=0.0)


def run_with(module: nn.Module, tensors: Mapping[str, Tensor], images: Tensor) -> list[Tensor]:
    """Return the outputs of a network whose state dict has tensors of other shapes; it stays as it is.

    Args:
        module: A network.
        tensors: Tensors by name.
        images: (B, C, H, W).
    """
    before = [(layer, _copy_attributes(layer)) for layer in module.modules()]
    try:
        _empty(module, tensors)
        narrow_module(module, {name: tensor.shape for name, tensor in tensors.items()})
        out = functional_call(module, dict(tensors), (images,), tie_weights=False)
    finally:
        for layer, attributes in before:
            vars(layer).clear()
            vars(layer).update(attributes)
    return [tensor for tensor in output_tensors(out) if tensor.is_floating_point()]


def _empty(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Take the data from parameters and buffers that others stand in for, so that narrowing copies none."""
    for path, layer in module.named_modules():
        prefix = f"{path}." if path else ""
        for values in (layer._parameters, layer._buffers):
            for name, value in values.items():
                if value is not None and prefix + name in tensors:
                    empty = torch.empty_like(value, device="meta")
                    values[name] = nn.Parameter(empty) if isinstance(value, nn.Parameter) else empty


def _copy_attributes(layer: nn.Module) -> dict[str, Any]:
    """Return the attributes of a layer; its dicts and lists, which a forward may fill, as copies."""
    return {
        name: copy.copy(value) if isinstance(value, dict | list) and not name.endswith("hooks") else value
        for name, value in vars(layer).items()
    }


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
        if not bool(flags.all()):
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
