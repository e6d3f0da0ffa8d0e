"""Devices, threads, memory and random numbers of the process; whatever is set for a run is put back behind it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
from collections.abc import Iterator
from contextvars import ContextVar

import numpy
import torch

from .errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_GLIBC_THRESHOLD = 128 * 1024  # bytes; where both thresholds start
_keeps_memory = ContextVar("keeps_memory", default=False)  # so that an inner block does not end an outer one's


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


def channel_block() -> int:
    """Return the number of channels in which dense runtimes compute on this CPU."""
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 itself: others take longer than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # PyTorch has no public question for CPUs; where these are missing, the answer is no.
    questions = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(ask is not None and ask() for ask in questions)


@contextlib.contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Let PyTorch run on a number of CPU threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Let glibc keep freed maps for a while, instead of giving them back after every operation.

    A training step on a CPU otherwise spends some 15% of its time in page faults (measured: hrnet_tiny, batch 64). Of
    networks that are timed side by side, one pays for them and its neighbour does not, by what else lies in memory.
    Afterwards the thresholds are those that glibc starts with, and free memory goes back to the system.
    """
    if _keeps_memory.get():
        yield
        return
    token = _keeps_memory.set(True)
    _set_thresholds(1 << 30, 2**31 - 1)
    try:
        yield
    finally:
        _keeps_memory.reset(token)
        _set_thresholds(_GLIBC_THRESHOLD, _GLIBC_THRESHOLD)


def _set_thresholds(mmap: int, trim: int) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, mmap)
        libc.mallopt(_M_TRIM_THRESHOLD, trim)
        libc.malloc_trim(0)


@contextlib.contextmanager
def preserve_random_state(device: torch.device) -> Iterator[None]:
    """Put the random numbers of Python, NumPy and PyTorch back to where they were.

    Args:
        device: Device that is used meanwhile; GPUs that nobody uses are left alone.
    """
    python, array = random.getstate(), numpy.random.get_state()
    uses_gpus = device.type == "cuda" or torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count() if uses_gpus else 0)
    with torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(array)


@contextlib.contextmanager
def use_deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Let PyTorch use deterministic algorithms alone for a while; without ``enabled`` nothing changes."""
    if not enabled:
        yield
        return
    name = "CUBLAS_WORKSPACE_CONFIG"  # read by cuBLAS when a process first uses it
    workspace, before = os.environ.get(name), torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault(name, ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
        if workspace is None:
            del os.environ[name]
