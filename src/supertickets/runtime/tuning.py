"""The form of every layer, checked by timing those forms that a model of the time finds about as good."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from . import native
from .choices import Choices, digest
from .library import Library

Timed = Sequence[tuple[native.Arguments, int]]
_CLOSE = 1.35  # times the least estimate: the model is no surer than that
_WORTH = 50_000  # estimated products of a vector below which no layer is timed
_GAIN = 0.97  # times the time of the model's choice: what another has to stay below
_BUDGET = 0.3  # seconds of one plan; what is left over is timed by the next


class Tuner:
    """Chooses among forms.

    Args:
        library: The kernels.
        choices: What was measured before.
    """

    def __init__(self, library: Library, choices: Choices) -> None:
        self._library, self._choices = library, choices
        self._left = _BUDGET

    def choose(
        self,
        estimates: Mapping[int, float],
        signature: Sequence[bytes],
        steps: Callable[[int], Timed],
    ) -> int:
        """Return the fastest form.

        Args:
            estimates: Time of every form by the model.
            signature: What the times depend on.
            steps: Function that returns a form's steps, each with its vectors per channel.
        """
        first = min(estimates, key=estimates.__getitem__)
        forms = [form for form, estimate in estimates.items() if estimate <= _CLOSE * estimates[first]]
        if len(forms) == 1 or estimates[first] < _WORTH:
            return first
        key = digest([*signature, repr(sorted(forms)).encode()])
        known = self._choices.get(key, list(map(str, forms)))
        if known is not None:
            return int(known)
        if self._left <= 0:
            return first
        begin = time.perf_counter()
        times = self._time({form: steps(form) for form in forms})
        best = min(times, key=times.__getitem__)
        chosen = best if times[best] < _GAIN * times[first] else first
        self._choices.put(key, str(chosen))
        self._left -= time.perf_counter() - begin
        return chosen

    def finish(self) -> None:
        """Keep what was measured."""
        self._choices.save()

    def _time(self, forms: Mapping[int, Timed]) -> dict[int, float]:
        """Return the least milliseconds of every form, in turns."""
        tables = {
            form: native.make_table([(a, 0, vectors, 1) for a, vectors in steps]) for form, steps in forms.items()
        }
        times: dict[int, list[float]] = {form: [] for form in forms}
        for _ in range(3):
            for form, table in tables.items():
                times[form].append(self._library.time(table, 2))
        return {form: min(values) for form, values in times.items()}


def zero_pattern(weight: npt.NDArray[np.float32]) -> bytes:
    """Return which weights are zero."""
    return repr(weight.shape).encode() + np.packbits(weight != 0).tobytes()
