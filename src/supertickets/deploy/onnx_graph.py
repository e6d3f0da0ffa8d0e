"""Turn an ONNX model into the graph of the sparse runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UserError, require_libraries
from ..runtime.graph import Graph, Node, infer_node, run_node
from .fuse_graph import fuse

Array = npt.NDArray[Any]
_PLAIN = ("none",)
_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "HardSwish": "hard_swish", "Tanh": "tanh", "Sqrt": "sqrt"}
_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_SAME = ("Identity", "Dropout", "Cast")


class _Unsupported(Exception):
    """An operation, or a use of one, that the runtime does not have."""


@dataclass(frozen=True)
class _Call:
    """One ONNX node: its kind, inputs and outputs by name, attributes; shapes and constants of the graph so far."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    shapes: dict[str, tuple[int, ...]]
    tensors: dict[str, Array]

    def has(self, i: int) -> bool:
        """Return whether an input is given."""
        return i < len(self.inputs) and bool(self.inputs[i])

    def constant(self, i: int) -> Array:
        """Return an input that has to be known."""
        if not self.has(i) or self.inputs[i] not in self.tensors:
            raise _Unsupported(f"input {i} is no constant")
        return self.tensors[self.inputs[i]]

    def integers(self, name: str, i: int) -> list[int]:
        """Return whole numbers that are an attribute or, in newer ONNX, an input."""
        if name in self.attributes:
            return [int(v) for v in self.attributes[name]]
        return [int(v) for v in self.constant(i).reshape(-1)]

    def store(self, name: str, tensor: Array) -> str:
        """Add a weight to the graph; returns its name."""
        self.tensors[name], self.shapes[name] = tensor, tensor.shape
        return name

    def node(self, operation: str, inputs: Sequence[str] | None = None, **attributes: Any) -> Node:
        """Return an operation of the graph with the outputs of this node."""
        names = self.inputs if inputs is None else tuple(inputs)
        return Node(operation, names, self.outputs, attributes)


Reader = Callable[[_Call], list[Node]]


def read_onnx(model: Any, example: tuple[int, int, int]) -> Graph:
    """Return the graph of an ONNX model with one input, its images.

    Constants are folded, activations, biases and sums fused.

    Args:
        model: The ``onnx.ModelProto``.
        example: Sizes (C, H, W) of an image that it takes.

    Raises:
        UserError: The model has operations that the runtime does not have; all of them are named.
    """
    require_libraries("onnx")
    import onnx

    tensors = {t.name: _array(onnx.numpy_helper.to_array(t)) for t in model.graph.initializer}
    [images] = [i for i in model.graph.input if i.name not in tensors]
    sizes = images.type.tensor_type.shape.dim
    shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in sizes)
    shapes = {images.name: (1, *example), **{name: t.shape for name, t in tensors.items()}}
    known = dict(tensors)  # with what follows from the example's sizes
    nodes: list[Node] = []
    same: dict[str, str] = {}
    missing: set[str] = set()
    for proto in model.graph.node:
        attributes = {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in proto.attribute}
        inputs = tuple(same.get(name, name) for name in proto.input)
        if proto.op_type in _SAME:
            same[proto.output[0]] = inputs[0]
            continue
        if missing.intersection(inputs):
            missing.update(proto.output)
            continue
        call = _Call(proto.op_type, inputs, tuple(proto.output), attributes, shapes, tensors)
        try:
            produced = _translate(call)
        except _Unsupported as error:
            missing.add(f" {proto.op_type}{f' ({error})' if str(error) else ''}")
            missing.update(proto.output)
            continue
        for node in produced:
            shapes |= infer_node(node, shapes, known)
            if all(name in tensors for name in node.inputs if name):
                folded = run_node(node, [tensors[name] if name else None for name in node.inputs])
                tensors.update(zip(node.outputs, map(_array, folded), strict=True))
            else:
                nodes.append(node)
    if kinds := sorted(name.strip() for name in missing if name.startswith(" ")):
        raise UserError(f"the sparse runtime cannot run {', '.join(kinds)}; export with --format onnx instead")
    outputs = tuple(same.get(o.name, o.name) for o in model.graph.output)
    return fuse(Graph(images.name, shape, example, outputs, tuple(nodes), tensors))


def _translate(call: _Call) -> list[Node]:
    """Return the operations that an ONNX node becomes."""
    if call.kind in _ACTIVATIONS:
        return [call.node("activation", activation=(_ACTIVATIONS[call.kind],))]
    if call.kind in _BINARY:
        return [call.node(_BINARY[call.kind], activation=_PLAIN)]
    if call.kind not in _READERS:
        raise _Unsupported
    return _READERS[call.kind](call)


def _windows(call: _Call, kernel: Sequence[int]) -> dict[str, Any]:
    """Return the attributes that convolutions and pooling share."""
    if call.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise _Unsupported("padding that depends on sizes")
    if len(kernel) != 2:
        raise _Unsupported(f"{len(kernel)} dimensions")
    return {
        "strides": tuple(call.attributes.get("strides", (1, 1))),
        "pads": tuple(call.attributes.get("pads", (0, 0, 0, 0))),
    }


def _read_conv(call: _Call) -> list[Node]:
    attributes = {
        **_windows(call, call.constant(1).shape[2:]),
        "dilations": tuple(call.attributes.get("dilations", (1, 1))),
        "groups": call.attributes.get("group", 1),
    }
    return [call.node("conv", **attributes, activation=_PLAIN)]


def _read_batch_norm(call: _Call) -> list[Node]:
    """Return a batch norm as a depthwise convolution of single pixels."""
    scale, shift, mean, variance = (call.constant(i) for i in range(1, 5))
    factor = scale / np.sqrt(variance + np.float32(call.attributes.get("epsilon", 1e-5)))
    weight = call.store(f"{call.outputs[0]}.weight", factor.reshape(-1, 1, 1, 1))
    bias = call.store(f"{call.outputs[0]}.bias", shift - mean * factor)
    window = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
    inputs = (call.inputs[0], weight, bias)
    return [call.node("conv", inputs, **window, groups=len(factor), activation=_PLAIN)]


def _read_gemm(call: _Call) -> list[Node]:
    if call.attributes.get("transA", 0) or {call.attributes.get(k, 1.0) for k in ("alpha", "beta")} != {1.0}:
        raise _Unsupported("transposed or scaled")
    return [_linear(call, call.constant(1), bool(call.attributes.get("transB", 0)), call.inputs[2:])]


def _read_matmul(call: _Call) -> list[Node]:
    if call.inputs[1] in call.tensors and len(call.shapes[call.inputs[1]]) == 2:
        return [_linear(call, call.constant(1), False, ())]
    return [call.node("matmul")]


def _linear(call: _Call, matrix: Array, rows: bool, more: Sequence[str]) -> Node:
    """Return a product with a constant matrix, stored as rows of the outputs."""
    name = call.store(f"{call.inputs[1]}.rows", matrix if rows else np.ascontiguousarray(matrix.T))
    return call.node("linear", (call.inputs[0], name, *more), activation=_PLAIN)


def _read_clip(call: _Call) -> list[Node]:
    low, high = (float(call.constant(i)) if call.has(i) else edge for i, edge in ((1, -3.4e38), (2, 3.4e38)))
    return [call.node("activation", call.inputs[:1], activation=("clip", low, high))]


def _read_pool(operation: str) -> Reader:
    def read(call: _Call) -> list[Node]:
        kernel = tuple(call.attributes["kernel_shape"])
        attributes = {**_windows(call, kernel), "kernel": kernel, "ceil": bool(call.attributes.get("ceil_mode", 0))}
        dilations = tuple(call.attributes.get("dilations", (1, 1)))
        if operation == "max_pool":
            return [call.node(operation, **attributes, dilations=dilations)]
        if dilations != (1, 1):
            raise _Unsupported("dilated")
        return [call.node(operation, **attributes, count_pads=bool(call.attributes.get("count_include_pad", 0)))]

    return read


def _read_reduction(operation: str) -> Reader:
    def read(call: _Call) -> list[Node]:
        everything = range(len(call.shapes[call.inputs[0]]))
        axes = call.integers("axes", 1) if call.has(1) or "axes" in call.attributes else list(everything)
        return [call.node(operation, call.inputs[:1], axes=tuple(axes), keep=bool(call.attributes.get("keepdims", 1)))]

    return read


def _read_global_mean(call: _Call) -> list[Node]:
    return [call.node("mean", axes=(2, 3), keep=True)]


def _read_resize(call: _Call) -> list[Node]:
    get = call.attributes.get
    mode = get("mode", "nearest")
    centres = get("coordinate_transformation_mode", "half_pixel")
    floors = mode == "linear" or (get("nearest_mode", "round_prefer_floor") == "floor" and centres == "asymmetric")
    if mode not in ("nearest", "linear") or get("antialias", 0) or "axes" in call.attributes or not floors:
        raise _Unsupported(f"mode {mode}, {centres}")
    if centres == "pytorch_half_pixel":
        centres = "half_pixel"
    if centres not in ("half_pixel", "asymmetric", "align_corners"):
        raise _Unsupported(centres)
    if not call.has(3) and centres != "align_corners":
        known = zip(call.shapes[call.inputs[0]], call.constant(2).reshape(-1).tolist(), strict=True)
        sizes = [side * factor for side, factor in known if isinstance(side, int)]
        if any(abs(size - round(size)) > 1e-3 for size in sizes):  # pixels lie where the factor says, not the size
            raise _Unsupported("a factor that makes no whole size")
    return [call.node("resize", (call.inputs[0], call.inputs[3 if call.has(3) else 2]), mode=mode, centres=centres)]


def _read_axes(operation: str) -> Reader:
    def read(call: _Call) -> list[Node]:
        every = range(len(call.shapes[call.inputs[0]]))
        axes = call.integers("axes", 1) if call.has(1) or "axes" in call.attributes else list(every)
        return [call.node(operation, call.inputs[:1], axes=tuple(axes))]

    return read


def _read_split(call: _Call) -> list[Node]:
    axis, count = call.attributes.get("axis", 0), len(call.outputs)
    size = call.shapes[call.inputs[0]][axis]
    part = -(-size // count)
    equal = [part] * (count - 1) + [size - part * (count - 1)]
    sizes = call.integers("split", 1) if call.has(1) or "split" in call.attributes else equal
    return [call.node("split", call.inputs[:1], axis=axis, sizes=tuple(sizes))]


def _read_slice(call: _Call) -> list[Node]:
    starts, ends = call.integers("starts", 1), call.integers("ends", 2)
    axes = call.integers("axes", 3) if call.has(3) or "axes" in call.attributes else list(range(len(starts)))
    steps = call.integers("steps", 4) if call.has(4) else [1] * len(starts)
    if min(steps) < 1:
        raise _Unsupported("backwards")
    limits = {"starts": tuple(starts), "ends": tuple(min(end, 2**62) for end in ends)}
    return [call.node("slice", call.inputs[:1], axes=tuple(axes), **limits, steps=tuple(steps))]


def _read_shape(call: _Call) -> list[Node]:
    rank = len(call.shapes[call.inputs[0]])
    start, end = call.attributes.get("start", 0), min(call.attributes.get("end", rank), rank)
    return [call.node("shape", start=start % rank if start < rank else rank, end=end % rank if end < 0 else end)]


def _read_reshape(call: _Call) -> list[Node]:
    return [call.node("reshape", zero_copies=not call.attributes.get("allowzero", 0))]


def _read_flatten(call: _Call) -> list[Node]:
    if call.attributes.get("axis", 1) != 1:
        raise _Unsupported("along another axis")
    name = call.store(f"{call.outputs[0]}.shape", np.array([0, -1], np.int64))
    return [call.node("reshape", (call.inputs[0], name), zero_copies=True)]


def _read_transpose(call: _Call) -> list[Node]:
    backwards = range(len(call.shapes[call.inputs[0]]))[::-1]
    return [call.node("transpose", order=tuple(call.attributes.get("perm", backwards)))]


def _read_layer_norm(call: _Call) -> list[Node]:
    axis, epsilon = call.attributes.get("axis", -1), call.attributes.get("epsilon", 1e-5)
    return [call.node("layer_norm", axis=axis, epsilon=epsilon)]


def _read_gelu(call: _Call) -> list[Node]:
    if call.attributes.get("approximate", "none") != "none":
        raise _Unsupported("approximate")
    return [call.node("activation", activation=("gelu",))]


def _read_constant(call: _Call) -> list[Node]:
    import onnx

    if "value" not in call.attributes:
        raise _Unsupported("of this form")
    call.store(call.outputs[0], _array(onnx.numpy_helper.to_array(call.attributes["value"])))
    return []


def _read_hard_sigmoid(call: _Call) -> list[Node]:
    get = call.attributes.get
    return [call.node("activation", activation=("hard_sigmoid", get("alpha", 0.2), get("beta", 0.5)))]


_READERS: Mapping[str, Reader] = {
    "Conv": _read_conv,
    "BatchNormalization": _read_batch_norm,
    "Gemm": _read_gemm,
    "MatMul": _read_matmul,
    "Clip": _read_clip,
    "MaxPool": _read_pool("max_pool"),
    "AveragePool": _read_pool("avg_pool"),
    "GlobalAveragePool": _read_global_mean,
    "ReduceMean": _read_reduction("mean"),
    "ReduceSum": _read_reduction("sum"),
    "Resize": _read_resize,
    "Reshape": _read_reshape,
    "Flatten": _read_flatten,
    "Squeeze": _read_axes("squeeze"),
    "Unsqueeze": _read_axes("unsqueeze"),
    "Split": _read_split,
    "Slice": _read_slice,
    "Shape": _read_shape,
    "Transpose": _read_transpose,
    "LayerNormalization": _read_layer_norm,
    "Gelu": _read_gelu,
    "Constant": _read_constant,
    "HardSigmoid": _read_hard_sigmoid,
    "LeakyRelu": lambda c: [c.node("activation", activation=("leaky_relu", c.attributes.get("alpha", 0.01)))],
    "Concat": lambda call: [call.node("concat", axis=call.attributes["axis"])],
    "Softmax": lambda call: [call.node("softmax", axis=call.attributes.get("axis", -1))],
    "Expand": lambda call: [call.node("expand")],
    "Gather": lambda call: [call.node("gather", axis=call.attributes.get("axis", 0))],
}


def _array(value: Any) -> Array:
    """Return a tensor in one of the two number formats of the graph."""
    array = np.asarray(value)
    return np.asarray(array, np.float32 if array.dtype.kind == "f" else np.int64, order="C")


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
