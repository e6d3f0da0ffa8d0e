"""Training, validation and test split of a data set that does not come with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
from torch import Tensor

from ..config.recipe import DataSettings
from ..errors import UserError
from .broken_files import first_reason
from .randomness import mix_seed
from .samples import Index, Splits


class SplittableDataset(Protocol):
    """Samples that can be held out, image by image."""

    @property
    def images(self) -> Sequence[Path]:
        """The image of every sample."""

    def __len__(self) -> int: ...

    def subset(self, index: Index) -> Self:
        """Return the samples at some positions."""


class LabelledDataset(Protocol):
    """Samples with a class each."""

    @property
    def labels(self) -> Tensor:
        """Class indices, int64 (N,)."""

    def __len__(self) -> int: ...

    def subset(self, index: Index) -> Self:
        """Return the samples at some positions."""


Part = TypeVar("Part", bound=SplittableDataset)
Labelled = TypeVar("Labelled", bound=LabelledDataset)
_FEWEST = 3  # images of a class: one for each split


def split_samples(
    sets: Mapping[str, Part], settings: DataSettings, notes: list[str], noun: str
) -> tuple[Part, Part, Part]:
    """Return training, validation and test split of what was found.

    With train, val and test parts the splits are given. Of train and val alone the second is the test split, and
    validation is held out from training, so that nothing is chosen by what is reported. Of one part ("train" or
    "all"), shares are held out. What belongs to one image stays together.

    Raises:
        UserError: A part is empty or missing, or a share is impossible.
    """
    if empty := [name for name, part in sets.items() if not len(part)]:
        why = first_reason(notes)
        raise UserError(f"no {noun} of the {empty[0]} part can be read{why}; mend the files or remove the part")
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


def split_classes(
    sets: Mapping[str, Labelled], classes: Sequence[str], settings: DataSettings, notes: list[str]
) -> tuple[Labelled, Labelled, Labelled]:
    """Return the training, validation and test split of labelled images; shares are held out of every class.

    Args:
        sets: "train" and "test", perhaps "val"; or "all", from which a test split is held out too.
        classes: Names of the labels.
        settings: Reads ``validation``, ``test`` and ``split_seed``.
        notes: What a person should know is added here.

    Raises:
        UserError: A part is empty, a class has too few images, or a share is impossible.
    """
    if "all" in sets:
        data = sets["all"]
        _check_counts(data.labels.tolist(), classes, _FEWEST, notes)
        if not 0 < settings.test < 1:
            raise UserError(f"data.test is {settings.test:g}; it is a share between 0 and 1, e.g. 0.15")
        tested, rest = stratified_split(data.labels.numpy(), settings.test, settings.split_seed)
        if len(set(data.labels[rest].tolist())) < len(classes):
            raise UserError(f"data.test {settings.test:g} leaves a class without training images; try 0.15")
        data, test = data.subset(rest), data.subset(tested)
        how = f"{settings.test:.0%} of every class is the test split"
    else:
        data, test = sets["train"], sets["test"]
        for split, part in sets.items():
            if len(part) == 0:
                raise UserError(
                    f"no image of {split}/ can be read{first_reason(notes)}; mend the files or remove the folder"
                )
        _check_counts(data.labels.tolist(), classes, 1 if "val" in sets else 2, notes)
        how = "splits as given"
    if "val" in sets:
        train, validation = data, sets["val"]
    else:
        kept, held = hold_out(data.labels, settings)
        train, validation = data.subset(kept), data.subset(held)
    missing = [name for label, name in enumerate(classes) if not (train.labels == label).any()]
    if missing:
        raise UserError(f"no image of class '{missing[0]}' is left for training; set data.validation lower")
    counts = np.bincount(train.labels.numpy(), minlength=len(classes))
    shown = ", ".join(f"{name} {n}" for name, n in list(zip(classes, counts, strict=True))[:12])
    notes.append(f"{len(classes)} classes, training images each: {shown}{', ...' if len(classes) > 12 else ''}")
    notes.append(f"{len(train)} training, {len(validation)} validation, {len(test)} test images ({how})")
    return train, validation, test


def limit_samples(splits: Splits, settings: DataSettings) -> Splits:
    """Leave ``data.limit`` training samples, drawn by the split seed; the other splits stay as they are.

    Raises:
        UserError: The limit leaves nothing.
    """
    if settings.limit is None:
        return splits
    if settings.limit < 1:
        raise UserError(f"data.limit is {settings.limit}; the nearest possible is 1 training sample")
    total = len(splits.train)
    if settings.limit >= total:
        return splits
    positions = np.random.default_rng(mix_seed(settings.split_seed, 6)).permutation(total)[: settings.limit]
    note = f"{settings.limit} of {total} training samples are used (data.limit)"
    return replace(splits, train=splits.train.subset(np.sort(positions)), notes=(*splits.notes, note))


def hold_out(labels: Tensor, settings: DataSettings) -> tuple[Index, Index]:
    """Return positions of the training and of the validation split.

    Raises:
        UserError: The share is impossible.
    """
    if not 0 < settings.validation < 1:
        raise UserError(f"data.validation is {settings.validation:g}; it is a share between 0 and 1, e.g. 0.1")
    held, rest = stratified_split(labels.numpy(), settings.validation, settings.split_seed)
    if len(rest) == 0:
        raise UserError(f"data.validation {settings.validation:g} leaves no training samples; try 0.1")
    return rest, held


def stratified_split(labels: Index, share: float, seed: int) -> tuple[Index, Index]:
    """Split positions into (share, rest), each class in proportion; a function of the seed."""
    generator = np.random.default_rng(mix_seed(seed, 1))
    taken = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        taken.append(generator.permutation(members)[: max(1, round(share * len(members)))])
    chosen = np.sort(np.concatenate(taken))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def _hold_out(samples: Part, share: float, seed: int, name: str) -> tuple[Part, Part]:
    number = {path: i for i, path in enumerate(dict.fromkeys(samples.images))}
    count = max(1, round(share * len(number)))
    if not 0 < share < 1 or count >= len(number):
        raise UserError(f"{name} is {share:g}; of {len(number)} images it leaves nothing on one side, try 0.2")
    chosen = np.zeros(len(number), np.bool_)
    chosen[np.random.default_rng(mix_seed(seed, 1)).permutation(len(number))[:count]] = True
    held = chosen[[number[path] for path in samples.images]]
    return samples.subset(np.flatnonzero(~held)), samples.subset(np.flatnonzero(held))


def _check_counts(labels: Sequence[int], classes: Sequence[str], fewest: int, notes: Sequence[str]) -> None:
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    for name, count in zip(classes, counts, strict=True):
        if count < fewest:
            raise UserError(
                f"class '{name}' has {count} readable image{'s' * (count != 1)}, at least {fewest} are needed to "
                f"split them{first_reason(notes, name)}; add images or remove the class"
            )
