"""What data sets in files share: reading what fits into memory, broken files, and splits that are not given."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np

from ..config.recipe import DataSettings
from ..errors import UserError
from .preprocessing import BrokenImage
from .randomness import mix_seed
from .samples import Index

_SHOWN = 20  # broken files that are noted one by one

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


class SplittableDataset(Protocol):
    """Samples that can be held out, image by image."""

    @property
    def images(self) -> Sequence[Path]:
        """The image of every sample."""

    def __len__(self) -> int: ...

    def subset(self, index: Index) -> Self:
        """The samples at some positions."""


Part = TypeVar("Part", bound=SplittableDataset)


def read_all(
    keys: Sequence[Key], read: Callable[[Key], Found], settings: DataSettings, notes: list[str]
) -> dict[Key, Found]:
    """Reads files on all cores; broken ones are noted and left out.

    Raises:
        UserError: A file is broken and ``data.broken`` refuses that.
    """

    def attempt(key: Key) -> Found | BrokenImage:
        try:
            return read(key)
        except BrokenImage as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip(keys, pool.map(attempt, keys), strict=True))
    broken = [found for found in results.values() if isinstance(found, BrokenImage)]
    if broken and settings.broken == "refuse":
        raise UserError(f"{broken[0]}; {len(broken)} such in all: mend or delete them, or set data.broken to skip")
    notes += [f"left out: {error}" for error in broken[:_SHOWN]]
    if len(broken) > _SHOWN:
        notes.append(f"left out: {len(broken) - _SHOWN} more that cannot be read")
    return {key: found for key, found in results.items() if not isinstance(found, BrokenImage)}


def iterate_readable(read: Callable[[int], Found], index: Index, skip: bool) -> Iterator[tuple[int, Found]]:
    """Yields positions with what is read there.

    Args:
        read: Reads the sample at a position.
        index: Positions.
        skip: Whether a broken sample is left out, with a warning.

    Raises:
        BrokenImage: A sample is broken and must not be left out.
    """
    for position in index.tolist():
        try:
            found = read(position)
        except BrokenImage as error:
            if not skip:
                raise
            warnings.warn(f"left out: {error}", stacklevel=2)
            continue
        yield position, found


def read_or_substitute(read: Callable[[int], Found], positions: Iterable[int], skip: bool, what: str) -> Found:
    """A sample; if it is broken, the next one that can be read.

    Args:
        read: Reads the sample at a position.
        positions: Where to look, in this order.
        skip: Whether a broken sample may give its place to another.
        what: Noun, for warnings.

    Raises:
        BrokenImage: The sample is broken and must not be passed over, or all are broken.
    """
    first: BrokenImage | None = None
    for position in positions:
        try:
            return read(position)
        except BrokenImage as error:
            if not skip:
                raise
            if first is None:
                warnings.warn(f"another {what} takes its place: {error}", stacklevel=3)
            first = first or error
    assert first is not None
    raise first


def split_samples(
    sets: Mapping[str, Part], settings: DataSettings, notes: list[str], noun: str
) -> tuple[Part, Part, Part]:
    """Training, validation and test split of what was found.

    With train, val and test parts the splits are given. Of train and val alone the second is the test split, and
    validation is held out from training, so that nothing is chosen by what is reported. Of one part ("train" or
    "all"), shares are held out. What belongs to one image stays together.

    Raises:
        UserError: A part is empty or missing, or a share is impossible.
    """
    if empty := [name for name, part in sets.items() if not len(part)]:
        raise UserError(f"no {noun} of the {empty[0]} part can be read; mend the files or remove the part")
    train = sets.get("train", sets.get("all"))
    if train is None:
        raise UserError(f"there is no train part, only {', '.join(sets)}; add it")
    if {"val", "test"} <= sets.keys():
        notes.append("splits as given")
        return train, sets["val"], sets["test"]
    test = sets.get("test", sets.get("val"))
    if test is None:
        train, test = _hold_out(train, settings.test, settings.split_seed, "data.test")
    train, validation = _hold_out(train, settings.validation, settings.split_seed, "data.validation")
    notes.append(f"{settings.validation:.0%} of the training images are the validation split")
    return train, validation, test


def _hold_out(samples: Part, share: float, seed: int, name: str) -> tuple[Part, Part]:
    number = {path: i for i, path in enumerate(dict.fromkeys(samples.images))}
    count = max(1, round(share * len(number)))
    if not 0 < share < 1 or count >= len(number):
        raise UserError(f"{name} is {share:g}; of {len(number)} images it leaves nothing on one side, try 0.2")
    chosen = np.zeros(len(number), np.bool_)
    chosen[np.random.default_rng(mix_seed(seed, 1)).permutation(len(number))[:count]] = True
    held = chosen[[number[path] for path in samples.images]]
    return samples.subset(np.flatnonzero(~held)), samples.subset(np.flatnonzero(held))
