"""The order of steps: chains of convolutions run band by band, so that the next finds in the cache what one writes.

A step may compute vectors up to v once those before it in its chain have computed what it reads: v and its reach.
Nothing is computed twice; all maps are there as a whole, but only a band of each is in use at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from .planner import PlannedStep

Part = tuple[PlannedStep, int, int]
_CACHE = 120_000  # floats of a band: half of a usual second cache
_LEAST = 12  # vectors of a band: a tile


def schedule(steps: Sequence[PlannedStep]) -> list[Part]:
    """Return steps with their first and last vector, in the order in which they run."""
    parts: list[Part] = []
    at = 0
    while at < len(steps):
        end = at + 1
        while end < len(steps) and _follows(steps[end - 1], steps[end]):
            end += 1
        parts += in_bands(steps[at:end])
        at = end
    return parts


def _follows(one: PlannedStep, other: PlannedStep) -> bool:
    return one.chain == other.chain and one.vectors == other.vectors > 0


def in_bands(chain: Sequence[PlannedStep], cache: int = _CACHE) -> list[Part]:
    """Return the parts of a chain of steps over maps of one geometry, band after band."""
    vectors = chain[0].vectors
    floats = sum(step.floats for step in chain) * chain[0].width
    band = max(_LEAST, cache // max(floats, 1))
    if len(chain) == 1 or band >= vectors:
        return [(step, 0, step.vectors) for step in chain]
    bands = -(-vectors // band)
    ends = [vectors * (i + 1) // bands for i in range(bands)]
    reach = [sum(step.reach for step in chain[i + 1 :]) for i in range(len(chain))]
    done = [0] * len(chain)
    parts: list[Part] = []
    for end in ends:
        for i, step in enumerate(chain):
            last = min(vectors, end + reach[i])  # what the steps behind it read ahead
            if last > done[i]:
                parts.append((step, done[i], last))
                done[i] = last
    return parts
