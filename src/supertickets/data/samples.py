"""The interface of every data set: batches of prepared inputs with their targets, and three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..config.recipe import AugmentSettings, DataSettings
from ..errors import UserError
from .preprocessing import Preprocessing
from .randomness import mix_seed

Index = npt.NDArray[np.int64]
# Inputs (B, C, H, W), and targets as the task wants them: one tensor in training, anything in an evaluation.
Batch = tuple[Tensor, Any]


@dataclass(frozen=True)
class AugmentContext:
    """Random changes of training samples in an epoch; random numbers are functions of (seed, epoch, sample) alone.

    Attributes:
        settings: What varies.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        mixed: If not 0, samples are mixed, and labels become shares of this many classes.
    """

    settings: AugmentSettings
    seed: int
    epoch: int
    mixed: int = 0

    def seed_random(self, *keys: int) -> None:
        """Seed PyTorch's random numbers on the CPU by run, epoch and keys, e.g. the position of a sample."""
        # Not torch.manual_seed: for GPUs not yet in use it notes the whole call stack, which costs 0.3 ms per image.
        torch.default_generator.manual_seed(mix_seed(self.seed, self.epoch, *keys))


class Samples(Protocol):
    """The samples of a split."""

    @property
    def io_bound(self) -> bool:
        """Return whether reading takes so long that processes of its own pay."""

    def __len__(self) -> int: ...

    def batch(self, index: Index, prepare: Preprocessing, context: AugmentContext | None) -> Batch:
        """Return inputs and targets at some positions; as they are if ``context`` is None (an evaluation).

        Raises:
            BrokenImage: A file cannot be read, and must not be passed over.
            UserError: Files do not fit each other.
        """

    def subset(self, index: Index) -> Samples:
        """Return the samples at some positions."""

    def digest(self) -> str:
        """Return a hash that tells whether these are the same samples in the same order."""


@dataclass(frozen=True)
class Splits:
    """A data set in three parts; ``test`` is for the last figure alone and never chooses anything.

    Attributes:
        train: What is learned from.
        validation: What is chosen by.
        test: What is reported.
        classes: Names of what the network tells apart: classes, or joints.
        preprocessing: How an image becomes an input.
        notes: What a person should know about how the data was read, a line each.
        limbs: Pairs of joints between which a line is drawn.
    """

    train: Samples
    validation: Samples
    test: Samples
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()

    def digest(self) -> str:
        """Return a hash that tells whether the same samples are in the same splits."""
        return hash_chunks(*(part.digest().encode() for part in (self.train, self.validation, self.test)))


def square_side(settings: DataSettings) -> int | None:
    """``data.size`` of data whose images are made square.

    Raises:
        UserError: It is impossible.
    """
    size = settings.size
    if isinstance(size, tuple):
        raise UserError(f"data.size is {list(size)}; images of {settings.source} are made square, give one number")
    if size is not None and size < 8:
        raise UserError(f"data.size is {size}; the nearest possible is 8 pixels")
    return size


def height_and_width(settings: DataSettings, what: str, such_as: list[int]) -> tuple[int, int]:
    """``data.size`` of data whose inputs are no squares.

    Args:
        settings: The settings.
        what: What has this size, for the error.
        such_as: A size that works, for the error.

    Raises:
        UserError: It is missing or impossible.
    """
    if settings.size is None:
        raise UserError(f"data.size is null; give height and width of {what}, e.g. --data.size {such_as}")
    height, width = (settings.size, settings.size) if isinstance(settings.size, int) else settings.size
    if min(height, width) < 16:
        raise UserError(
            f"data.size is {height} x {width}; the nearest possible is {max(height, 16)} x {max(width, 16)}"
        )
    return height, width


def pad_rows(tables: Sequence[Tensor], columns: int) -> Tensor:
    """Return tables of rows as one tensor (B, M, columns), with rows of -1 where one has fewer than another."""
    made = torch.full((len(tables), max([1, *map(len, tables)]), columns), -1.0)
    for rows, table in zip(made, tables, strict=True):
        rows[: len(table)] = table
    return made


def hash_chunks(*parts: bytes | memoryview) -> str:
    """Return the hash of some bytes."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()
