"""Turn a graph into the steps of the kernels, for one image of one size.

Every value has a form: a planar map (`maps`), or a plain array. Operations ask for the form that they read; copies are
made where it is another. What the kernels do not have is computed with numpy in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from . import native
from .activations import ACTIVATION_NAMES
from .arena import Arena
from .buffers import Buffers, chain_ends
from .graph import Graph, Node, Values, infer_values, run_node
from .limits import LARGEST
from .maps import Geometry, MapView, Needs, Window, buffer_size, make_geometry, make_window, view
from .tuning import Tuner

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
_PAST = 2**18  # floats of a map that is written past the caches: it fills a second cache
WINDOWED = ("conv", "max_pool", "avg_pool")
Lowering = Callable[["Planner", Node], bool]


@dataclass(frozen=True)
class PlannedStep:
    """One call of a kernel.

    Attributes:
        arguments: Its arguments.
        vectors: Vectors per channel that it computes; 0 if it runs as a whole.
        reach: Vectors behind its own that it reads.
        floats: Channels that it reads and writes.
        chain: Number of its chain; see `buffers.chain_ends`.
        width: Floats of a vector.
        work: About how many numbers it computes, as many as cost the time of one that is copied.
    """

    arguments: native.Arguments
    vectors: int = 0
    reach: int = 0
    floats: int = 0
    chain: int = 0
    width: int = 1
    work: int = 2**31


@dataclass
class Forms:
    """The forms of one value that there are."""

    array: Array | None = None
    map: MapView | None = None
    planes: dict[tuple[Any, ...], MapView] = field(default_factory=dict)


class Kernels(Protocol):
    """The part of the kernels that a plan has to know.

    Attributes:
        width: Floats of a vector.
    """

    width: int


class Planner:
    """Collects the steps of a graph.

    Attributes:
        graph: The graph.
        values: Shapes and constants for one image.
        library: The kernels.
        threads: Threads that may run the steps.
        tuner: Chooses the forms of layers by timing, if there is one.
        steps: Steps so far; functions are run by Python.
        keep: Arrays whose addresses the steps hold.
        arena: The memory of all of them.
        images: The image.
        left_to_numpy: Operations that the kernels lack.
        geometries: The forms of maps by height and width.
    """

    def __init__(
        self, graph: Graph, library: Kernels, size: Shape, threads: int = 1, tuner: Tuner | None = None
    ) -> None:
        self.graph, self.library, self.threads, self.tuner = graph, library, threads, tuner
        self.values: Values = infer_values(graph, (1, *size))
        self.steps: list[PlannedStep | Callable[[], None]] = []
        self.keep: list[Any] = []
        self.left_to_numpy: list[Node] = []
        self.arena = Arena()
        self.images = self.new_array((1, *size))
        self._forms: dict[str, Forms] = {graph.input: Forms(array=self.images)}
        self._written: set[str] = set()  # maps that no copy made
        self._node = 0
        self._chains = [*chain_ends(graph.nodes, self.values), -1]
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.geometries: dict[tuple[int, int], Geometry] = {}
        self._geometries = self._make_geometries()
        self._buffers = Buffers(graph.nodes, graph.outputs, self.values, self.geometry, self.arena)

    def finish(self) -> None:
        """Let go what points back to the planner, so that its memory is freed with it and waits for no collector."""
        self.steps = []
        del self._geometries, self._buffers

    def shape(self, name: str) -> Shape:
        """Return the shape of a value."""
        return self.values.shapes[name]

    def constant(self, name: str) -> Array:
        """Return a value that does not depend on the pixels."""
        return self.values.constants[name]

    def is_constant(self, name: str) -> bool:
        """Return whether a value does not depend on the pixels."""
        return name in self.values.constants

    def geometry(self, name: str) -> Geometry:
        """Return the form of the map of a value (1, C, H, W)."""
        height, width = self.shape(name)[2:]
        return self._geometries(height, width)

    def is_map(self, name: str) -> bool:
        """Return whether a value is there as a map."""
        return not self.is_constant(name) and self._forms[name].map is not None

    def window(self, node: Node) -> Window | None:
        """Return the window of a convolution or of pooling; None if kernels lack it, or for too many planes."""
        size, out = self.shape(node.inputs[0])[2:], self.shape(node.outputs[0])[2:]
        kernel = self.shape(node.inputs[1])[2:] if node.operation == "conv" else node.attributes["kernel"]
        window = make_window((size[0], size[1]), (out[0], out[1]), tuple(kernel), dict(node.attributes))
        planes = self.shape(node.inputs[0])[1] * node.attributes["strides"][0] ** 2
        return window if planes * (out[0] + 1) * (out[1] + 1) <= LARGEST else None

    def activation(self, node: Node) -> native.Activation:
        """Return the activation of an operation."""
        name, *parameters = node.attributes["activation"]
        return native.Activation(ACTIVATION_NAMES.index(name), *(*parameters, 0.0, 0.0)[:2])

    def add(
        self, arguments: native.Arguments, vectors: int = 0, reach: int = 0, floats: int = 0, work: int | None = None
    ) -> None:
        """Add a step; see `PlannedStep`."""
        chain, width = self._chains[self._node], self.library.width
        work = arguments.numbers() if work is None else work
        self.steps.append(PlannedStep(arguments, vectors, reach, floats, chain, width, work))

    def leaves_caches(self, node: Node) -> bool:
        """Return whether the output of the convolution that is lowered goes to memory past the caches.

        It does if it is large and nothing of its chain reads it: it would leave the caches before it is read.
        """
        [name] = node.outputs
        ahead = self.graph.nodes[self._node + 1 : self._chains[self._node] + 1]
        return int(np.prod(self.shape(name))) >= _PAST and not any(name in other.inputs for other in ahead)

    def address(self, array: Array) -> int:
        """Return the address of a copy of an array, with room for two vectors behind it, that is kept."""
        copy = self.arena.constant(array)
        self.keep.append(copy)
        return int(copy.ctypes.data)

    def new_array(self, shape: Shape) -> Array:
        """Return an array that is kept, with room for two vectors behind it."""
        flat = self.arena.zeros(int(np.prod(shape, dtype=np.int64)))
        self.keep.append(flat)
        return flat.reshape(shape)

    def output_array(self, name: str) -> Array:
        """Return the array that a value is written to."""
        array = self.new_array(self.shape(name))
        self._forms[name] = Forms(array=array)
        return array

    def output_map(self, name: str) -> MapView:
        """Return the map that a value is written to."""
        out = self._buffers.map_of(name)
        self._written.add(name)
        self._forms[name] = Forms(map=out)
        return out

    def output_view(self, name: str, form: Array | MapView) -> None:
        """Say that a value is what is there already, seen in another way."""
        self._forms[name] = Forms(map=form) if isinstance(form, MapView) else Forms(array=form)

    def output_planes(self, name: str, window: Window, geometry: Geometry) -> MapView:
        """Return the planes that a value is written to, which has no other form."""
        planes = self._new_planes(name, window, geometry, 0.0)
        self._forms[name] = Forms(planes={_planes_key(window, 0.0): planes})
        return planes

    def array_of(self, name: str) -> Array:
        """Return a value as a plain array."""
        if self.is_constant(name) and name not in self._forms:
            constant = np.asarray(self.constant(name), np.float32)  # kernels know no other numbers
            self._forms[name] = Forms(array=self.arena.constant(constant).reshape(constant.shape))
        forms = self._forms[name]
        if forms.array is None:
            assert forms.map is not None
            forms.array = self.new_array(self.shape(name))
            self.add(native.Copy(input=forms.map.to_c(), output=plain_map(forms.array).to_c()))
        return forms.array

    def map_of(self, name: str) -> MapView:
        """Return a value (1, C, H, W) as a map."""
        if name not in self._forms or self._forms[name].map is None:
            source = plain_map(self.array_of(name))
            target = self._forms[name].map = self._buffers.extra_map(name)
            self.add(native.Copy(input=source.to_c(), output=target.to_c()))
        out = self._forms[name].map
        assert out is not None
        return out

    def planes_of(self, name: str, window: Window, geometry: Geometry, outside: float = 0.0) -> MapView:
        """Return a value taken apart by the stride of a window, in a geometry; the map where that is the same."""
        if window.direct and outside == 0:
            return self.map_of(name)
        key = _planes_key(window, outside)
        forms = self._forms[name]
        if key not in forms.planes:
            source = forms.map or plain_map(self.array_of(name))
            planes = forms.planes[key] = self._new_planes(name, window, geometry, outside)
            step = window.stride
            self.add(native.Split(input=source.to_c(), output=planes.to_c(), step=step, outside=outside))
        return forms.planes[key]

    def source_of(self, name: str) -> MapView:
        """Return a value (1, C, H, W) to copy pixels from, in whichever form it is."""
        return plain_map(self.array_of(name)) if not self.is_map(name) else self.map_of(name)

    def source_array(self, name: str) -> int:
        """Return the address of a value as a plain array."""
        return int(self.array_of(name).ctypes.data)

    def is_in_place(self, name: str, whole: str, first: int) -> bool:
        """Return whether a value was written into a concatenation, from a channel on."""
        return name in self._written and self._buffers.place_of(name) == (whole, first)

    def plan(self, lowerings: Mapping[str, Lowering]) -> list[PlannedStep | Callable[[], None]]:
        """Return the steps of the whole graph.

        Args:
            lowerings: Function of every operation that adds its steps, or returns False if there are no kernels for it.
        """
        for number, node in enumerate(self.graph.nodes):
            self._node = number
            if not all(self.is_constant(name) for name in node.outputs):
                lower = lowerings.get(node.operation) if self._has_one_image(node) else None
                if lower is None or not lower(self, node):
                    self._run_with_numpy(node)
            self._buffers.release(number)
        return self.steps

    def outputs(self) -> list[Array]:
        """Return the arrays that hold the results; the last thing to ask for."""
        self._node = len(self.graph.nodes)
        return [self.array_of(name) for name in self.graph.outputs]

    def _has_one_image(self, node: Node) -> bool:
        """Return whether sizes are such as kernels take: nothing is empty, windows go over maps of one image."""
        shapes = [self.shape(name) for name in (*node.inputs, *node.outputs) if name]
        return not any(0 in shape for shape in shapes) and (node.operation not in WINDOWED or shapes[0][0] == 1)

    def _run_with_numpy(self, node: Node) -> None:
        constants = self.values.constants
        inputs = [
            (constants[name] if name in constants else self.array_of(name)) if name else None for name in node.inputs
        ]
        outputs = [self.output_array(name) for name in node.outputs]

        def run() -> None:
            for out, result in zip(outputs, run_node(node, inputs), strict=True):
                out[...] = result

        self.left_to_numpy.append(node)
        self.steps.append(run)

    def _new_planes(self, name: str, window: Window, geometry: Geometry, outside: float) -> MapView:
        channels = self.shape(name)[1] * window.stride**2
        if window.plane_size == window.out and outside == 0:
            buffer = self._buffers.take(geometry, channels, name)
        else:  # its pixels are not those of other maps, for whom they would be padding, or left over
            buffer = self.arena.zeros(buffer_size(geometry, channels))
            buffer[:] = outside
            self.keep.append(buffer)
        return view(geometry, buffer, channels, window.plane_size)

    def _make_geometries(self) -> Callable[[int, int], Geometry]:
        """Return the geometry of every size, with room for all kernels that read or write maps of it."""
        needs: dict[tuple[int, int], Needs] = {}

        def need(height: int, width: int) -> Needs:
            return needs.setdefault((height, width), Needs(width, 0, height))

        for node in self.graph.nodes:
            if node.operation in WINDOWED and (window := self.window(node)) is not None:
                need(*window.out).add(window)

        def geometry(height: int, width: int) -> Geometry:
            size = (height, width)
            if size not in self.geometries:
                made = make_geometry(height, width, need(height, width), self.library.width, self.arena)
                self.geometries[size] = made
            return self.geometries[size]

        return geometry


def plain_map(array: Array) -> MapView:
    """Return an array (1, C, H, W) as a map whose rows follow each other without padding."""
    _, channels, height, width = array.shape
    return MapView(array.reshape(-1), 0, channels, (height, width), width, height * width)


def _planes_key(window: Window, outside: float) -> tuple[Any, ...]:
    return (window.stride, window.out, outside)
