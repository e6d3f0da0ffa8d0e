"""Random numbers as a function of what they are for, so that there is no state to lose or share.

A sample's augmentation depends on (seed, epoch, index) alone: not on workers, processes or what ran before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt64 = npt.NDArray[np.uint64]


def mix_seed(*keys: int) -> int:
    """Hash integers to a seed of 63 bits."""
    state = np.zeros(1, np.uint64)
    for key in keys:
        state = _splitmix(state ^ np.uint64(key & 0xFFFFFFFFFFFFFFFF))
    return int(state[0] >> np.uint64(1))


def uniform(seed: int, epoch: int, index: npt.NDArray[np.int64], draws: int) -> npt.NDArray[np.float32]:
    """Return numbers in [0, 1) of shape (len(index), draws), each row a function of (seed, epoch, index)."""
    base = np.uint64(mix_seed(seed, epoch))
    rows = _splitmix(index.astype(np.uint64) ^ base)[:, None]
    bits = _splitmix(rows + np.arange(1, draws + 1, dtype=np.uint64) * np.uint64(0x632BE59BD9B4E019))
    return ((bits >> np.uint64(40)).astype(np.float32)) / np.float32(1 << 24)


def sample_indices(number: int, most: int) -> list[int]:
    """At most so many positions of a set, in order, always the same: what a normalisation is measured on."""
    return np.sort(np.random.default_rng(mix_seed(0, 6)).permutation(number)[:most]).tolist()


def _splitmix(x: UInt64) -> UInt64:
    """One round of the SplitMix64 generator (Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
