"""The runtimes that tickets are deployed on, as objects of one protocol."""

from __future__ import annotations

import importlib.metadata
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from .. import __version__
from ..errors import UserError, missing_library, require_libraries, suggest
from ..runtime import Engine, rivals
from ..runtime.library import load_library
from ..ticket import Ticket
from .compaction import compact
from .exporter import export, onnx_runner
from .onnx_graph import read_onnx
from .quantization import quantize

Images = npt.NDArray[np.float32]
Call = Callable[[Images], Any]


class DeployForms:
    """The forms of one ticket that runtimes take, each made when it is first asked for.

    Args:
        ticket: The ticket.
        folder: Folder for files; it must outlive this object.
        compacted: Whether search units without effect are removed.
        fixed: Whether the network of scenes takes images of ``spec.image_size`` alone, which is faster.
        calibration: Batches of preprocessed images (B, C, H, W) for 8-bit integers; random ones if there are none,
            which is enough for latencies.
    """

    def __init__(
        self,
        ticket: Ticket,
        folder: Path,
        *,
        compacted: bool = True,
        fixed: bool = True,
        calibration: Sequence[Images] = (),
    ) -> None:
        self._ticket, self._place = ticket, folder / f"network-{next(_numbers)}"
        self._compacted, self._fixed, self._calibration = compacted, fixed, calibration

    @cached_property
    def ticket(self) -> Ticket:
        """The ticket, without units that have no effect."""
        return compact(self._ticket) if self._compacted else self._ticket

    @cached_property
    def onnx(self) -> Path:
        """The ONNX file."""
        path = self._place.with_suffix(".onnx")
        return export(self._ticket, path, fixed=self._fixed, compacted=self._compacted).path

    @cached_property
    def int8(self) -> Path:
        """The ONNX file in 8-bit integers."""
        path = self._place.with_suffix(".int8.onnx")
        quantize(self.onnx, path, self._calibration or _random_images(self.ticket.spec.input_shape))
        return path


_numbers = itertools.count()


def _random_images(shape: tuple[int, ...]) -> list[Images]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, *shape, generator=generator).numpy() for _ in range(4)]


class InferenceRuntime(ABC):
    """A runtime: whether it is installed, and how it runs a ticket.

    Attributes:
        name: Word for options and tables.
        libraries: Libraries that it needs.
        exact: Whether outputs are the ticket's own but for rounding in float32.
        export_words: Options of ``supertickets export`` that write its file; empty if it needs none.
        snippet: Python that loads ``{file}``.
    """

    name: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]] = ()
    exact: ClassVar[bool] = True
    export_words: ClassVar[str] = ""
    suffix: ClassVar[str] = ""
    snippet: ClassVar[str]

    def require(self) -> None:
        """Check that it can run here.

        Raises:
            UserError: A library is missing; the message has the command that installs it.
        """
        require_libraries(*self.libraries)

    def available(self) -> bool:
        """Return whether it can run here."""
        try:
            self.require()
        except UserError:
            return False
        return True

    def versions(self) -> dict[str, str]:
        """Return the versions of its libraries."""
        return {name: importlib.metadata.version(name) for name in self.libraries}

    @abstractmethod
    def prepare(self, forms: DeployForms, threads: int) -> Call:
        """Return a function from images (B, C, H, W), float32, to scores.

        Args:
            forms: The ticket.
            threads: CPU threads; 0 for all.

        Raises:
            UserError: It cannot run the network.
        """


class TorchRuntime(InferenceRuntime):
    """PyTorch, operation by operation; it takes the threads of the process."""

    name = "torch"
    libraries = ("torch",)
    snippet = 'supertickets.load("{ticket}").predict(image)'

    def prepare(self, forms: DeployForms, threads: int) -> Call:
        module = forms.ticket.module

        @torch.inference_mode()
        def run(images: Images) -> Any:
            return module(torch.from_numpy(images)).numpy()

        return run


class OnnxRuntime(InferenceRuntime):
    """onnxruntime on the CPU."""

    name = "onnxruntime"
    libraries = ("onnx", "onnxruntime")
    export_words = "--format onnx"
    suffix = ".onnx"
    snippet = 'onnxruntime.InferenceSession("{file}").run(None, {{"images": images}})'

    def prepare(self, forms: DeployForms, threads: int) -> Call:
        return onnx_runner(forms.onnx, threads)


class OpenVino(InferenceRuntime):
    """OpenVINO on the CPU, in float32."""

    name = "openvino"
    libraries = ("onnx", "openvino")
    export_words = "--format onnx"
    suffix = ".onnx"
    snippet = 'openvino.Core().compile_model("{file}", "CPU")(images)'

    def prepare(self, forms: DeployForms, threads: int) -> Call:
        network = rivals.OPENVINO.build(forms.onnx.read_bytes(), threads)
        return lambda images: network(images)[0]


class SparseRuntime(InferenceRuntime):
    """The engine of this package, which skips zeros."""

    name = "sparse"
    libraries = ("onnx",)
    export_words = "--format sparse"
    suffix = ".sparse"
    snippet = 'supertickets.runtime.load("{file}")(images)'

    def versions(self) -> dict[str, str]:
        """Return the version of this package."""
        return {"supertickets": __version__}

    def require(self) -> None:
        """Check that it can run here."""
        super().require()
        if load_library() is None:
            raise UserError("the sparse runtime has no kernels here; install a C++ compiler, e.g. g++")

    def prepare(self, forms: DeployForms, threads: int) -> Call:
        import onnx

        graph = read_onnx(onnx.load(str(forms.onnx)), forms.ticket.spec.input_shape)
        return Engine(graph, {}, load_library(), threads=threads or None)


class Int8Runtime(InferenceRuntime):
    """onnxruntime in 8-bit integers, which change the scores a little."""

    name = "int8"
    libraries = ("onnx", "onnxruntime")
    exact = False
    export_words = "--int8"
    suffix = ".int8.onnx"
    snippet = OnnxRuntime.snippet

    def prepare(self, forms: DeployForms, threads: int) -> Call:
        return onnx_runner(forms.int8, threads)


RUNTIMES: Mapping[str, InferenceRuntime] = {
    runtime.name: runtime for runtime in (TorchRuntime(), OnnxRuntime(), OpenVino(), SparseRuntime(), Int8Runtime())
}
EXACT_RUNTIMES = tuple(name for name, runtime in RUNTIMES.items() if runtime.exact)


def installed_runtimes(*, exact: bool = False) -> tuple[str, ...]:
    """Return the names of the runtimes that can run here.

    Args:
        exact: Whether only those count that change no scores.
    """
    return tuple(name for name, runtime in RUNTIMES.items() if runtime.available() and (runtime.exact or not exact))


def find_runtime(name: str) -> InferenceRuntime:
    """Return a runtime that can run here.

    Raises:
        UserError: There is none of that name, or a library is missing.
    """
    if name not in RUNTIMES:
        raise UserError(f"unknown runtime '{name}'{suggest(name, RUNTIMES)}")
    RUNTIMES[name].require()
    return RUNTIMES[name]


def reason(error: Exception) -> str:
    """Return why a network cannot run, in one line."""
    if isinstance(error, ModuleNotFoundError) and (missing := missing_library(error)) is not None:
        error = missing
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
