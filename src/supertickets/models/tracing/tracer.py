"""Follow the units of a module through the operations of a forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import layers, moves, pointwise
from .labels import UnitRecord
from .operation import Operation, Trace, is_pointwise

_HANDLERS = moves.HANDLERS | pointwise.HANDLERS | layers.HANDLERS
# What a handler raises at a use of an operation that it does not know.
_NOT_FOLLOWED = (NotImplementedError, RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError)


class UnitTracer(TorchDispatchMode):
    """Sees every operation, below autograd, where layers have come apart into a few kinds.

    What is not known makes the units that enter it stay.

    Attributes:
        trace: What is known of tensors so far.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = trace

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        op = Operation(func, args, dict(kwargs or {}), func(*args, **(kwargs or {})))
        self.trace.keep_alive(op.outputs)
        labelled = [labels for labels in map(self.trace.labels, op.inputs) if labels is not None]
        try:
            self._follow(op, bool(labelled))
        except _NOT_FOLLOWED:
            for labels in labelled:
                self.trace.record.fix(labels.units, f"it enters the operation {op.name}")
        return op.out

    def _follow(self, op: Operation, labelled: bool) -> None:
        handler = _HANDLERS.get(op.name)
        if not op.inputs:
            return
        if handler is not None and (labelled or handler.makes_units):
            handler.follow(self.trace, op)
        elif labelled and is_pointwise(op):
            pointwise.follow_pointwise(self.trace, op)
        elif labelled:
            raise NotImplementedError(op.name)
        else:
            moves.move_parameter(self.trace, op)


def follow_forward(module: nn.Module, images: Tensor, record: UnitRecord) -> None:
    """Follow the units through a forward of a module, in the mode in which it is; units that come out must stay.

    Args:
        module: A network; train mode changes its statistics.
        images: (B, C, H, W).
        record: Record to which everything learnt is added.
    """
    trace = Trace(module, record)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides a Transformer's layer in one operation
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), UnitTracer(trace):
            out = module(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    for tensor in output_tensors(out):
        trace.record.fix(trace.labels_or_none(tensor).units, "it reaches the output")


def output_tensors(out: Any) -> list[Tensor]:
    """Return the tensors of an output: itself, or those in its dicts, lists and tuples."""
    return [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
