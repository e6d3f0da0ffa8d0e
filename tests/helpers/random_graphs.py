"""Random graphs of the sparse runtime: odd sizes, groups, strides, zeros in every pattern, sums, joined maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from supertickets.runtime.activations import ACTIVATION_NAMES
from supertickets.runtime.graph import Graph, Node, infer_values

Array = npt.NDArray[Any]
PARAMETERS = {"clip": (-0.5, 1.5), "hard_sigmoid": (0.2, 0.5), "leaky_relu": (0.1,)}


class Builder:
    """A random graph that grows by one operation after the other."""

    def __init__(self, data: st.DataObject) -> None:
        self.data, self.random = data, np.random.default_rng(data.draw(st.integers(0, 2**20)))
        shape = tuple(data.draw(st.tuples(st.integers(1, 6), st.integers(1, 19), st.integers(1, 23))))
        self.graph = Graph("images", (None, *shape), shape, ("images",), (), {})
        self.maps = ["images"]

    def shape(self, name: str) -> tuple[int, ...]:
        return infer_values(self.graph, (1, *self.graph.example)).shapes[name]

    def add(self, operation: str, inputs: list[str], attributes: dict[str, Any], outputs: int = 1) -> list[str]:
        names = tuple(f"v{len(self.graph.nodes)}_{i}" for i in range(outputs))
        node = Node(operation, tuple(inputs), names, attributes)
        self.graph = replace(self.graph, nodes=(*self.graph.nodes, node), outputs=names[-1:])
        return list(names)

    def tensor(self, value: Array) -> str:
        name = f"w{len(self.graph.tensors)}"
        tensors = {**self.graph.tensors, name: value.astype(value.dtype if value.dtype == np.int64 else np.float32)}
        self.graph = replace(self.graph, tensors=tensors)
        return name

    def one_map(self) -> str:
        return self.data.draw(st.sampled_from(self.maps))

    def activation(self) -> tuple[Any, ...]:
        name = self.data.draw(st.sampled_from([n for n in ACTIVATION_NAMES if n != "sqrt"]))
        return (name, *PARAMETERS.get(name, ()))

    def weight(self, channels: int, depth: int, kernel: tuple[int, int]) -> Array:
        """Zeros that are none, unstructured, in blocks, in whole filters, or everywhere."""
        block = self.data.draw(st.sampled_from([1, 1, 2, 4, 8, 16]))
        density = self.data.draw(st.sampled_from([0.0, 0.1, 0.3, 1.0]))
        flags = self.random.random((-(-channels // block), depth, *kernel)) < density
        empty = self.random.random(-(-channels // block)) < self.data.draw(st.sampled_from([0.0, 0.3]))
        mask = np.repeat(flags & ~empty[:, None, None, None], block, 0)[:channels]
        return self.random.standard_normal((channels, depth, *kernel)) * mask / np.sqrt(depth * np.prod(kernel))

    def conv(self) -> None:
        draw, name = self.data.draw, self.one_map()
        _, channels, height, width = self.shape(name)
        groups = draw(st.sampled_from([g for g in (1, 1, 1, 2, 3, channels) if channels % g == 0]))
        out = groups * draw(st.integers(1, 20 if groups == 1 else 4))
        stride, dilation = draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 1, 2]))
        kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (7, 7), (1, 3), (2, 2)]))
        pads = [draw(st.integers(0, k)) for k in (*kernel, *kernel)]
        spans = [dilation * (k - 1) + 1 for k in kernel]
        if height + pads[0] + pads[2] < spans[0] or width + pads[1] + pads[3] < spans[1]:
            return
        inputs = [name, self.tensor(self.weight(out, channels // groups, kernel)), self.tensor(self.random.random(out))]
        attributes = {
            **{"strides": (stride, stride), "pads": tuple(pads), "dilations": (dilation, dilation), "groups": groups},
            "activation": self.activation(),
        }
        [result] = self.add("conv", inputs, attributes)
        same = [m for m in self.maps if self.shape(m) == self.shape(result)]
        if same and draw(st.booleans()):
            self.graph = replace(self.graph, nodes=self.graph.nodes[:-1])
            [result] = self.add("conv", [*inputs, draw(st.sampled_from(same))], attributes)
        self.maps.append(result)

    def pool(self) -> None:
        draw, name = self.data.draw, self.one_map()
        kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        if min(self.shape(name)[2:]) < kernel:
            return
        pads = tuple(draw(st.integers(0, kernel - 1)) for _ in range(4))
        attributes = {"kernel": (kernel,) * 2, "strides": (stride,) * 2, "pads": pads, "ceil": draw(st.booleans())}
        if draw(st.booleans()):
            self.maps += self.add("max_pool", [name], attributes | {"dilations": (1, 1)})
        else:
            self.maps += self.add("avg_pool", [name], attributes | {"count_pads": draw(st.booleans())})

    def resize(self) -> None:
        draw, name = self.data.draw, self.one_map()
        sizes = np.array([1, self.shape(name)[1], draw(st.integers(1, 20)), draw(st.integers(1, 20))])
        mode, centres = draw(st.sampled_from([("nearest", "asymmetric"), ("linear", "half_pixel")]))
        self.maps += self.add("resize", [name, self.tensor(sizes)], {"mode": mode, "centres": centres})

    def combine(self) -> None:
        draw, name = self.data.draw, self.one_map()
        shape = self.shape(name)
        operation, attributes = draw(st.sampled_from(["add", "mul", "sub"])), {"activation": self.activation()}
        others = [m for m in self.maps if self.shape(m) == shape]
        if draw(st.booleans()):
            other = draw(st.sampled_from(others))
        elif draw(st.booleans()):
            other = self.add("mean", [name], {"axes": (2, 3), "keep": True})[0]
        else:
            other = self.tensor(self.random.random(draw(st.sampled_from([(), (1, shape[1], 1, 1)]))))
        pair = [name, other] if draw(st.booleans()) else [other, name]
        self.maps += self.add(operation, pair, attributes)

    def concat(self) -> None:
        name = self.one_map()
        others = [m for m in self.maps if self.shape(m)[2:] == self.shape(name)[2:]]
        chosen = self.data.draw(st.lists(st.sampled_from(others), min_size=1, max_size=3))
        self.maps += self.add("concat", [name, *chosen], {"axis": 1})

    def split(self) -> None:
        name = self.one_map()
        channels = self.shape(name)[1]
        first = self.data.draw(st.integers(1, channels))
        if first < channels:
            self.maps += self.add("split", [name], {"axis": 1, "sizes": (first, channels - first)}, 2)

    def finish(self, head: str) -> None:
        name = self.maps[-1]
        if head == "classes":
            [mean] = self.add("mean", [name], {"axes": (2, 3), "keep": False})
            weight = self.tensor(self.random.standard_normal((5, self.shape(name)[1])))
            self.add("linear", [mean, weight], {"activation": ("none",)})
        elif head == "tokens":
            _, channels, height, width = self.shape(name)
            sizes = self.tensor(np.array([0, channels, height * width]))
            [tokens] = self.add("reshape", [name, sizes], {"zero_copies": True})
            [turned] = self.add("transpose", [tokens], {"order": (0, 2, 1)})
            [scores] = self.add("matmul", [tokens, turned], {})
            scale = self.tensor(np.array(1 / (height * width)))  # large scores would magnify what rounding differs by
            [scores] = self.add("mul", [scores, scale], {"activation": ("none",)})
            [shares] = self.add("softmax", [scores], {"axis": -1})
            self.add("matmul", [shares, tokens], {})
        self.graph = replace(self.graph, outputs=(*self.graph.outputs, name))


STEPS = ("conv", "conv", "conv", "pool", "resize", "combine", "concat", "split")


def random_graph(data: st.DataObject, steps: Sequence[str] = STEPS) -> tuple[Graph, Array]:
    """Return a graph of some kinds of operations, and two images for it."""
    builder = Builder(data)
    for step in data.draw(st.lists(st.sampled_from(steps), min_size=1, max_size=7)):
        getattr(builder, step)()
    builder.finish(data.draw(st.sampled_from(["classes", "tokens", "maps"])))
    return builder.graph, builder.random.standard_normal((2, *builder.graph.example)).astype(np.float32)
