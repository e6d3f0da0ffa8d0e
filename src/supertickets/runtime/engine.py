"""Run a ticket's file on images, without PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .graph import Graph, load_graph, run_node

Array = npt.NDArray[Any]


class Engine:
    """A network that is ready to run: takes preprocessed images (B, C, H, W), returns its scores.

    Attributes:
        graph: Its operations and weights.
        about: What the file says beside the network: classes, preprocessing and further entries of the task.
    """

    def __init__(self, graph: Graph, about: Mapping[str, str]) -> None:
        self.graph = graph
        self.about = {name: _plain(text) for name, text in about.items()}

    def __call__(self, images: Any) -> Any:
        """Return the scores of images; of networks with several outputs a tuple of arrays.

        Args:
            images: Array (B, C, H, W), float32.

        Raises:
            UserError: The images do not fit.
        """
        outputs = run_graph(self.graph, self.graph.check_images(images))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def load(path: str | Path) -> Engine:
    """Return a network from a file that ``supertickets export --format sparse`` wrote.

    Raises:
        UserError: The file cannot be read, is damaged, or holds what cannot run.
    """
    return Engine(*load_graph(path))


def run_graph(graph: Graph, images: Array) -> list[Array]:
    """Return the outputs of a graph, computed operation by operation with numpy."""
    values: dict[str, Array] = {**graph.tensors, graph.input: images}
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    for i, node in enumerate(graph.nodes):
        outputs = run_node(node, [values[name] if name else None for name in node.inputs])
        values.update(zip(node.outputs, outputs, strict=True))
        for name in set(node.inputs):
            if name and last_use[name] == i and name not in graph.outputs:
                del values[name]
    return [np.ascontiguousarray(values[name]) for name in graph.outputs]


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
