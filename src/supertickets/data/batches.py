"""Batches of the splits: in an order, with random numbers and for a process of their own."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..recipe import AugmentSettings, DataSettings
from .augment import move, random_picture, soft_mix
from .images import ImageSet, Index, Samples, Splits, picture_or_another
from .pictures import BrokenPicture, Preprocessing, to_tensor
from .randomness import mix, uniform

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Batches:
    """Draws batches of the three splits for one process of several.

    Attributes:
        splits: The data.
        settings: Batch size and workers.
        augment: How training samples vary.
        seed: Seed of order and augmentation.
        rank: Number of this process.
        world: Number of processes; each takes its share of every batch.
    """

    splits: Splits
    settings: DataSettings
    augment: AugmentSettings
    seed: int
    rank: int = 0
    world: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last, smaller one is left out."""
        return len(self.splits.train) // self.settings.batch

    def train(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Training batches of an epoch (from 0) in its own random order, behind the first ``skip``.

        Labels are int64 (B,), or shares (B, classes) if samples are mixed.
        """
        order = np.random.default_rng(mix(self.seed, epoch, 2)).permutation(len(self.splits.train))
        size = self.settings.batch
        plan = [order[i * size : (i + 1) * size][self.rank :: self.world] for i in range(skip, self.steps_per_epoch)]
        fetch = self._fetch(
            self.splits.train, epoch, self.augment, mixes=bool(self.augment.mixup + self.augment.cutmix)
        )
        return _load(fetch, plan, self.settings.workers)

    def calibration(self, epoch: int, count: int) -> Iterator[Batch]:
        """Augmented training batches for BN statistics, in an order of their own."""
        order = np.random.default_rng(mix(self.seed, epoch, 3)).permutation(len(self.splits.train))
        size = min(max(self.settings.batch, 128), len(order))
        count = min(count, len(order) // size)
        plan = [order[i * size : (i + 1) * size][self.rank :: self.world] for i in range(count)]
        return _load(self._fetch(self.splits.train, epoch, self.augment), plan, 0)

    def evaluation(self, data: Samples) -> Iterator[Batch]:
        """Every sample once over all processes, as it is; broken pictures are left out, or refused."""
        mine = np.arange(self.rank, len(data), self.world)
        plan = [mine[i : i + 256] for i in range(0, len(mine), 256)]
        workers = 0 if isinstance(data, ImageSet) else self.settings.workers
        return _load(self._fetch(data, 0, None), plan, workers)

    def _fetch(self, data: Samples, epoch: int, vary: AugmentSettings | None, *, mixes: bool = False) -> _Fetch:
        classes = len(self.splits.classes) if mixes else 0
        skip = self.settings.broken == "skip"
        return _Fetch(data, self.splits.preprocessing, vary, self.seed, epoch, classes, skip)


@dataclass(frozen=True)
class _Fetch:
    """Fetches whole batches: positions -> (images, labels); a data set for `DataLoader`.

    Attributes:
        data: The samples.
        prepare: How they become inputs.
        vary: How they vary; None for evaluation.
        seed: Random numbers are functions of this,
        epoch: and this,
        classes: If not 0, samples are mixed, and labels become shares of this many classes.
        skip: Whether broken pictures are replaced (training) or left out (evaluation), instead of refused.
    """

    data: Samples
    prepare: Preprocessing
    vary: AugmentSettings | None
    seed: int
    epoch: int
    classes: int
    skip: bool

    def __len__(self) -> int:
        return len(self.data)

    def __getitems__(self, positions: list[int]) -> Batch | BrokenPicture:
        """A batch; or what is wrong with a picture, which a loader process cannot raise without its traceback."""
        try:
            return self._batch(positions)
        except BrokenPicture as error:
            return error

    def __getitem__(self, position: int) -> Batch | BrokenPicture:
        return self.__getitems__([position])

    def _batch(self, positions: list[int]) -> Batch:
        index = np.asarray(positions, dtype=np.int64)
        with torch.random.fork_rng(devices=[]):
            if self.vary is None:
                pixels, index = self._as_they_are(index)
            else:
                pixels = self._varied(index, self.vary)
            images, labels = self.prepare(pixels), self.data.labels[torch.from_numpy(index)]
            if self.vary is not None:
                images = move(images, uniform(self.seed, self.epoch, index, 4), self.vary)
                if self.classes:
                    torch.manual_seed(mix(self.seed, self.epoch, 4, *positions[:2]))
                    images, labels = soft_mix(images, labels, self.classes, self.vary)
        return images, labels

    def _as_they_are(self, index: Index) -> tuple[Tensor, Index]:
        """uint8 (B, C, H, W), and the positions that could be read."""
        if isinstance(self.data, ImageSet):
            return self.data.images[torch.from_numpy(index)], index
        parts, read = [torch.empty(0, self.prepare.channels, *self.prepare.size, dtype=torch.uint8)], []
        for i in index.tolist():
            try:
                parts.append(self.prepare.pixels(self.data.picture(i))[None])
                read.append(i)
            except BrokenPicture as error:
                if not self.skip:
                    raise
                warnings.warn(f"left out: {error}", stacklevel=2)
        return torch.cat(parts), np.asarray(read, dtype=np.int64)

    def _varied(self, index: Index, settings: AugmentSettings) -> Tensor:
        """uint8 (B, C, H, W); what a picture becomes depends on (seed, epoch, position) alone."""
        vary = random_picture(settings, self.prepare.size)
        if vary is None and isinstance(self.data, ImageSet):
            return self.data.images[torch.from_numpy(index)]
        parts = []
        for i in index.tolist():
            torch.manual_seed(mix(self.seed, self.epoch, 5, i))
            picture = picture_or_another(self.data, i) if self.skip else self.data.picture(i)
            fitted = picture if settings.crop < 1 else self.prepare.fitted(picture)
            parts.append(to_tensor(fitted if vary is None else vary(fitted)))
        return torch.stack(parts)


def _load(fetch: _Fetch, plan: list[Index], workers: int) -> Iterator[Batch]:
    loader: DataLoader[Batch | BrokenPicture] = DataLoader(
        fetch,  # type: ignore[arg-type]
        batch_sampler=[part.tolist() for part in plan],
        num_workers=workers,
        worker_init_fn=_leave_interrupts_to_main,
        collate_fn=_as_is,  # type: ignore[arg-type]
        generator=torch.Generator(),  # workers' seeds, which nothing uses, shall not come from the global one
    )
    for batch in loader:
        if isinstance(batch, BrokenPicture):
            raise batch
        yield batch


def _leave_interrupts_to_main(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; workers must outlive it until the main one has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_is(batch: Batch | BrokenPicture) -> Batch | BrokenPicture:
    return batch
