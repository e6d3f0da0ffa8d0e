"""Networks that another engine runs faster on this device: with few zeros there is nothing to skip."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Mapping

import numpy as np

from ..errors import UserError
from .choices import Choices, digest, processor_name
from .graph import Graph, infer_values
from .onnx_writer import write_onnx
from .rivals import RIVALS, Array, Rival, Run
from .threads import PerProcess
from .tuning import zero_pattern

Size = tuple[int, ...]
OURS = "sparse"
_SURE = 0.2  # share of products that are not with zeros below which nothing is timed
_TURNS, _SECONDS = 9, 0.8
_SIZES = 16  # that are kept
_TOLERANCE = 1e-4


class Fallback:
    """Runs images where they run faster.

    Args:
        graph: The network.
        threads: Threads of a call.
        choices: What was measured before.
        always: Whether another engine runs all.
        slow: Whether this runtime has no kernels: then any other engine is faster.
    """

    def __init__(
        self, graph: Graph, threads: int, choices: Choices, *, always: bool = False, slow: bool = False
    ) -> None:
        self._graph, self._threads, self._choices = graph, threads, choices
        self._always, self._slow = always, slow
        if always and not installed_rivals():
            names = [rival.name for rival in RIVALS]
            raise UserError(f"fallback='always' needs onnx and {' or '.join(names)}; pip install onnx {names[0]}")
        # None is this runtime, which nothing here may hold. Engines have threads, which no fork takes along.
        self._runs: PerProcess[dict[Size, Run | None]] = PerProcess(dict)
        self._lock = PerProcess(threading.Lock)

    def run(self, images: Array, ours: Run) -> list[Array]:
        """Return the outputs for images (B, C, H, W).

        Args:
            images: The images.
            ours: Function that runs them without another engine.
        """
        # Nothing else here: small networks take some ten microseconds.
        size, runs = images.shape[1:], self._runs.value
        run = runs[size] if size in runs else self._prepare(images, ours)
        return (run or ours)(images)

    def _prepare(self, images: Array, ours: Run) -> Run | None:
        """Return the function that runs images of a size, None for this runtime, and keep it."""
        size, runs = images.shape[1:], self._runs.value
        with self._lock.value:
            if size not in runs:
                while len(runs) >= _SIZES:
                    del runs[next(iter(runs))]
                runs[size] = self._choose(images[:1], ours)
            return runs[size]

    def _choose(self, images: Array, ours: Run) -> Run | None:
        """Return the function of the engine that is the fastest; None if it is this runtime."""
        size, rivals = images.shape[1:], installed_rivals()
        sure = not (self._always or self._slow) and share_of_products(self._graph, size) < _SURE
        if not rivals or sure:
            return None
        key = self._key(size, rivals)
        known = self._choices.get(key, (OURS, *rivals))
        if known == OURS:
            return None
        others = self._build({known: rivals[known]}, images) if known else {}
        if known in others:
            choice = known
        else:  # nothing is remembered, or its library is broken; it is tried again next time, since it may be mended
            others = self._build({name: rival for name, rival in rivals.items() if name != known}, images)
            choice = self._time(others, ours, images, None if known else key)
        if choice in others and not self._always:
            warnings.warn(
                f"{choice} is faster here for images of {' x '.join(map(str, size))}, so it runs this network; "
                "load it with fallback='never' to keep the sparse runtime",
                stacklevel=4,
            )
        return others.get(choice)

    def _build(self, rivals: Mapping[str, Rival], images: Array) -> dict[str, Run]:
        """Return the functions of those engines that can run the network on images like these."""
        built: dict[str, Run] = {}
        for name, rival in rivals.items():
            try:
                run = rival.build(write_onnx(self._graph, images.shape[1:]), self._threads)
                run(images)
            except Exception as error:  # engines have errors of many classes, and this one may not be needed
                reason = str(error).split("\n")[0]
                warnings.warn(f"{name} cannot run this network ({reason}); another engine does", stacklevel=5)
            else:
                built[name] = run
        return built

    def _time(self, others: Mapping[str, Run], ours: Run, images: Array, key: str | None) -> str:
        """Return the name of the fastest that may run, and remember it by a key.

        Raises:
            UserError: None may.
        """
        right = dict(others) if self._always else _drop_wrong(others, ours, images)
        candidates = right if self._always or (self._slow and right) else {OURS: ours, **right}
        if not candidates:
            names = " and ".join(installed_rivals())
            raise UserError(f"fallback='always': {names} cannot run this network; use fallback='auto'")
        choice = fastest(candidates, images, self._threads)
        if key is not None and len(candidates) > 1:
            self._choices.put(key, choice)
            self._choices.save()
        return choice

    def _key(self, size: Size, rivals: Mapping[str, Rival]) -> str:
        """Return the name of what the times depend on."""
        versions = [(rival.name, rival.version()) for rival in rivals.values()]
        where = (processor_name(), versions, self._always, self._threads, size, self._graph.outputs)
        nodes = [repr(node.to_json()) for node in self._graph.nodes]
        patterns = (zero_pattern(t) for t in self._graph.tensors.values())
        return digest([repr((where, nodes)).encode(), *patterns])


def installed_rivals() -> dict[str, Rival]:
    """Return the other engines that can run here."""
    return {rival.name: rival for rival in RIVALS if rival.available()}


def fastest(runs: Mapping[str, Run], images: Array, threads: int) -> str:
    """Return the name of the function that takes the least time, by the medians of calls in turns.

    Args:
        runs: The functions.
        images: What they are called with.
        threads: Threads of a call.
    """
    if len(runs) == 1:
        return next(iter(runs))
    # Where other programs run as well, the time of the thread is the better measure; there is none of several.
    clock = time.thread_time if threads == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + _SECONDS
    for turn in range(_TURNS):
        if turn >= 2 and time.perf_counter() >= end:
            break
        for name, run in runs.items():
            run(images)  # the caches hold what the others left there
            begin = clock()
            run(images)
            times[name].append(clock() - begin)
    return min(times, key=lambda name: float(np.median(times[name])))


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


def _drop_wrong(others: Mapping[str, Run], ours: Run, images: Array) -> dict[str, Run]:
    """Return the engines whose scores are those of the sparse runtime, but for rounding."""
    wanted, right = ours(images), {}
    for name, run in others.items():
        if all(map(_agree, wanted, run(images))):
            right[name] = run
        else:
            warnings.warn(f"{name} computes other scores, so it does not run this network", stacklevel=5)
    return right


def _agree(one: Array, other: Array) -> bool:
    limit = _TOLERANCE * max(1.0, float(np.abs(one).max(initial=0)))
    return one.shape == other.shape and bool(np.abs(one - other).max(initial=0) <= limit)
