"""Devices by name, CPU threads, and memory that is kept."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

import torch

from .errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def find_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps" (Apple's GPUs); or "auto", a CUDA GPU if there is one, else the CPU.

    Raises:
        UserError: There is no such device, or none on which networks run here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device '{name}' is not one on which networks run here; use auto, cpu, cuda, cuda:1 or mps")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device {name} was asked for but PyTorch sees no GPU of Apple's; use --device cpu")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name} was asked for but PyTorch sees no GPU; use --device cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"device {name} does not exist; there are {torch.cuda.device_count()} GPUs, from cuda:0")
    return device


@contextlib.contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Let PyTorch run on a number of CPU threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let glibc keep freed maps for the rest of the process, instead of giving them back after every operation.

    A training step on a CPU otherwise spends some 15% of its time in page faults (measured: hrnet_tiny, batch 64). Of
    networks that are timed side by side, one pays for them and its neighbour does not, by what else lies in memory.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
