"""Channels that do not depend on the image, found by following every entry through a forward.

Pruning leaves filters without a weight. What they emit is a constant, and so is what norms, activations and further
empty filters make of it, until it is read by a layer that can take it over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..models.tracing import Operation, is_pointwise

_MOVES = (
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "expand", "slice", "select"),
    *("squeeze", "unsqueeze", "narrow", "roll", "flip", "repeat", "cat", "stack", "split", "split_with_sizes"),
    *("unbind", "clone", "_to_copy", "alias", "detach", "pixel_shuffle", "pixel_unshuffle", "constant_pad_nd"),
)
# Whatever is not zero in the input leaves a trace in the output.
_MONOTONE = (
    *("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "upsample_nearest2d", "upsample_bilinear2d"),
    *("mean", "sum", "amax"),
)
_POINTWISE = ("hardswish", "hardswish_", "_prelu_kernel", "rsub")
_PRODUCTS = ("addmm", "mm", "bmm")


@dataclass
class Reading:
    """Input of a layer, by the entries along the dimension of its weight that it is multiplied with.

    Attributes:
        constant: Flags of the entries that are one number everywhere, whatever the image is.
        value: That number.
        absorbs: Whether the layer adds a constant everywhere for a constant of its input: it does not pad.
        bias: Name of the bias, or None.
        mean: Name of the running mean that is subtracted from the output before anything else sees it, or None.
    """

    constant: Tensor
    value: Tensor
    absorbs: bool
    bias: str | None = None
    mean: str | None = None


def find_constants(module: nn.Module, images: Tensor) -> dict[tuple[str, int], Reading]:
    """Return the inputs of all convolutions and linear layers, by weight and dimension; those of shared ones left out.

    Args:
        module: A network in eval mode.
        images: (B, C, H, W), of a size that it takes.
    """
    tracer = _ConstantTracer(module)
    tracer.depends[id(images)] = torch.ones_like(images)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), tracer:
            out = module(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return tracer.finish(out)


class _ConstantTracer(TorchDispatchMode):
    """Keeps beside every map where it depends on the image (one, else zero); a map that has none does not at all."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        tensors = module.state_dict(keep_vars=True)
        self._names = {id(tensor): name for name, tensor in tensors.items()}
        self._weights = {tensor.untyped_storage().data_ptr(): (name, tensor) for name, tensor in tensors.items()}
        self.depends: dict[int, Tensor] = {}
        self._alive: list[Any] = []  # so that no two tensors have one id
        self._uses: dict[int, int] = {}
        self._means: dict[int, str] = {}  # of the norm that takes a map
        self._readings: dict[tuple[str, int], list[tuple[Reading, int]]] = {}
        self._is_sound = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        op = Operation(func, args, dict(kwargs or {}), None)
        depends = [self._depends(tensor) for tensor in op.inputs]
        zero = [(tensor == 0) & (on == 0) for tensor, on in zip(op.inputs, depends, strict=True)]
        op = replace(op, out=func(*args, **(kwargs or {})))
        self._alive.append((op.inputs, op.outputs))
        for tensor in op.inputs:
            self._uses[id(tensor)] = self._uses.get(id(tensor), 0) + 1
        self._note(op)
        if any(id(tensor) in self.depends for tensor in op.inputs):
            self._is_sound &= not _writes_into_a_part(op)
            for out, on in zip(op.outputs, _follow(op, depends, zero), strict=False):
                self.depends[id(out)] = on
        return op.out

    def _depends(self, tensor: Tensor) -> Tensor:
        on = self.depends.get(id(tensor))
        return torch.zeros((), device=tensor.device).expand(tensor.shape) if on is None else on

    def _note(self, op: Operation) -> None:
        """Note what layers read, and which norms follow them."""
        if op.name == "convolution" and op.arguments["groups"] == 1:
            weight, bias, transposed = (op.arguments[name] for name in ("weight", "bias", "transposed"))
            pads = transposed or any(op.arguments["padding"])
            self._read(op, self._names.get(id(weight)), 0 if transposed else 1, not pads, (1, bias))
        elif op.name in ("addmm", "mm"):
            factors = op.inputs[-2:]
            name, weight = self._weights.get(factors[1].untyped_storage().data_ptr(), (None, factors[1]))
            whole = weight.t() if weight.ndim == 2 else weight
            is_whole = factors[1].shape == whole.shape and factors[1].stride() == whole.stride()
            bias = op.inputs[0] if op.name == "addmm" else None
            self._read(op, name if is_whole else None, 1, True, (-1, bias))
        elif "batch_norm" in op.name and id(op.arguments.get("running_mean")) in self._names:
            self._means[id(op.inputs[0])] = self._names[id(op.arguments["running_mean"])]

    def _read(
        self, op: Operation, weight: str | None, dim: int, absorbs: bool, place: tuple[int, Tensor | None]
    ) -> None:
        if weight is None:
            return
        along, bias = place
        x = op.inputs[0] if op.name == "convolution" else op.inputs[-2]
        entries = x.movedim(along, 0).flatten(1)
        on = self._depends(x).movedim(along, 0).flatten(1)
        constant = (on == 0).all(1) & (entries == entries[:, :1]).all(1)
        reading = Reading(constant, entries[:, 0].clone(), absorbs, self._names.get(id(bias)))
        self._readings.setdefault((weight, dim), []).append((reading, id(op.out)))

    def finish(self, outputs: Any) -> dict[tuple[str, int], Reading]:
        """Return the readings of weights that are used once.

        Args:
            outputs: What the network gives.
        """
        seen = {id(leaf) for leaf in tree_leaves(outputs)}
        once = {key: readings[0] for key, readings in self._readings.items() if len(readings) == 1}
        for reading, out in once.values():
            reading.mean = self._means.get(out) if self._uses.get(out) == 1 and out not in seen else None
        return {key: reading for key, (reading, _) in once.items()} if self._is_sound else {}


def _writes_into_a_part(op: Operation) -> bool:
    """Return whether an operation changes a part of a map, of which nothing is known behind it."""
    target = op.inputs[0]
    changes = op.function._schema.is_mutable
    return changes and target.untyped_storage().nbytes() != target.numel() * target.element_size()


def _follow(op: Operation, depends: list[Tensor], zero: list[Tensor]) -> list[Tensor]:
    """Return where the outputs depend on the image, or on the place: where a border is padded with zeros, a constant
    that is not zero does.

    Args:
        op: The operation.
        depends: Dependence of its inputs.
        zero: Flags of the entries of its inputs that are zero for every image.
    """
    outs = op.outputs
    on = iter(depends)
    if op.name == "convolution":
        filters = (op.arguments["weight"] != 0).to(depends[0].dtype)
        x = _as_flags(~zero[0]) if any(op.arguments["padding"]) else depends[0]
        return [_as_flags(op.function(x, filters, None, *op.args[3:]))]
    if op.name in _PRODUCTS:
        x, y = ((~flags).to(depends[0].dtype) for flags in zero[-2:])
        return [_as_flags(depends[-2] @ y + x @ depends[-1])]
    if "batch_norm" in op.name and op.arguments.get("weight") is not None:
        scale = (op.arguments["weight"] != 0).to(depends[0].dtype)
        return [depends[0] * scale.view(-1, *(1 for _ in depends[0].shape[2:]))]
    if op.name in _MOVES or op.name in _MONOTONE:
        pads = op.name == "constant_pad_nd" or (op.name == "avg_pool2d" and any(op.arguments["padding"]))
        moved = op.call(lambda _: _as_flags(~zero[0]) if pads else next(on))
        return [_as_flags(out) for out in (moved if isinstance(moved, tuple | list) else [moved])]
    if op.name in ("mul", "mul_") and len(depends) == 2:
        (a, b), (a_zero, b_zero) = depends, zero
        return [_as_flags(a * ~b_zero + b * ~a_zero)]
    if is_pointwise(op) or op.name in _POINTWISE:
        return [_as_flags(sum((part.expand(outs[0].shape) for part in depends), torch.zeros_like(outs[0])))]
    return [torch.ones(out.shape, device=out.device) for out in outs]


def _as_flags(counts: Tensor) -> Tensor:
    return (counts != 0).to(torch.get_default_dtype())
