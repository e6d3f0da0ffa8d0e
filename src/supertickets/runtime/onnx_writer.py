"""Write a graph as an ONNX model, for devices where another runtime is faster; needs ``onnx``, at the call alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .graph import Graph, Node, Values, infer_values
from .windows import source_pixels

Array = npt.NDArray[Any]
_OPSET, _IR = 20, 10
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}
_ACTIVATIONS = {"relu": "Relu", "hard_swish": "HardSwish", "sigmoid": "Sigmoid", "tanh": "Tanh", "sqrt": "Sqrt"}


def write_onnx(graph: Graph, size: Sequence[int]) -> bytes:
    """Return the ONNX model of a graph for images of one size, any number at a time.

    Args:
        graph: The network.
        size: Sizes (C, H, W) of an image.
    """
    from onnx import TensorProto, helper, numpy_helper

    writer = _Writer(graph, infer_values(graph, (1, *size)))
    for node in graph.nodes:
        _WRITERS[node.operation](writer, node)
    for number, name in enumerate(graph.outputs):  # whose names may be those of the images, or the same
        writer.emit("Identity", [name], f"result_{number}")
    images = helper.make_tensor_value_info(graph.input, TensorProto.FLOAT, ["batch", *size])
    constants = writer.values.constants
    whole_numbers = {name for name, value in constants.items() if value.dtype == np.int64}
    results = [
        helper.make_tensor_value_info(
            f"result_{i}",
            TensorProto.INT64 if name in whole_numbers else TensorProto.FLOAT,
            [None] * len(writer.values.shapes[name]),
        )
        for i, name in enumerate(graph.outputs)
    ]
    used = {name for node in writer.nodes for name in node.input}
    weights = [numpy_helper.from_array(t, name) for name, t in writer.tensors.items() if name in used]
    whole = helper.make_graph(writer.nodes, "network", [images], results, weights)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    return bytes(model.SerializeToString())


class _Writer:
    """Collects ONNX nodes.

    Attributes:
        values: Shapes and constants of the graph.
        nodes: Nodes so far.
        tensors: Constants by name.
    """

    def __init__(self, graph: Graph, values: Values) -> None:
        self.values = values
        self.nodes: list[Any] = []
        self.tensors: dict[str, Array] = dict(graph.tensors)

    def emit(self, kind: str, inputs: Sequence[str], output: str | Sequence[str], **attributes: Any) -> None:
        """Add a node."""
        from onnx import helper

        outputs = [output] if isinstance(output, str) else list(output)
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))

    def constant(self, owner: str, role: str, value: Array | Sequence[int]) -> str:
        """Add a constant of a value; returns its name."""
        name = f"{owner}/{role}"
        self.tensors[name] = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        return name

    def activate(self, name: str, node: Node) -> None:
        """Add the activation of an operation, from a value to the operation's output."""
        kind, *numbers = node.attributes["activation"]
        out = node.outputs[0]
        if kind in _ACTIVATIONS:
            self.emit(_ACTIVATIONS[kind], [name], out)
        elif kind == "clip":
            limits = [self.constant(out, f"limit{i}", np.array(v, np.float32)) for i, v in enumerate(numbers)]
            self.emit("Clip", [name, *limits], out)
        elif kind == "hard_sigmoid":
            self.emit("HardSigmoid", [name], out, alpha=numbers[0], beta=numbers[1])
        elif kind == "leaky_relu":
            self.emit("LeakyRelu", [name], out, alpha=numbers[0])
        elif kind == "gelu":
            self.emit("Gelu", [name], out)
        elif kind == "silu":
            self.emit("Sigmoid", [name], f"{out}/gate")
            self.emit("Mul", [name, f"{out}/gate"], out)
        else:
            self.emit("Identity", [name], out)

    def finish(self, name: str, node: Node) -> None:
        """Add the sum with another value, if the operation has one, and its activation."""
        if len(node.inputs) > 3:
            self.emit("Add", [name, node.inputs[3]], f"{node.outputs[0]}/sum")
            name = f"{node.outputs[0]}/sum"
        self.activate(name, node)


Write = Callable[[_Writer, Node], None]


def _write_conv(writer: _Writer, node: Node) -> None:
    plain, take = f"{node.outputs[0]}/plain", node.attributes
    window = {"strides": take["strides"], "pads": take["pads"], "dilations": take["dilations"]}
    writer.emit("Conv", [name for name in node.inputs[:3] if name], plain, **window, group=take["groups"])
    writer.finish(plain, node)


def _write_linear(writer: _Writer, node: Node) -> None:
    (name, matrix, *more), plain = node.inputs, f"{node.outputs[0]}/plain"
    bias = [other for other in more[:1] if other]
    if len(writer.values.shapes[name]) == 2:
        writer.emit("Gemm", [name, matrix, *bias], plain, transB=1)
    else:
        turned = f"{node.outputs[0]}/turned"
        writer.emit("Transpose", [matrix], turned, perm=[1, 0])
        writer.emit("MatMul", [name, turned], plain)
        if bias:
            writer.emit("Add", [plain, *bias], f"{plain}/biased")
            plain = f"{plain}/biased"
    writer.finish(plain, node)


def _write_binary(writer: _Writer, node: Node) -> None:
    plain = f"{node.outputs[0]}/plain"
    writer.emit(_BINARY[node.operation], node.inputs, plain)
    writer.activate(plain, node)


def _write_pool(writer: _Writer, node: Node) -> None:
    take = node.attributes
    window = {key: take[key] for key in ("strides", "pads")}
    window |= {"kernel_shape": take["kernel"], "ceil_mode": int(take["ceil"])}
    if node.operation == "max_pool":
        writer.emit("MaxPool", node.inputs, node.outputs, **window, dilations=take["dilations"])
    else:
        writer.emit("AveragePool", node.inputs, node.outputs, **window, count_include_pad=int(take["count_pads"]))


def _write_resize(writer: _Writer, node: Node) -> None:
    (name, *_), out = node.inputs, node.outputs[0]
    mode, centres = node.attributes["mode"], node.attributes["centres"]
    before, after = (writer.values.shapes[one][2:] for one in (name, out))
    multiples = centres == "asymmetric" and all(b % a == 0 for a, b in zip(before, after, strict=True))
    if mode == "nearest" and not multiples:  # rounded factors may give the pixel before
        rows, columns = (source_pixels(before[i], after[i], mode, centres)[0].astype(np.int64) for i in (0, 1))
        writer.emit("Gather", [name, writer.constant(out, "rows", rows)], f"{out}/tall", axis=2)
        writer.emit("Gather", [f"{out}/tall", writer.constant(out, "columns", columns)], out, axis=3)
        return
    nearest = {"nearest_mode": "floor"} if mode == "nearest" else {}
    where = {"axes": [2, 3], "coordinate_transformation_mode": centres}
    writer.emit("Resize", [name, "", "", writer.constant(out, "sizes", after)], out, mode=mode, **where, **nearest)


def _write_slice(writer: _Writer, node: Node) -> None:
    out = node.outputs[0]
    limits = [writer.constant(out, key, node.attributes[key]) for key in ("starts", "ends", "axes", "steps")]
    writer.emit("Slice", [node.inputs[0], *limits], out)


def _write_squeeze(writer: _Writer, node: Node) -> None:
    shape = writer.values.shapes[node.inputs[0]]
    axes = sorted({axis % len(shape) for axis in node.attributes["axes"] if shape[axis] == 1})
    writer.emit("Squeeze", [node.inputs[0], writer.constant(node.outputs[0], "axes", axes)], node.outputs[0])


def _with_constant(kind: str, key: str, **renamed: str) -> Write:
    """Return a writer of operations with an attribute that ONNX has as an input, and others under another name."""

    def write(writer: _Writer, node: Node) -> None:
        numbers = writer.constant(node.outputs[0], key, node.attributes[key])
        attributes = {name: int(node.attributes[ours]) for name, ours in renamed.items()}
        writer.emit(kind, [node.inputs[0], numbers], node.outputs, **attributes)

    return write


def _plain(kind: str, **renamed: str) -> Write:
    """Return a writer of operations whose inputs are those of ONNX, and attributes under another name."""

    def write(writer: _Writer, node: Node) -> None:
        writer.emit(kind, node.inputs, node.outputs, **{name: node.attributes[ours] for name, ours in renamed.items()})

    return write


def _write_reshape(writer: _Writer, node: Node) -> None:
    writer.emit("Reshape", node.inputs, node.outputs, allowzero=int(not node.attributes["zero_copies"]))


_WRITERS: Mapping[str, Write] = {
    "conv": _write_conv,
    "linear": _write_linear,
    "matmul": _plain("MatMul"),
    **dict.fromkeys(_BINARY, _write_binary),
    "activation": lambda writer, node: writer.activate(node.inputs[0], node),
    "concat": _plain("Concat", axis="axis"),
    "split": _with_constant("Split", "sizes", axis="axis"),
    "slice": _write_slice,
    "max_pool": _write_pool,
    "avg_pool": _write_pool,
    "mean": _with_constant("ReduceMean", "axes", keepdims="keep"),
    "sum": _with_constant("ReduceSum", "axes", keepdims="keep"),
    "resize": _write_resize,
    "reshape": _write_reshape,
    "expand": _plain("Expand"),
    "transpose": _plain("Transpose", perm="order"),
    "squeeze": _write_squeeze,
    "unsqueeze": _with_constant("Unsqueeze", "axes"),
    "softmax": _plain("Softmax", axis="axis"),
    "layer_norm": _plain("LayerNormalization", axis="axis", epsilon="epsilon"),
    "shape": _plain("Shape", start="start", end="end"),
    "gather": _plain("Gather", axis="axis"),
}
