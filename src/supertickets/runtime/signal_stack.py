"""Keep the stack that signals are handled on while a library is at work that exchanges it."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """An alternate stack, laid out as ``stack_t`` of Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def keep_signal_stack() -> Iterator[None]:
    """Put the alternate signal stack of this thread back afterwards.

    OpenVINO sets one of its own when it compiles a network, and frees it with the network, wherever that happens: the
    next signal, as of a loader process that ends, is then handled in memory that is gone, which ends the process.
    """
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
