"""Batches of the splits: in an order, with random numbers and for a process of their own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..config.recipe import AugmentSettings, DataSettings
from ..errors import STOP_SIGNALS, UserError
from .preprocessing import Preprocessing
from .randomness import mix_seed
from .samples import AugmentContext, Batch, Index, Samples, Splits

_PIXELS = 256 * 64 * 64  # of an evaluated batch, at most, unless one image is larger


@dataclass(frozen=True)
class Batches:
    """Draws batches of the three splits for one process of several.

    Attributes:
        splits: The data.
        settings: Batch size and workers.
        augment: Random changes of training samples.
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
        """Return training batches of an epoch (from 0) in its own random order, behind the first ``skip``.

        Targets are one tensor each; what they hold is between the samples and the task.
        """
        order = np.random.default_rng(mix_seed(self.seed, epoch, 2)).permutation(len(self.splits.train))
        size = self.settings.batch
        plan = [order[i * size : (i + 1) * size][self.rank :: self.world] for i in range(skip, self.steps_per_epoch)]
        mixed = len(self.splits.classes) if self.augment.mixup or self.augment.cutmix else 0
        return _load(self._fetch(AugmentContext(self.augment, self.seed, epoch, mixed)), plan, self.settings.workers)

    def calibration(self, epoch: int, count: int) -> Iterator[Batch]:
        """Return augmented training batches for BN statistics, in an order of their own.

        Few samples that are changed at random are taken several times: the statistics of one pass would be those of its
        chance changes.
        """
        samples = len(self.splits.train)
        size = min(max(self.settings.batch, min(128, self._evaluated_at_once)), samples)
        if self.augment == AugmentSettings():  # every pass would be the same
            count = min(count, samples // size)
        for again, first in enumerate(range(0, count, samples // size)):
            keys = (self.seed, epoch, 3, again) if again else (self.seed, epoch, 3)
            order = np.random.default_rng(mix_seed(*keys)).permutation(samples)
            taken = range(min(samples // size, count - first))
            plan = [order[i * size : (i + 1) * size][self.rank :: self.world] for i in taken]
            yield from _load(self._fetch(AugmentContext(self.augment, self.seed, epoch + again)), plan, 0)

    def search_eval_batches(self, epoch: int, size: int, networks: int = 1, skip: int = 0) -> Iterator[Batch]:
        """Validation batches that networks are judged by in an epoch; they go through the split in random orders.

        Args:
            epoch: From 0.
            size: Of a batch; broken images are missing.
            networks: Batches per training step and process.
            skip: Steps that are done.
        """
        data, steps = self.splits.validation, self.steps_per_epoch
        needed = steps * self.world * networks * size
        orders = [
            np.random.default_rng(mix_seed(self.seed, epoch, 4, i)).permutation(len(data))
            for i in range(-(-needed // len(data)))
        ]
        every = np.concatenate(orders)[:needed].reshape(steps, self.world, networks, size)
        mine = every[skip:, self.rank].reshape(-1, size)
        workers = self.settings.workers if data.io_bound else 0
        return _load(_Fetch(data, self.splits.preprocessing, None), list(mine), workers)

    def evaluation(self, data: Samples, mixed: int | None = None) -> Iterator[Batch]:
        """Return every sample once over all processes, as it is; broken images are left out, or refused.

        Args:
            data: The samples.
            mixed: Seed of the order of the samples; None for their own.
        """
        order = np.arange(len(data)) if mixed is None else np.random.default_rng(mixed).permutation(len(data))
        mine = order[self.rank :: self.world]
        size = self._evaluated_at_once
        plan = [mine[i : i + size] for i in range(0, len(mine), size)]
        workers = self.settings.workers if data.io_bound else 0
        return _load(_Fetch(data, self.splits.preprocessing, None), plan, workers)

    @property
    def _evaluated_at_once(self) -> int:
        prepare = self.splits.preprocessing
        if prepare.fit == "shorter":
            return 1  # sizes may differ
        return min(256, max(1, _PIXELS // (prepare.size[0] * prepare.size[1])))

    def _fetch(self, context: AugmentContext) -> _Fetch:
        return _Fetch(self.splits.train, self.splits.preprocessing, context)


@dataclass(frozen=True)
class _Fetch:
    """Fetches whole batches by position; a data set for `DataLoader`."""

    data: Samples
    prepare: Preprocessing
    context: AugmentContext | None

    def __len__(self) -> int:
        return len(self.data)

    def __getitems__(self, positions: list[int]) -> Batch | UserError:
        """Return a batch; or what is wrong with a file, which a loader process cannot raise without its traceback."""
        try:
            with torch.random.fork_rng(devices=[]):
                return self.data.batch(np.asarray(positions, dtype=np.int64), self.prepare, self.context)
        except UserError as error:
            return error

    def __getitem__(self, position: int) -> Batch | UserError:
        return self.__getitems__([position])


def _load(fetch: _Fetch, plan: list[Index], workers: int) -> Iterator[Batch]:
    loader: DataLoader[Batch | UserError] = DataLoader(
        fetch,  # type: ignore[arg-type]
        batch_sampler=[part.tolist() for part in plan],
        num_workers=workers,
        worker_init_fn=_leave_signals_to_main,
        collate_fn=_as_is,  # type: ignore[arg-type]
        generator=torch.Generator(),  # workers' seeds, which nothing uses, shall not come from the global one
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _leave_signals_to_main(worker: int) -> None:
    """Let a worker outlive what asks all processes of a terminal or a job to end, until the main one has saved.

    A second SIGTERM ends it: PyTorch sends some to a worker that hangs.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


def _as_is(batch: Batch | UserError) -> Batch | UserError:
    return batch
