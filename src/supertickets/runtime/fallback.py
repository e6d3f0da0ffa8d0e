"""Networks that onnxruntime runs faster on this device: with few zeros there is nothing to skip."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UserError
from .choices import Choices, digest, processor_name
from .graph import Graph, infer_values
from .onnx_writer import write_onnx
from .threads import ProcessLock
from .tuning import zero_pattern

Array = npt.NDArray[Any]
Run = Callable[[Array], list[Array]]
Size = tuple[int, ...]
OURS, OTHER = "sparse", "onnxruntime"
_LIBRARIES = ("onnx", "onnxruntime")
_SURE = 0.2  # share of products that are not with zeros below which nothing is timed
_TURNS, _SECONDS = 7, 0.5
_SIZES = 8  # that are kept
_TOLERANCE = 1e-4


class Fallback:
    """Runs images where they run faster.

    Args:
        graph: The network.
        threads: Threads of a call.
        choices: What was measured before.
        always: Whether onnxruntime runs all, untimed.
    """

    def __init__(self, graph: Graph, threads: int, choices: Choices, *, always: bool = False) -> None:
        self._graph, self._threads, self._choices, self._always = graph, threads, choices, always
        self._there = all(importlib.util.find_spec(name) is not None for name in _LIBRARIES)
        if always and not self._there:
            raise UserError("fallback='always' needs onnx and onnxruntime; pip install onnx onnxruntime")
        self._runs: dict[Size, Run | None] = {}
        self._lock = ProcessLock()

    def run(self, images: Array, ours: Run) -> list[Array]:
        """Return the outputs for images (B, C, H, W).

        Args:
            images: The images.
            ours: Function that runs them without onnxruntime.
        """
        size = images.shape[1:]
        with self._lock:
            if size not in self._runs:
                while len(self._runs) >= _SIZES:
                    del self._runs[next(iter(self._runs))]
                self._runs[size] = self._choose(images[:1], ours)
            run = self._runs[size]
        return ours(images) if run is None else run(images)

    def _choose(self, images: Array, ours: Run) -> Run | None:
        """Return onnxruntime's function if it is the faster one."""
        size = images.shape[1:]
        if self._always:
            return Session(self._graph, size, self._threads)
        if not self._there or share_of_products(self._graph, size) < _SURE:
            return None
        key = self._key(size)
        choice = self._choices.get(key, (OURS, OTHER))
        if choice == OURS:
            return None
        try:
            other = Session(self._graph, size, self._threads)
        except Exception as error:  # onnxruntime has errors of many classes, and the choice is not needed
            reason = str(error).split("\n")[0]
            warnings.warn(f"onnxruntime cannot run this network ({reason}); the sparse runtime does", stacklevel=5)
            return None
        if choice is None:
            choice = OTHER if self._is_faster(other, ours, images) else OURS
            self._choices.put(key, choice)
            self._choices.save()
        if choice == OURS:
            return None
        warnings.warn(
            f"onnxruntime is faster here for images of {' x '.join(map(str, size))}, so it runs this network; "
            "load it with fallback='never' to keep the sparse runtime",
            stacklevel=5,
        )
        return other

    def _is_faster(self, other: Run, ours: Run, images: Array) -> bool:
        """Return whether onnxruntime computes the same in less time: medians of turns."""
        if not all(map(_agree, ours(images), other(images))):
            warnings.warn("onnxruntime computes other scores, so the sparse runtime runs this network", stacklevel=6)
            return False
        # Where other programs run as well, the time of the thread is the better measure; there is none of several.
        clock = time.thread_time if self._threads == 1 else time.perf_counter
        times: dict[Run, list[float]] = {ours: [], other: []}
        end = time.perf_counter() + _SECONDS
        while len(times[other]) < _TURNS and (len(times[other]) < 2 or time.perf_counter() < end):
            for run, values in times.items():
                run(images)
                begin = clock()
                run(images)
                values.append(clock() - begin)
        return bool(np.median(times[other]) < np.median(times[ours]))

    def _key(self, size: Size) -> str:
        """Return the name of what the times depend on."""
        import onnxruntime

        where = (processor_name(), onnxruntime.__version__, self._threads, size, self._graph.outputs)
        nodes = [repr(node.to_json()) for node in self._graph.nodes]
        patterns = (zero_pattern(t) for t in self._graph.tensors.values())
        return digest([repr((where, nodes)).encode(), *patterns])


class Session:
    """A graph for images of one size in onnxruntime; a forked process makes one of its own."""

    def __init__(self, graph: Graph, size: Size, threads: int) -> None:
        self._model, self._input, self._threads = write_onnx(graph, size), graph.input, threads
        self._lock = ProcessLock()
        self._sessions = {os.getpid(): self._make()}

    def __call__(self, images: Array) -> list[Array]:
        """Return the outputs for images (B, C, H, W)."""
        with self._lock:
            if os.getpid() not in self._sessions:
                self._sessions[os.getpid()] = self._make()
            session = self._sessions[os.getpid()]
        outputs: list[Array] = session.run(None, {self._input: images})
        return outputs

    def _make(self) -> Any:
        onnxruntime = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])


def share_of_products(graph: Graph, size: Size) -> float:
    """Return the share of the products of convolutions and linear layers whose weight is not zero."""
    values = infer_values(graph, (1, *size))
    total = left = 0.0
    for node in graph.nodes:
        if node.operation in ("conv", "linear") and node.inputs[1] in graph.tensors:
            weight, out = graph.tensors[node.inputs[1]], values.shapes[node.outputs[0]]
            places = math.prod(out[2:]) if node.operation == "conv" else math.prod(out[:-1])
            total += weight.size * places
            left += np.count_nonzero(weight) * places
    return left / total if total else 1.0


def _agree(one: Array, other: Array) -> bool:
    limit = _TOLERANCE * max(1.0, float(np.abs(one).max(initial=0)))
    return one.shape == other.shape and bool(np.abs(one - other).max(initial=0) <= limit)
