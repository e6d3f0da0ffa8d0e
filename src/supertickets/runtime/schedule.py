"""The order of steps: chains of convolutions run band by band, so that the next finds in the cache what one writes.

A step may compute vectors up to v once those before it in its chain have computed what it reads: v and its reach.
Nothing is computed twice; all maps are there as a whole, but only a band of each is in use at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .planner import PlannedStep
from .threads import most_pieces

_CACHE = 400_000  # floats of a band; smaller bands cost more in what threads wait than they gain in the second cache
_LEAST = 12  # vectors of a band: a tile
_SMALL = 2500  # numbers of a piece, below which threads would wait for each other longer than they compute


class Part(NamedTuple):
    """Some vectors of a step, from first to last, and the pieces that threads take of it; see `native.Step`."""

    step: PlannedStep
    first: int
    last: int
    pieces: int = 1


def schedule(steps: Sequence[PlannedStep], threads: int = 1) -> list[Part]:
    """Return the parts of steps in the order in which they run; they are the same for any number of threads."""
    parts: list[Part] = []
    at = 0
    while at < len(steps):
        end = at + 1
        while end < len(steps) and _follows(steps[end - 1], steps[end]):
            end += 1
        parts += _together(in_bands(steps[at:end]), threads)
        at = end
    return parts


def _follows(one: PlannedStep, other: PlannedStep) -> bool:
    return one.chain == other.chain and one.vectors == other.vectors > 0


def in_bands(chain: Sequence[PlannedStep], cache: int = _CACHE) -> list[list[Part]]:
    """Return the parts of a chain of steps over maps of one geometry, band after band."""
    vectors = chain[0].vectors
    floats = sum(step.floats for step in chain) * chain[0].width
    band = max(_LEAST, cache // max(floats, 1))
    bands = -(-vectors // band) if len(chain) > 1 else 1
    if bands <= 1:
        return [[Part(step, 0, step.vectors) for step in chain]]
    reach = [sum(step.reach for step in chain[i + 1 :]) for i in range(len(chain))]
    done = [0] * len(chain)
    parts: list[list[Part]] = []
    for band in range(1, bands + 1):
        parts.append([])
        for i, step in enumerate(chain):
            last = min(vectors, vectors * band // bands + reach[i])  # what the steps behind it read ahead
            parts[-1].append(Part(step, done[i], last))
            done[i] = last
    return parts


def _together(bands: Sequence[Sequence[Part]], threads: int) -> list[Part]:
    """Return the parts of bands in order, as many bands beside each other as there are threads; all share the rest."""
    parts: list[Part] = []
    for at in range(0, len(bands), threads):
        beside = bands[at : at + threads]
        groups = zip(*beside, strict=True) if len(beside) == threads else ((part,) for band in beside for part in band)
        for group in groups:
            there = [part for part in group if part.first < part.last or not part.step.vectors]
            parts += _mark(there, most_pieces(threads))
    return parts


def _mark(group: Sequence[Part], most: int) -> list[Part]:
    """Return parts that may run at the same time, with the pieces that threads take of them."""
    if len(group) != 1:
        return [part._replace(pieces=0 if i else 1) for i, part in enumerate(group)]
    [part] = group
    vectors = part.step.vectors
    work = part.step.work * (part.last - part.first) // vectors if vectors else part.step.work
    return [part._replace(pieces=max(1, min(most, work // _SMALL)))]
