"""Images in memory: the sets, their splits, and the batches drawn from them."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ..errors import UserError
from ..recipe import DataSettings
from .randomness import mix, uniform

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input; travels in the ticket.

    Attributes:
        channels: 1 for grey, 3 for RGB.
        size: Height and width that pictures are resized to (bilinear, antialiased), in pixels.
        mean: Per channel, of values in [0, 1].
        std: Per channel.
    """

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """uint8 -> normalised float32."""
        scaled = images_BCHW.to(torch.float32) / 255
        mean = torch.tensor(self.mean).view(-1, 1, 1)
        return (scaled - mean) / torch.tensor(self.std).view(-1, 1, 1)


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, uint8 (N, C, H, W) and int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: npt.NDArray[np.int64]) -> ImageSet:
        """The samples at some positions."""
        picked = torch.from_numpy(index)
        return ImageSet(self.images[picked], self.labels[picked])


@dataclass(frozen=True)
class Splits:
    """A data set in three parts; ``test`` is for the last figure alone and never chooses anything."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    preprocessing: Preprocessing


def make_splits(train: ImageSet, test: ImageSet, classes: tuple[str, ...], settings: DataSettings) -> Splits:
    """Holds out a validation split (the same share of every class) and measures the normalisation."""
    if not 0 < settings.validation < 1:
        raise UserError(f"data.validation is {settings.validation:g}; it is a share between 0 and 1, e.g. 0.1")
    held, rest = stratified(train.labels.numpy(), settings.validation, settings.split_seed)
    if len(rest) == 0:
        raise UserError(f"data.validation {settings.validation:g} leaves no training samples; try 0.1")
    train, validation = train.subset(rest), train.subset(held)
    values = train.images.to(torch.float32) / 255
    dims = (0, 2, 3)
    mean, std = values.mean(dims), values.std(dims, correction=0).clamp_min(1e-3)
    channels, height, width = train.images.shape[1:]
    preprocessing = Preprocessing(channels, (height, width), tuple(mean.tolist()), tuple(std.tolist()))
    return Splits(train, validation, test, classes, preprocessing)


def stratified(
    labels: npt.NDArray[np.int64], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Splits positions into (share, rest), each class in proportion; a function of the seed."""
    generator = np.random.default_rng(mix(seed, 1))
    taken = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        taken.append(generator.permutation(members)[: max(1, round(share * len(members)))])
    chosen = np.sort(np.concatenate(taken))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


class _Fetch:
    """Fetches whole batches: positions -> (images, labels)."""

    def __init__(
        self, data: ImageSet, prepare: Preprocessing, vary: DataSettings | None, seed: int, epoch: int
    ) -> None:
        self.data, self.prepare, self.vary, self.seed, self.epoch = data, prepare, vary, seed, epoch

    def __len__(self) -> int:
        return len(self.data)

    def __getitems__(self, positions: list[int]) -> Batch:
        index = np.asarray(positions, dtype=np.int64)
        part = self.data.subset(index)
        images = self.prepare(part.images)
        if self.vary is not None:
            images = augment(images, uniform(self.seed, self.epoch, index, 4), self.vary)
        return images, part.labels

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])


def augment(images_BCHW: Tensor, random_B4: npt.NDArray[np.float32], settings: DataSettings) -> Tensor:
    """Rotates, scales and shifts each image by its own random numbers in [0, 1); borders repeat."""
    if not (settings.rotate or settings.scale or settings.shift):
        return images_BCHW
    height, width = images_BCHW.shape[-2:]
    signed = torch.from_numpy(random_B4) * 2 - 1
    angle = signed[:, 0] * math.radians(settings.rotate)
    zoom = 1 + signed[:, 1] * settings.scale
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    move_x = signed[:, 2] * settings.shift * 2 / width
    move_y = signed[:, 3] * settings.shift * 2 / height
    theta = torch.stack((torch.stack((cos, -sin, move_x), 1), torch.stack((sin, cos, move_y), 1)), 1)
    grid = F.affine_grid(theta, list(images_BCHW.shape), align_corners=False)
    return F.grid_sample(images_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Batches:
    """Draws batches of the three splits for one process of several.

    Attributes:
        splits: The data.
        settings: Batch size, workers and augmentation.
        seed: Seed of order and augmentation.
        rank: Number of this process.
        world: Number of processes; each takes its share of every batch.
    """

    splits: Splits
    settings: DataSettings
    seed: int
    rank: int = 0
    world: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last, smaller one is left out."""
        return len(self.splits.train) // self.settings.batch

    def train(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Training batches of an epoch (from 0) in its own random order, behind the first ``skip``."""
        order = np.random.default_rng(mix(self.seed, epoch, 2)).permutation(len(self.splits.train))
        size = self.settings.batch
        plan = [order[i * size : (i + 1) * size][self.rank :: self.world] for i in range(skip, self.steps_per_epoch)]
        return self._load(self.splits.train, plan, self.settings, epoch)

    def calibration(self, epoch: int, count: int) -> Iterator[Batch]:
        """Augmented training batches for BN statistics, in an order of their own."""
        order = np.random.default_rng(mix(self.seed, epoch, 3)).permutation(len(self.splits.train))
        size = min(max(self.settings.batch, 128), len(order))
        count = min(count, len(order) // size)
        plan = [order[i * size : (i + 1) * size][self.rank :: self.world] for i in range(count)]
        return self._load(self.splits.train, plan, self.settings, epoch, workers=0)

    def evaluation(self, data: ImageSet) -> Iterator[Batch]:
        """Every sample once over all processes, as it is."""
        mine = np.arange(self.rank, len(data), self.world)
        plan = [mine[i : i + 256] for i in range(0, len(mine), 256)]
        return self._load(data, plan, None, 0, workers=0)

    def _load(
        self,
        data: ImageSet,
        plan: list[npt.NDArray[np.int64]],
        vary: DataSettings | None,
        epoch: int,
        workers: int | None = None,
    ) -> Iterator[Batch]:
        loader: DataLoader[Batch] = DataLoader(
            _Fetch(data, self.splits.preprocessing, vary, self.seed, epoch),  # type: ignore[arg-type]
            batch_sampler=[part.tolist() for part in plan],
            num_workers=self.settings.workers if workers is None else workers,
            worker_init_fn=_leave_interrupts_to_main,
            collate_fn=_as_is,  # type: ignore[arg-type]
        )
        return iter(loader)


def _leave_interrupts_to_main(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; workers must outlive it until the main one has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_is(batch: Batch) -> Batch:
    return batch
