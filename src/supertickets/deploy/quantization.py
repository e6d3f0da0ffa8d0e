"""Static quantisation of ONNX files by onnxruntime, calibrated on images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import require_libraries
from .exporter import quiet_libraries


def quantize(source: Path, target: Path, images: Iterable[npt.NDArray[np.float32]]) -> None:
    """Write an ONNX file in 8-bit integers.

    Weights are quantised per output channel to 7 bits, activations to 8, so that CPUs with AVX2 alone do not saturate.

    Args:
        source: File in float32, with one input.
        target: File to write.
        images: Batches of preprocessed images, by which the range of activations is chosen.
    """
    require_libraries("onnx", "onnxruntime")
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_name(f"prepared-{source.name}")
    with quiet_libraries():
        # Symbolic shapes are for Transformers of free length; without them it is faster.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            CalibrationReader(images),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    prepared.unlink()


class CalibrationReader:
    """Batches of images, one after the other, as onnxruntime's calibration asks for them."""

    def __init__(self, images: Iterable[npt.NDArray[np.float32]]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch by the name of the input; None behind the last."""
        images = next(self._images, None)
        return None if images is None else {"images": images}
