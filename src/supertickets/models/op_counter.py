"""Count the convolutions and matrix products of a forward, whatever the layers are, without data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class CountedOp(NamedTuple):
    """A convolution or a matrix product; if it has a weight, all that this weight enters.

    Attributes:
        name: Path of the weight's layer, or of the module in which two computed tensors are multiplied.
        weight: Name of the parameter that is one factor as it is; None if there is none (attention, or a weight that is
            computed from parameters).
        macs: Multiply-accumulates.
    """

    name: str
    weight: str | None
    macs: int


def count_operations(module: nn.Module, images: Tensor) -> tuple[list[CountedOp], Any]:
    """Lists the products of a forward in their order, and what comes out of it.

    PyTorch's own formulas count them, operation by operation, so that no kind of layer needs to be known.

    Args:
        module: A network, best without data (meta tensors); in the mode that is asked about.
        images: (B, C, H, W), on its device.
    """
    recorder = _Recorder(module)
    hooks = [hook for name, layer in module.named_modules() for hook in recorder.follow(name, layer)]
    try:
        with torch.no_grad(), recorder:
            out = module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [CountedOp(name, weight, macs) for (name, weight), macs in recorder.macs.items()], out


class _Recorder(TorchDispatchMode):
    """Sees every operation, below autograd, where layers have come apart into a few kinds."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # A view of a parameter, such as a transposed one, has its storage.
        self.weights = {_storage(p): name for name, p in module.named_parameters() if p.ndim > 1}
        self.inside = [""]
        self.macs: dict[tuple[str, str | None], int] = {}

    def follow(self, name: str, layer: nn.Module) -> tuple[Any, Any]:
        """Keeps account of the module that is running."""

        def enter(*_: Any) -> None:
            self.inside.append(name)

        def leave(*_: Any) -> None:
            self.inside.pop()

        return layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula: Callable[..., int] | None = flop_registry.get(func.overloadpacket)
        if formula is not None:
            macs = formula(*args, **(kwargs or {}), out_val=out) // 2
            factors = [_storage(arg) for arg in args if isinstance(arg, Tensor)]
            # The last factor is the layer's: the other may be a parameter too, such as the queries of attention.
            weight = next((self.weights[at] for at in reversed(factors) if at in self.weights), None)
            key = (self.inside[-1] if weight is None else weight.rpartition(".")[0], weight)
            self.macs[key] = self.macs.get(key, 0) + macs
        return out


def _storage(tensor: Tensor) -> int:
    place: int = tensor.untyped_storage()._cdata
    return place
