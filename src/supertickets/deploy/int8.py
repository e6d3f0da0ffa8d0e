"""Export in 8-bit integers: static quantisation by onnxruntime, calibrated and judged on the ticket's own data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..data import Batches
from ..errors import UserError, require_libraries
from ..runs.evaluate import load_ticket_data
from ..storage import replace_file
from ..ticket import Ticket
from ..training import Runtime, evaluate
from .exporter import check_target, export, onnx_runner
from .quantization import quantize
from .runtime_network import RuntimeNetwork

CALIBRATION_IMAGES = 256
MOST_LOSS = 1.0  # of the quality that a quantised ticket may lose, in points of 100


@dataclass(frozen=True)
class Quantized:
    """A quantised file, and what it is worth.

    Attributes:
        path: The file.
        metric: Name of the task's metric.
        before: Metrics of the ticket on the validation split.
        after: Metrics of the file on the validation split.
        loss: Quality that was lost, in points of 100 (of errors: in percent of the ticket's own).
    """

    path: Path
    metric: str
    before: dict[str, float]
    after: dict[str, float]
    loss: float


def export_int8(
    ticket: Ticket,
    path: str | Path,
    data_dir: str | None = None,
    *,
    most_loss: float = MOST_LOSS,
    force: bool = False,
    fixed: bool = False,
) -> Quantized:
    """Write a ticket as an ONNX file in 8-bit integers, and measure both on the validation split.

    Zeros of the mask stay zeros; see `quantize`.

    Args:
        ticket: Ticket to export.
        path: The file to write.
        data_dir: Folder with the ticket's data, if it has moved; its training images calibrate the activations.
        most_loss: Largest loss of quality, in points of 100 (of errors: in percent).
        force: Whether to write the file whatever it loses.
        fixed: Whether the network of scenes takes images of ``spec.image_size`` alone.

    Raises:
        UserError: The data is missing, or the file loses more than it may.
    """
    require_libraries("onnx", "onnxruntime")
    path = Path(path)
    check_target(path, folder=False)
    batches = load_ticket_data(ticket, data_dir)
    with tempfile.TemporaryDirectory() as scratch:
        whole, small = (Path(scratch) / f"{name}.onnx" for name in ("float", "int8"))
        export(ticket, whole, fixed=fixed)
        quantize(whole, small, calibration_images(batches))
        before, after = (_evaluate(file, ticket, batches) for file in (whole, small))
        metric = ticket.task.metric
        loss = 100 * (metric.quality(before) - metric.quality(after))
        if not loss <= most_loss and not force:  # also where one of them is no number
            raise UserError(
                f"int8 loses {loss:.2f} points of {metric.display_name} ({metric.text(before)} -> "
                f"{metric.text(after)}), more than {most_loss:g}; allow it with --force, or raise --most-loss"
            )
        with replace_file(path) as written:
            written.write_bytes(small.read_bytes())
    return Quantized(path, metric.name, before, after, loss)


def calibration_images(batches: Batches, count: int = CALIBRATION_IMAGES) -> Iterator[npt.NDArray[np.float32]]:
    """Return training images without augmentation, in batches, no more than a number."""
    left = count
    for images, _ in batches.calibration(0, count):
        yield images[:left].contiguous().numpy()
        left -= len(images)
        if left <= 0:
            return


def _evaluate(path: Path, ticket: Ticket, batches: Batches) -> dict[str, float]:
    data = batches.splits.validation
    return evaluate(
        RuntimeNetwork(onnx_runner(path)), batches.evaluation(data), data, ticket.task, Runtime(torch.device("cpu"))
    )
