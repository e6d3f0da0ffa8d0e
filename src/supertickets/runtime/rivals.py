"""Other engines that run the same graph on the CPU, densely; none is imported before it is built."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .signal_stack import keep_signal_stack

Array = npt.NDArray[Any]
Run = Callable[[Array], list[Array]]


class Rival(ABC):
    """An engine for ONNX models.

    Attributes:
        name: Its name, which is that of its library and of its package as well.
    """

    name: ClassVar[str]

    def available(self) -> bool:
        """Return whether it and `onnx`, which writes its models, are installed; nothing is imported."""
        specs = [importlib.util.find_spec(name) for name in ("onnx", self.name)]
        # A mere folder of that name, as for exported models, is a package without an origin.
        return all(spec is not None and spec.origin is not None for spec in specs)

    def version(self) -> str:
        """Return the version that is installed; nothing is imported."""
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:  # a variant, under another name
            return "unknown"

    @abstractmethod
    def build(self, model: bytes, threads: int) -> Run:
        """Return a function from images (B, C, H, W), float32, to all outputs.

        Args:
            model: The ONNX model, which has one input.
            threads: CPU threads; 0 for all.

        Raises:
            Exception: It cannot run the model; engines have errors of many classes.
        """


class OnnxRuntime(Rival):
    """onnxruntime on the CPU."""

    name = "onnxruntime"

    def build(self, model: bytes, threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Threads that wait for the next call would take the processor from whatever else runs in this process.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        [images_name] = [entry.name for entry in session.get_inputs()]

        def run(images: Array) -> list[Array]:
            outputs: list[Array] = session.run(None, {images_name: images})
            return outputs

        return run


class OpenVino(Rival):
    """OpenVINO on the CPU, in float32; not in a process forked from one that ran it, where it waits forever."""

    name = "openvino"

    def __init__(self) -> None:
        self._process: int | None = None  # the one that runs it

    def available(self) -> bool:
        """Return whether it and `onnx` are installed, and no process above this one runs it."""
        return self._process in (None, os.getpid()) and super().available()

    def build(self, model: bytes, threads: int) -> Run:
        import openvino

        self._process = os.getpid()
        # CPUs with bfloat16 would otherwise compute in it, and give other scores than the network.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        options["ENABLE_CPU_PINNING"] = False  # a thread that is tied to one core waits for whatever else runs on it
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        with keep_signal_stack():
            network = core.compile_model(core.read_model(model, b""), "CPU", options)
            request = network.create_infer_request()
        lock = threading.Lock()  # a request holds the outputs of one call

        def run(images: Array) -> list[Array]:
            with lock:
                request.infer([images], share_inputs=True, share_outputs=True)  # else both are copied once more
                return [np.array(request.get_output_tensor(i).data) for i in range(len(network.outputs))]

        return run


OPENVINO = OpenVino()  # one for all, so that it knows who runs it
RIVALS: tuple[Rival, ...] = (OnnxRuntime(), OPENVINO)
