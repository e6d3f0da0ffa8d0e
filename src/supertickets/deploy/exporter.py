"""Export: dead channels removed, batch norms folded, and parity checked before it says done."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ..errors import UserError, require_libraries
from ..models import Spec
from ..runtime import load as load_sparse
from ..runtime.graph import infer_values, save_graph
from ..storage import check_writable, make_folder, replace_file, replace_folder
from ..ticket import Ticket
from .compaction import compact, count_removed
from .embedded import SOURCE, check_name, compile_program, find_compiler, run_program, write_program
from .onnx_graph import read_onnx
from .onnx_sizes import name_resized_sizes

Format = Literal["onnx", "torch", "sparse", "c"]
Runner = Callable[[npt.NDArray[np.float32]], Any]
TOLERANCE = 1e-4
_OPSET = 20


@dataclass(frozen=True)
class Exported:
    """The file of an export, and how it was checked.

    Attributes:
        path: The file; of C the folder.
        parity: Largest difference of any output to the ticket's own, as a share of the largest output if that is
            above 1; None if it was not checked, since C needs a compiler.
        channels_removed: Dead channels that are not in the file.
    """

    path: Path
    parity: float | None
    channels_removed: int


def export(
    ticket: Ticket,
    path: str | Path,
    kind: Format = "onnx",
    *,
    fixed: bool = False,
    compacted: bool = True,
    name: str = "network",
) -> Exported:
    """Write a ticket as an ONNX file, a PyTorch program, a file of `runtime` or a folder of C sources.

    It takes preprocessed images (B, C, H, W), see `free_sizes` for what stays free; C takes one image of one size. All
    but PyTorch's hold classes and preprocessing.

    Args:
        ticket: Ticket to export.
        path: The file or folder to write; it appears only if the check succeeds.
        kind: "onnx", "torch" for `torch.export`, "sparse" for `supertickets.runtime`, or "c".
        fixed: Whether the network of scenes takes images of ``spec.image_size`` alone.
        compacted: Whether search units without effect are removed.
        name: Word that names in C begin with.

    Raises:
        UserError: The folder or the name cannot be.
        RuntimeError: Outputs differ from the ticket's by `TOLERANCE` or more.
    """
    path = Path(path)
    check_name(name)
    check_target(path, folder=kind == "c")
    writers: dict[str, Callable[..., Runner | None]] = {**_WRITERS, "c": functools.partial(_write_c, name=name)}
    small = compact(ticket) if compacted else ticket
    free = free_sizes(small.spec, any_size=ticket.task.any_size and not fixed and kind != "c")
    inputs = _inputs(ticket.spec, free)
    outputs = _run_ticket(ticket, inputs, any_size=2 in free)
    network = small.module if kind == "torch" else small.module.folded()  # PyTorch itself is faster without
    program = _trace(network, inputs[0], free)
    with (replace_folder if kind == "c" else replace_file)(path) as scratch:
        with quiet_libraries():
            run = writers[kind](program, inputs[0], free, _metadata(ticket, outputs[0]), scratch)
        parity = None if run is None else _parity(run, inputs, outputs)
    return Exported(path, parity, count_removed(ticket, small))


@torch.no_grad()
def _run_ticket(ticket: Ticket, inputs: Sequence[torch.Tensor], *, any_size: bool) -> list[torch.Tensor]:
    """Return the ticket's own outputs.

    Raises:
        UserError: The network only works at some heights and widths, but is to take any.
    """
    try:
        return [ticket.module(images) for images in inputs]
    except RuntimeError as error:
        if not any_size:
            raise
        raise _not_any_size(str(error).split("\n")[0]) from error


def _parity(run: Runner, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> float:
    """Return the largest difference of what a file computes, as `Exported` has it.

    Raises:
        RuntimeError: It is not below `TOLERANCE`.
    """
    wanted = [scores.numpy() for scores in outputs]
    largest = max(1.0, *(float(np.abs(scores).max()) for scores in wanted))  # may be large without training
    errors = [np.abs(run(images.numpy()) - scores).max() for images, scores in zip(inputs, wanted, strict=True)]
    parity = float(np.max(errors)) / largest  # not a number if one of them is none
    if not parity < TOLERANCE:
        raise RuntimeError(f"the exported network differs by {parity:.2g} (limit {TOLERANCE}); nothing was written")
    return parity


def check_target(path: Path, *, folder: bool) -> None:
    """Check that a file or folder can be written, and make the folder that it lies in.

    Raises:
        UserError: It cannot, or something else is at the path.
    """
    if path.is_dir() and not folder:
        raise UserError(f"{path} is a folder; give --out the name of a file, e.g. {path}/model.onnx")
    if folder and path.exists() and not (path / SOURCE).exists() and (path.is_file() or any(path.iterdir())):
        raise UserError(f"{path} is there and holds no C sources of a ticket; give --out the name of a new folder")
    check_writable(path)
    make_folder(path.parent)


def _trace(
    network: torch.nn.Module, images: torch.Tensor, free: dict[int, torch.export.Dim]
) -> torch.export.ExportedProgram:
    """Return the program of a network for images whose free dimensions are of any size.

    Raises:
        UserError: The network only works at some heights and widths.
    """
    try:
        return torch.export.export(network, (images,), dynamic_shapes=(free,))
    except torch._dynamo.exc.UserError as error:
        if 2 not in free:
            raise
        why = str(error).split("\n")[0].split("!")[0]
        raise _not_any_size(why) from error


def _not_any_size(why: str) -> UserError:
    return UserError(
        f"the network cannot be exported for images of any size ({why}); give --fixed for images of one size"
    )


def write_plain_onnx(module: torch.nn.Module, images: torch.Tensor, path: Path) -> None:
    """Write any module for inputs of this one shape, as it is and unchecked."""
    program = torch.export.export(module, (images,))
    with quiet_libraries():
        _onnx_program(program, images).save(str(path))


def onnx_runner(path: Path, threads: int = 0) -> Callable[[npt.NDArray[np.float32]], Any]:
    """Return a function that runs an ONNX file on the CPU."""
    require_libraries("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that wait for the next call would take the processor from whatever else runs in this process.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def free_sizes(spec: Spec, *, any_size: bool) -> dict[int, torch.export.Dim]:
    """Return the dimensions of an exported network's input that stay free: the batch, of scenes also height and width.

    A network of a fixed size is the faster one: maps whose sizes are known to agree need no resizing. A PyTorch program
    refuses scenes whose coarsest map has fewer than two rows or columns; an ONNX file takes them.

    Args:
        spec: The network.
        any_size: Whether height and width shall be free, if the family of the network can.
    """
    free = {0: torch.export.Dim("batch", min=1)}
    stride = spec.coarsest_stride
    if any_size and stride is not None:
        least = stride + 1  # PyTorch ties a graph to maps of one row or column
        free |= {2: torch.export.Dim("height", min=least), 3: torch.export.Dim("width", min=least)}
    return free


def _inputs(spec: Spec, free: Mapping[int, torch.export.Dim]) -> list[torch.Tensor]:
    """Return images to compare file and ticket on: several, one, and where sizes are free one of another size."""
    height, width = (max(side, free[i].min) if i in free else side for i, side in enumerate(spec.image_size, 2))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, spec.in_channels, height, width, generator=generator)
    if 2 not in free:
        return [images, images[:1]]
    # On its side, and odd, so that maps do not halve evenly.
    return [images, images[:1], torch.randn(1, spec.in_channels, width | 1, height + 2 | 1, generator=generator)]


def _metadata(ticket: Ticket, scores: torch.Tensor) -> dict[str, str]:
    """Return what a reader of the file needs, JSON by name."""
    values = {
        "classes": ticket.classes,
        "preprocessing": asdict(ticket.preprocessing),
        **ticket.task.export_metadata(scores),
    }
    return {name: json.dumps(value) for name, value in values.items()}


def _write_onnx(
    program: torch.export.ExportedProgram,
    images: torch.Tensor,
    free: Mapping[int, torch.export.Dim],
    metadata: Mapping[str, str],
    path: Path,
) -> Runner:
    made = _onnx_program(program, images, free)
    for node in made.model.graph.all_nodes():
        node.metadata_props.clear()  # the exporter writes stack traces with this machine's paths into every node
    name_resized_sizes(made.model.graph)
    made.model.metadata_props.update(metadata)
    made.save(str(path))
    return onnx_runner(path)


def _write_torch(
    program: torch.export.ExportedProgram,
    images: torch.Tensor,
    free: Mapping[int, torch.export.Dim],
    metadata: Mapping[str, str],
    path: Path,
) -> Runner:
    torch.export.save(program, path)
    module = torch.export.load(path).module()
    return lambda images: module(torch.from_numpy(images)).detach().numpy()


def _write_sparse(
    program: torch.export.ExportedProgram,
    images: torch.Tensor,
    free: Mapping[int, torch.export.Dim],
    metadata: Mapping[str, str],
    path: Path,
) -> Runner:
    _, channels, height, width = images.shape
    graph = read_onnx(_onnx_program(program, images, free).model_proto, (channels, height, width))
    save_graph(graph, path, metadata)
    return load_sparse(path, fallback="never")


def _write_c(
    program: torch.export.ExportedProgram,
    images: torch.Tensor,
    free: Mapping[int, torch.export.Dim],
    metadata: Mapping[str, str],
    path: Path,
    name: str,
) -> Runner | None:
    _, channels, height, width = images.shape
    graph = read_onnx(_onnx_program(program, images, free).model_proto, (channels, height, width))
    write_program(graph, path, {key: json.loads(text) for key, text in metadata.items()}, name)
    shapes = infer_values(graph, (1, *graph.example)).shapes

    def run(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with tempfile.TemporaryDirectory() as folder:
            compile_program(path, Path(folder) / "network")
            return run_program(Path(folder) / "network", images).reshape(len(images), *shapes[graph.outputs[0]][1:])

    return run if find_compiler() else None


_WRITERS: Mapping[str, Callable[..., Runner | None]] = {
    **{"onnx": _write_onnx, "torch": _write_torch, "sparse": _write_sparse}
}


def _onnx_program(
    program: torch.export.ExportedProgram, images: torch.Tensor, free: Mapping[int, torch.export.Dim] | None = None
) -> torch.onnx.ONNXProgram:
    require_libraries("onnx", "onnxscript")
    made = torch.onnx.export(
        program,
        (images,),
        input_names=["images"],
        output_names=["scores"],
        opset_version=_OPSET,
        dynamo=True,
        dynamic_shapes=(free,) if free else None,  # for their names
    )
    assert made is not None
    return made


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep what libraries of ONNX say of their progress from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
