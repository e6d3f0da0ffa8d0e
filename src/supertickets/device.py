"""Where networks run, on how many threads, and with what memory."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

import torch

from .errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one, else the CPU.

    Raises:
        UserError: There is no such device, or none on which networks run here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}' is not one on which networks run here; use auto, cpu, cuda or cuda:1")
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name} was asked for but PyTorch sees no GPU; use --device cpu")
        if (found.index or 0) >= torch.cuda.device_count():
            raise UserError(f"device {name} does not exist; there are {torch.cuda.device_count()} GPUs, from cuda:0")
    return found


@contextlib.contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Lets PyTorch run on so many CPU threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Lets glibc keep freed maps for the rest of the process, instead of giving them back after every operation.

    A training step on a CPU otherwise spends some 15% of its time in page faults (measured: hrnet_tiny, batch 64). Of
    networks that are timed side by side, one pays for them and its neighbour does not, by what else lies in memory.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
