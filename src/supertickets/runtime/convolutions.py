"""The steps of convolutions and of pooling: taps for the weights that are not zero, in blocks of output channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from . import native
from .graph import Node
from .maps import Geometry, MapView, Window
from .planner import Planner
from .products import add_product
from .tuning import zero_pattern

Array = npt.NDArray[Any]
BLOCKS = (16, 8, 4, 2, 1)
# Relative time of one product by block size, measured on AVX-512; and of one product whose vectors are not aligned.
_TIMES = {16: 1.0, 8: 0.9, 4: 1.0, 2: 1.4, 1: 2.2}
_SHIFTED = 1.4


@dataclass(frozen=True)
class Taps:
    """The weights of some output channels that are not zero, by blocks of channels that share them.

    Attributes:
        first: First output channel.
        block: Output channels per block.
        begins: First tap of every block, and the end of the last (blocks + 1).
        offsets: Offset of every tap in the input (taps,).
        weights: Its weight for every channel of its block (taps, block).
    """

    first: int
    block: int
    begins: Array
    offsets: Array
    weights: Array


def block_sizes(channels: int, groups: int, block: int) -> list[tuple[int, int, int]]:
    """Return runs of channels (first, number, block): as many as possible in blocks, the rest in smaller ones.

    Blocks do not reach over groups.
    """
    per_group = channels // groups
    if per_group % block == 0:
        return [(0, channels, block)]
    if groups > 1:
        return block_sizes(channels, groups, block // 2)
    whole = channels // block * block
    runs = [(0, whole, block)] if whole else []
    return runs + [(whole + first, count, size) for first, count, size in block_sizes(channels - whole, 1, block // 2)]


def pack(weight: Array, positions: Array, group_step: int, groups: int, block: int) -> list[Taps]:
    """Return the taps of a convolution.

    Args:
        weight: Weights (outputs, inputs of a group, positions) of the kernel positions that read any pixel.
        positions: Offset of every input channel of the first group at every position (inputs of a group, positions).
        group_step: Difference of these offsets from group to group.
        groups: Groups of channels.
        block: Output channels that share their taps.
    """
    channels, packed = len(weight), []
    for first, count, size in block_sizes(channels, groups, block):
        rows = weight[first : first + count].reshape(count // size, size, *weight.shape[1:])
        used = (rows != 0).any(1)
        at, channel, position = np.nonzero(used)
        group = (first + at * size) // (channels // groups)
        offsets = positions[channel, position] + group * group_step
        begins = np.concatenate([[0], np.cumsum(used.sum((1, 2)))])
        weights = rows[at, :, channel, position].astype(np.float32)
        packed.append(Taps(first, size, begins.astype(np.int32), offsets.astype(np.int32), weights))
    return packed


def lower_conv(plan: Planner, node: Node) -> bool:
    """Add the steps of a convolution."""
    name, weight_name, bias, skip = (*node.inputs, "", "")[:4]
    window = plan.window(node)
    if window is None or not plan.is_constant(weight_name) or (bias and not plan.is_constant(bias)):
        return False
    weight, groups = plan.constant(weight_name), node.attributes["groups"]
    if plan.shape(name)[1] * window.stride**2 * plan.geometry(node.outputs[0]).stride >= 2**31:
        return False  # an offset would not fit
    kept = weight[:, :, [s[0] for s in window.shifts], [s[1] for s in window.shifts]]
    if window.size == window.out == (1, 1) and len(window.shifts) == groups == 1 and not plan.is_map(name):
        add_product(plan, plan.array_of(name), kept[:, :, 0].T, node, bias, skip)
        return True
    geometry = plan.geometry(node.outputs[0])
    following = _split_after(plan, node, window)
    if following is not None:
        return _lower_into_planes(plan, node, kept[:, :, 0], following)
    source = plan.planes_of(name, window, geometry)
    other = plan.map_of(skip) if skip else None
    out = plan.output_map(node.outputs[0])
    positions, step = _offsets(window, source, weight.shape[1], geometry)
    layer = _Layer(plan, node, source.address, out, other, geometry, positions, step)
    layer.add(kept, bias)
    return True


def _offsets(window: Window, source: MapView, depth: int, geometry: Geometry) -> tuple[Array, int]:
    """Return the offsets of the input channels of a group at every position, and the step from group to group."""
    planes = 1 if window.direct else window.stride**2
    shifts = np.array(window.shifts, np.int64).reshape(-1, 5)
    inside = shifts[:, 2] * source.stride + shifts[:, 3] * geometry.pitch + shifts[:, 4]
    channel = np.arange(depth)[:, None] * planes * source.stride
    return channel + inside[None], depth * planes * source.stride


@dataclass(frozen=True)
class _Layer:
    """A convolution: what it reads, and the map that it writes.

    Attributes:
        source: Address of the input.
        out: The map that it writes.
        skip: The map that is added.
        positions: Offset of every input channel of the first group at every position.
        group_step: Difference of these offsets from group to group.
        planes: Planes to write.
        step: Planes that the output has per channel.
    """

    plan: Planner
    node: Node
    source: int
    out: MapView
    skip: MapView | None
    geometry: Geometry
    positions: Array
    group_step: int
    planes: tuple[int, ...] = (0,)
    step: int = 1

    @property
    def groups(self) -> int:
        """Groups of channels."""
        return int(self.node.attributes["groups"])

    def add(self, weight: Array, bias: str) -> None:
        """Add the steps of the convolution, in the fastest form."""
        plan = self.plan
        shifts = plan.constant(bias) if bias else np.zeros(len(weight), np.float32)
        estimates = self._estimate(weight)
        if plan.tuner is None:
            block = min(estimates, key=estimates.__getitem__)
        else:
            held: list[Array] = []  # as long as forms are timed
            signature = (zero_pattern(weight), self.positions.tobytes(), repr(self._form()).encode())
            block = plan.tuner.choose(
                estimates,
                signature,
                lambda form: [
                    (a, self.geometry.vectors) for a, _ in self._steps(weight, shifts, form, partial(_hold, held))
                ],
            )
        for arguments, size in self._steps(weight, shifts, block, plan.address):
            work = size * self.geometry.vectors * plan.library.width // 8
            floats = weight.shape[1] * self.groups + len(weight)
            plan.add(arguments, self.geometry.vectors, self._spatial_reach(), floats, work)

    def _steps(
        self, weight: Array, shifts: Array, block: int, hold: Callable[[Array], int]
    ) -> Iterator[tuple[native.Convolution, int]]:
        """Yield the arguments of every step, and the number of its weights.

        Args:
            weight: Weights (outputs, inputs of a group, positions).
            shifts: Bias of every output.
            block: Output channels that share their taps.
            hold: Function that keeps an array and returns its address.
        """
        stride = self.out.stride * self.step
        for taps in pack(weight, self.positions, self.group_step, self.groups, block):
            count = len(taps.begins) - 1
            addresses = {
                "begins": hold(taps.begins),
                "offsets": hold(taps.offsets),
                "weights": hold(taps.weights),
                "bias": hold(shifts[taps.first : taps.first + count * taps.block]),
                "inside": self.geometry.inside.ctypes.data,
            }
            shape = {"out_stride": stride, "blocks": count, "block": taps.block}
            aligned = not (taps.offsets % self.plan.library.width).any()
            for plane in self.planes:
                moved = 4 * plane * self.out.stride
                out = moved + 4 * taps.first * stride
                arguments = native.Convolution(
                    **{"input": self.source + moved, "output": self.out.address + out, **addresses, **shape},
                    skip=None if self.skip is None else self.skip.address + out,
                    **{"aligned": int(aligned), "past": int(self.plan.leaves_caches(self.node))},
                    activation=self.plan.activation(self.node),
                )
                yield arguments, taps.weights.size

    def _estimate(self, weight: Array) -> dict[int, float]:
        """Return the time of every block size by a model, in products of a vector; those of one form once."""
        shifted = bool((self.positions % self.plan.library.width).any())
        estimates: dict[tuple[Any, ...], tuple[int, float]] = {}
        for block in BLOCKS:
            runs = block_sizes(len(weight), self.groups, block)
            total = 0.0
            for first, count, size in runs:
                rows = weight[first : first + count].reshape(count // size, size, *weight.shape[1:])
                products = float((rows != 0).any(1).sum()) * size
                total += products * _TIMES[size] * (_SHIFTED if size == 1 and shifted else 1) + 4 * count
            estimates.setdefault(tuple(runs), (block, total * self.geometry.vectors * len(self.planes)))
        return dict(estimates.values())

    def _form(self) -> tuple[Any, ...]:
        """Return what else the time depends on."""
        sizes = (self.geometry.pitch, self.geometry.stride, self.geometry.vectors, self.group_step, self.groups)
        memory = (self.planes, self.step, self.skip is not None, self.plan.leaves_caches(self.node))
        return (*sizes, *memory, self.node.attributes["activation"])

    def _spatial_reach(self) -> int:
        """Return by how many vectors a tap reads ahead within its channel."""
        ahead = (self.positions[0] + self.out.stride // 2) % self.out.stride - self.out.stride // 2
        return -(-int(max(ahead.max(initial=0), 0)) // self.plan.library.width)


def _hold(held: list[Array], array: Array) -> int:
    """Return the address of an array, having kept it."""
    held.append(np.ascontiguousarray(array))
    return int(held[-1].ctypes.data)


def _split_after(plan: Planner, node: Node, window: Window) -> Window | None:
    """Return the window of the readers of a convolution of single pixels, if all of them take its output apart.

    The convolution then runs on the planes of its input, which has fewer channels to take apart.
    """
    out, skip = node.outputs[0], len(node.inputs) > 3
    readers = plan.readers.get(out, [])
    single = len(window.shifts) == 1 and window.direct and node.attributes["groups"] == 1 and not skip
    if not single or not readers or out in plan.graph.outputs or any(r.operation != "conv" for r in readers):
        return None
    windows = [plan.window(reader) for reader in readers if reader.inputs[0] == out and out not in reader.inputs[1:]]
    if len(windows) != len(readers) or None in windows:
        return None
    first = windows[0]
    assert first is not None
    even = first.stride == 2 and first.size[0] % 2 == 0 == first.size[1] % 2 and first.plane_size == first.out
    return first if even and all(w is not None and (w.stride, w.out) == (2, first.out) for w in windows) else None


def _lower_into_planes(plan: Planner, node: Node, weight: Array, following: Window) -> bool:
    """Add the steps of a convolution of single pixels on all planes of its input."""
    name, bias = node.inputs[0], (*node.inputs, "")[2]
    geometry = plan.geometry(plan.readers[node.outputs[0]][0].outputs[0])
    source = plan.planes_of(name, following, geometry)
    out = plan.output_planes(node.outputs[0], following, geometry)
    positions = np.arange(weight.shape[1])[:, None] * 4 * source.stride
    layer = _Layer(plan, node, source.address, out, None, geometry, positions, 0, (0, 1, 2, 3), 4)
    layer.add(weight[:, :, None], bias)
    return True


def lower_max_pool(plan: Planner, node: Node) -> bool:
    """Add the steps of max-pooling."""
    window = plan.window(node)
    if window is None or not window.shifts:
        return False
    geometry = plan.geometry(node.outputs[0])
    outside = 0.0 if window.direct and len(window.shifts) == 1 else -np.inf
    source = plan.planes_of(node.inputs[0], window, geometry, outside)
    out = plan.output_map(node.outputs[0])
    positions, _ = _offsets(window, source, 1, geometry)
    plan.add(
        native.MaxPool(
            **{"input": source.address, "output": out.address, "inside": geometry.inside.ctypes.data},
            **{"offsets": plan.address(positions[0].astype(np.int32)), "taps": len(window.shifts)},
            in_stride=source.stride * (window.stride**2 if source.channels != out.channels else 1),
            **{"out_stride": out.stride, "channels": out.channels},
        ),
        geometry.vectors,
    )
    return True


def lower_avg_pool(plan: Planner, node: Node) -> bool:
    """Add the steps of average-pooling, as a convolution; where the number of pixels varies there is none."""
    window, pads = plan.window(node), node.attributes["pads"]
    kernel, channels = node.attributes["kernel"], plan.shape(node.inputs[0])[1]
    if window is None or not window.shifts:
        return False
    ends = [window.stride * (window.out[i] - 1) + kernel[i] - window.size[i] - pads[i] for i in (0, 1)]
    counted = node.attributes["count_pads"] and all(end <= pad for end, pad in zip(ends, pads[2:], strict=True))
    if not counted and (any(pads) or max(ends) > 0):
        return False
    weight = np.full((channels, 1, len(window.shifts)), 1 / (kernel[0] * kernel[1]), np.float32)
    geometry = plan.geometry(node.outputs[0])
    source = plan.planes_of(node.inputs[0], window, geometry)
    out = plan.output_map(node.outputs[0])
    plain = Node("conv", node.inputs, node.outputs, {"groups": channels, "activation": ("none",)})
    positions, step = _offsets(window, source, 1, geometry)
    _Layer(plan, plain, source.address, out, None, geometry, positions, step).add(weight, "")
    return True
