"""Outputs of a ResNet under all of its connection schemes; schemes that begin alike share their first blocks."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from .attention import State
from .network import ResNet

Scheme = tuple[bool, ...]


def outputs_of_all(network: ResNet, images_BCHW: Tensor) -> Iterator[tuple[Scheme, Tensor]]:
    """Walks the schemes as a tree, whose branches part where a block is connected or not.

    A convolution is run 2^i times where i open decisions lie before its block, 2^m - 1 times in all with m blocks; one
    after the other the schemes would take m 2^m. At most m maps are kept at a time.

    Args:
        network: Its decisions are the m blocks that it connects.
        images_BCHW: Images.

    Yields:
        A scheme, a flag per decision, counted up as binary numbers; and the output.
    """
    stages = network.spec.names()
    names = [name for stage in stages for name in stage]
    first = {stage[0] for stage in stages}
    is_open = dict(zip(names, network.spec.connected, strict=True))

    def walk(
        place: int, ended: tuple[Tensor, ...], x_BCHW: Tensor, state: State, scheme: Scheme
    ) -> Iterator[tuple[Scheme, Tensor]]:
        if place == len(names):
            yield scheme, network.finish((*ended, x_BCHW))
            return
        name = names[place]
        if place and name in first:
            ended = (*ended, x_BCHW)
        before = None if name in first else state
        branch_BCHW, shortcut_BCHW = network.run_branch(name, x_BCHW)
        for connected in (False, True) if is_open[name] else (False,):
            joined, after = network.join(name, branch_BCHW, shortcut_BCHW, before, connected=connected)
            yield from walk(place + 1, ended, joined, after, (*scheme, connected) if is_open[name] else scheme)

    yield from walk(0, (), network.begin(images_BCHW), None, ())
