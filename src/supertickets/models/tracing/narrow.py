"""Give a module's layers fewer entries, as the shapes of a state dict say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Shape = Sequence[int]
# Attributes of attention in timm and transformers that are multiples of the number of heads.
_COUNTS_OF_HEADS = (
    *("num_heads", "attn_dim", "key_attn_dim", "val_attn_dim", "out_dim"),
    *("num_attention_heads", "all_head_size"),
)


def narrow_module(module: nn.Module, shapes: Mapping[str, Shape]) -> nn.Module:
    """Give parameters and buffers other shapes, and layers the numbers that follow from them.

    Where a shape differs, values are a slice of those that were there. Order, tied parameters and ``requires_grad``
    stay as they are.

    Args:
        module: A network, with data or on the meta device; it is changed.
        shapes: Shape of the parameters and buffers by name; those that are absent keep theirs.

    Returns:
        The module.
    """
    replaced: dict[int, Tensor] = {}  # tied parameters stay one
    for path, layer in module.named_modules():
        prefix = f"{path}." if path else ""
        _set_heads(layer, prefix, shapes)
        own = {name: tuple(shapes[prefix + name]) for name in _tensors(layer) if prefix + name in shapes}
        if all(tuple(value.shape) == own.get(name, tuple(value.shape)) for name, value in _tensors(layer).items()):
            continue
        _set_numbers(layer, own)
        for name, shape in own.items():
            _resize(layer, name, shape, replaced)
    return module


def _set_heads(layer: Any, prefix: str, shapes: Mapping[str, Shape]) -> None:
    """Set the heads of an attention, by those that are left of the queries: the first of its products."""
    if not (hasattr(layer, "num_heads") or hasattr(layer, "num_attention_heads")):
        return
    products = (
        (f"{prefix}{name}.weight", m) for name, m in layer.named_modules() if isinstance(m, nn.Linear | _ConvNd)
    )
    name, queries = next(products, ("", None))
    if queries is None or name not in shapes:
        return
    before, after = queries.weight.shape[0], shapes[name][0]
    for attribute in _COUNTS_OF_HEADS:
        if isinstance(getattr(layer, attribute, None), int):
            setattr(layer, attribute, getattr(layer, attribute) * after // before)


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in (layer._parameters | layer._buffers).items() if value is not None}


def _resize(layer: nn.Module, name: str, shape: tuple[int, ...], replaced: dict[int, Tensor]) -> None:
    group: dict[str, Any] = layer._parameters if name in layer._parameters else layer._buffers
    old = group[name]
    if tuple(old.shape) == shape:
        return
    if id(old) not in replaced:
        new = old.detach()[tuple(slice(size) for size in shape)].clone(memory_format=torch.contiguous_format)
        parameter = isinstance(old, nn.Parameter)
        replaced[id(old)] = nn.Parameter(new, requires_grad=old.requires_grad) if parameter else new
    group[name] = replaced[id(old)]


def _set_numbers(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for kind, function in _NUMBERS.items():
        if isinstance(layer, kind):
            function(layer, shapes)


def _convolution(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Set channels and groups; of a grouped convolution, whole groups go, unless their width changes too."""
    first, second = shapes.get("weight", tuple(layer.weight.shape))[:2]
    if layer.weight.shape[1] == second:
        layer.groups = layer.groups * first // layer.weight.shape[0] if layer.groups > 1 else 1
    widths = first, second * layer.groups
    layer.in_channels, layer.out_channels = widths if layer.transposed else widths[::-1]


def _linear(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    layer.out_features, layer.in_features = shapes["weight"]


def _norm(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    layer.num_features = next(shape[0] for shape in shapes.values() if shape)


def _layer_norm(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    layer.normalized_shape = shapes["weight"]


def _group_norm(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    (channels,) = shapes["weight"]
    layer.num_groups = max(1, layer.num_groups * channels // layer.num_channels)
    layer.num_channels = channels


def _embedding(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    layer.num_embeddings, layer.embedding_dim = shapes["weight"]


def _prelu(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    (layer.num_parameters,) = shapes["weight"]


_NUMBERS: dict[type[nn.Module], Callable[[Any, Mapping[str, tuple[int, ...]]], None]] = {
    _ConvNd: _convolution,
    nn.Linear: _linear,
    _NormBase: _norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.Embedding: _embedding,
    nn.PReLU: _prelu,
}
