"""The alternate signal stack of a thread is put back, whatever a library did to it."""

from __future__ import annotations

import ctypes
import sys

import pytest

from supertickets.runtime.signal_stack import _Stack, keep_signal_stack


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
def test_a_stack_that_was_exchanged_is_put_back() -> None:
    library, before, after, other = ctypes.CDLL(None), _Stack(), _Stack(), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    memory = ctypes.create_string_buffer(1 << 16)
    with keep_signal_stack():
        other.start, other.size = ctypes.addressof(memory), len(memory)
        assert library.sigaltstack(ctypes.byref(other), None) == 0
    library.sigaltstack(None, ctypes.byref(after))
    assert (after.start, after.flags) == (before.start, before.flags)
