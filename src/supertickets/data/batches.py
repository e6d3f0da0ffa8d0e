"""Batches of the splits: in an order, with random numbers and for a process of their own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..recipe import AugmentSettings, DataSettings
from .augment import move, random_picture, soft_mix
from .images import ImageSet, Index, Samples, Splits
from .pictures import Preprocessing, to_tensor
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
        """Every sample once over all processes, as it is."""
        mine = np.arange(self.rank, len(data), self.world)
        plan = [mine[i : i + 256] for i in range(0, len(mine), 256)]
        workers = 0 if isinstance(data, ImageSet) else self.settings.workers
        return _load(self._fetch(data, 0, None), plan, workers)

    def _fetch(self, data: Samples, epoch: int, vary: AugmentSettings | None, *, mixes: bool = False) -> _Fetch:
        classes = len(self.splits.classes) if mixes else 0
        return _Fetch(data, self.splits.preprocessing, vary, self.seed, epoch, classes)


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
    """

    data: Samples
    prepare: Preprocessing
    vary: AugmentSettings | None
    seed: int
    epoch: int
    classes: int

    def __len__(self) -> int:
        return len(self.data)

    def __getitems__(self, positions: list[int]) -> Batch:
        index = np.asarray(positions, dtype=np.int64)
        labels = self.data.labels[torch.from_numpy(index)]
        with torch.random.fork_rng(devices=[]):
            images = self.prepare(self._pixels(index))
            if self.vary is not None:
                images = move(images, uniform(self.seed, self.epoch, index, 4), self.vary)
                if self.classes:
                    torch.manual_seed(mix(self.seed, self.epoch, 4, *positions[:2]))
                    images, labels = soft_mix(images, labels, self.classes, self.vary)
        return images, labels

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])

    def _pixels(self, index: Index) -> Tensor:
        """uint8 (B, C, H, W); what a picture becomes depends on (seed, epoch, position) alone."""
        vary = None if self.vary is None else random_picture(self.vary, self.prepare.size)
        if self.vary is None or vary is None:
            if isinstance(self.data, ImageSet):
                return self.data.images[torch.from_numpy(index)]
            return torch.stack([self.prepare.pixels(self.data.picture(int(i))) for i in index])
        parts = []
        for i in index:
            torch.manual_seed(mix(self.seed, self.epoch, 5, int(i)))
            picture = self.data.picture(int(i))
            parts.append(to_tensor(vary(picture if self.vary.crop < 1 else self.prepare.fitted(picture))))
        return torch.stack(parts)


def _load(fetch: _Fetch, plan: list[Index], workers: int) -> Iterator[Batch]:
    loader: DataLoader[Batch] = DataLoader(
        fetch,  # type: ignore[arg-type]
        batch_sampler=[part.tolist() for part in plan],
        num_workers=workers,
        worker_init_fn=_leave_interrupts_to_main,
        collate_fn=_as_is,  # type: ignore[arg-type]
    )
    return iter(loader)


def _leave_interrupts_to_main(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; workers must outlive it until the main one has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_is(batch: Batch) -> Batch:
    return batch
