"""Maps of networks that other code makes: finding them, and running a network up to them.

A network keeps the names of its weights, whichever way its maps are taken, so that weights of the whole network fit.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .heads import FeatureMap
from .op_counter import count_operations

_STRIDES = (1, 2, 4, 8, 16, 32)
_LEAST_SHARE = 0.5  # of a network's MACs that lie in front of its maps


@dataclass(frozen=True)
class Backbone(ABC):
    """Way to take the maps of a network.

    Attributes:
        maps: Maps that it gives, finest first.
    """

    maps: tuple[FeatureMap, ...]

    @abstractmethod
    def cut(self, network: nn.Module) -> nn.Module:
        """Return the network without what lies behind its maps."""

    @abstractmethod
    def run(self, network: nn.Module, x_BCHW: Tensor) -> list[Tensor]:
        """Return the maps (B, C_i, H_i, W_i) of images, given what `cut` returned."""


@dataclass(frozen=True)
class IntermediateMaps(Backbone):
    """Maps by the method ``forward_intermediates`` that networks of timm have.

    Attributes:
        indices: Places of the maps among all that the method can give.
    """

    indices: tuple[int, ...]

    def cut(self, network: nn.Module) -> nn.Module:
        """Return the network without later layers and classifier, as timm prunes it."""
        prune: Any = getattr(network, "prune_intermediate_layers", None)
        if prune is not None:
            prune(list(self.indices), prune_norm=True, prune_head=True)
        return network

    def run(self, network: nn.Module, x_BCHW: Tensor) -> list[Tensor]:
        """Return the maps of images."""
        return _intermediates(network, x_BCHW, list(self.indices))


@dataclass(frozen=True)
class ListedMaps(Backbone):
    """Maps of a network that returns a list or a dictionary of them.

    Attributes:
        indices: Places of the maps among those.
    """

    indices: tuple[int, ...]

    def cut(self, network: nn.Module) -> nn.Module:
        """Return the network as it is."""
        return network

    def run(self, network: nn.Module, x_BCHW: Tensor) -> list[Tensor]:
        """Return the maps of images."""
        maps = _as_list(network(x_BCHW))
        return [maps[i] for i in self.indices]


@dataclass(frozen=True)
class TracedMaps(Backbone):
    """Maps inside a network that returns class scores, by the names of the operations that make them (torch.fx).

    Attributes:
        train_nodes: Names in the graph of the network in training.
        eval_nodes: Names in that of the network in eval mode.
    """

    train_nodes: tuple[str, ...]
    eval_nodes: tuple[str, ...]

    def cut(self, network: nn.Module) -> nn.Module:
        """Return the graphs up to the maps, with the modules of the network."""
        return _drop_assertions(_extract(network, list(self.train_nodes), list(self.eval_nodes)))

    def run(self, network: nn.Module, x_BCHW: Tensor) -> list[Tensor]:
        """Return the maps of images."""
        return list(network(x_BCHW).values())


def find_backbone(network: nn.Module, x_BCHW: Tensor, name: str) -> Backbone | None:
    """Find the maps of a network: of every stride the last one.

    Args:
        network: Network as its maker made it, best without data (meta tensors).
        x_BCHW: Images for it.
        name: Name of the network, for messages.

    Returns:
        The way to take them; None if the network gives neither maps nor class scores, but what a head would give.

    Raises:
        UserError: Its maps cannot be found.
    """
    size = (x_BCHW.shape[-2], x_BCHW.shape[-1])
    with torch.no_grad():
        if hasattr(network, "forward_intermediates"):
            indices, maps = choose_maps(_intermediates(network.eval(), x_BCHW, None), size, name)
            return IntermediateMaps(maps, indices)
        out = network.eval()(x_BCHW)
        if isinstance(out, list | tuple | Mapping):
            indices, maps = choose_maps(_as_list(out), size, name)
            return ListedMaps(maps, indices)
        return _find_in_graph(network, x_BCHW, name) if out.ndim == 2 else None


def choose_maps(
    outputs: Sequence[Any], size: tuple[int, int], name: str
) -> tuple[tuple[int, ...], tuple[FeatureMap, ...]]:
    """Choose maps among outputs: of every stride the last one.

    Args:
        outputs: Outputs of layers, in their order; what is no map is passed over.
        size: Height and width of the images.
        name: Name of the network, for messages.

    Returns:
        Places of the maps among the outputs, and the maps, finest first.

    Raises:
        UserError: No output is a map.
    """
    by_stride: dict[int, tuple[int, FeatureMap]] = {}
    for i, out in enumerate(outputs):
        if isinstance(out, Tensor) and out.ndim == 4 and (stride := stride_of(out, size)) is not None:
            by_stride[stride] = (i, FeatureMap(out.shape[1], stride))
    if not by_stride:
        raise UserError(f"{name} makes no maps that a head could take; take a convolutional network")
    chosen = [by_stride[stride] for stride in sorted(by_stride)]
    return tuple(i for i, _ in chosen), tuple(one for _, one in chosen)


def stride_of(map_BCHW: Tensor, size: tuple[int, int]) -> int | None:
    """Return the pixels per cell of a map, a power of two; None if its sides do not tell.

    Most networks round sides up when they halve a map, some down.
    """
    sides = (map_BCHW.shape[-2], map_BCHW.shape[-1])
    rounded_up = {tuple(-(-side // stride) for side in size): stride for stride in reversed(_STRIDES)}
    rounded_down = {tuple(side // stride for side in size): stride for stride in reversed(_STRIDES)}
    return rounded_up.get(sides) or rounded_down.get(sides)


def _find_in_graph(network: nn.Module, x_BCHW: Tensor, name: str) -> Backbone:
    from torchvision.models.feature_extraction import get_graph_node_names

    try:
        nodes = get_graph_node_names(network)
        every = _extract(network, *nodes)
    except Exception as error:  # whatever code that cannot be followed raises
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"the maps of {name} cannot be found in its operations ({why}); let the network return a list of its maps, "
            "finest first, or take another one"
        ) from None
    chosen: list[tuple[str, ...]] = []
    maps: tuple[FeatureMap, ...] = ()
    for is_training in (True, False):
        outputs = {node: out for node, out in every.train(is_training)(x_BCHW).items() if out is not x_BCHW}
        indices, maps = choose_maps(list(outputs.values()), (x_BCHW.shape[-2], x_BCHW.shape[-1]), name)
        names = list(outputs)
        chosen.append(tuple(names[i] for i in indices))
    backbone = TracedMaps(maps, *chosen)
    shares = [sum(one.macs for one in count_operations(m.eval(), x_BCHW)[0]) for m in (backbone.cut(network), network)]
    if shares[0] < _LEAST_SHARE * shares[1]:
        raise UserError(
            f"the maps of {name} leave out most of its layers, as those of Transformers on tokens do; take the network "
            "from timm, if it has it, or a convolutional one"
        )
    return backbone


def _extract(network: nn.Module, train_nodes: list[str], eval_nodes: list[str]) -> nn.Module:
    from torchvision.models.feature_extraction import create_feature_extractor

    return create_feature_extractor(network, train_return_nodes=train_nodes, eval_return_nodes=eval_nodes)


def _drop_assertions(cut: Any) -> nn.Module:
    """Return extracted graphs without assertions about what lies behind the maps, which keep all of that in them."""
    for graph in (cut.train_graph, cut.eval_graph):
        for node in [node for node in graph.nodes if node.target is torch._assert]:
            graph.erase_node(node)
        graph.eliminate_dead_code()
    cut.graph = cut.train_graph if cut.training else cut.eval_graph
    cut.delete_all_unused_submodules()
    module: nn.Module = cut
    return module


def _intermediates(network: nn.Module, x_BCHW: Tensor, indices: list[int] | None) -> list[Tensor]:
    run: Any = network.forward_intermediates
    maps: list[Tensor] = run(x_BCHW, indices=indices, stop_early=True, output_fmt="NCHW", intermediates_only=True)
    return maps


def _as_list(outputs: Any) -> list[Any]:
    return list(outputs.values()) if isinstance(outputs, Mapping) else list(outputs)
