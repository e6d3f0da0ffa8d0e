"""Batches: order, shares of several processes, augmentation as a function of (seed, epoch, index)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from supertickets.config.recipe import AugmentSettings, DataSettings
from supertickets.data import Batches, InMemoryImages, Preprocessing, Splits
from supertickets.data.augment import move_images

VARY = AugmentSettings(shift=1.0, rotate=10.0, scale=0.1)
PLAIN = AugmentSettings()
SIXTEEN = DataSettings(batch=16)


def image_set(count: int, seed: int) -> InMemoryImages:
    """Random images whose label is their position."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return InMemoryImages(images, torch.arange(count))


@pytest.fixture(scope="module")
def splits() -> Splits:
    how = Preprocessing(1, (8, 8), (0.3,), (0.5,))
    return Splits(image_set(151, 0), image_set(70, 1), image_set(601, 2), tuple(map(str, range(700))), how)


def same(a: list[tuple[Tensor, Tensor]], b: list[tuple[Tensor, Tensor]]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) and torch.equal(k, m) for (x, k), (y, m) in zip(a, b, strict=True)
    )


def test_preprocessing_is_scaling_and_normalisation() -> None:
    how = Preprocessing(2, (1, 2), (0.5, 0.25), (0.5, 2.0))
    pixels = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)
    expected = [[[[-1.0, 1.0]], [[(0.2 - 0.25) / 2, (0.4 - 0.25) / 2]]]]
    assert how(pixels).tolist() == pytest.approx(np.array(expected))
    assert how(pixels).dtype == torch.float32


def test_the_middle_of_images_in_memory_is_evaluated_and_all_of_them_is_trained_on(splits: Splits) -> None:
    how = replace(splits.preprocessing, fit="crop", share=0.5, resample="bicubic")
    index = np.array([3, 0], dtype=np.int64)
    images, labels = splits.test.batch(index, how, None)
    middle = splits.test.images[3, :, 2:6, 2:6]  # 4 of 8 pixels, in the middle of each side
    enlarged = Image.fromarray(middle[0].numpy()).resize((8, 8), Image.Resampling.BICUBIC)
    inner = images[0, :, 2:-2, 2:-2]  # at its edge the filter sees what lies beside the middle
    expected = how(torch.from_numpy(np.array(enlarged))[None, None])[0, :, 2:-2, 2:-2]
    assert torch.allclose(inner, expected, atol=0.1)
    assert labels.tolist() == [3, 0]
    trained, labels = next(iter(Batches(replace(splits, preprocessing=how), SIXTEEN, PLAIN, seed=5).train(0)))
    assert torch.equal(trained, how(splits.train.images)[labels])
    assert len(splits.test.batch(index[:0], how, None)[0]) == 0


def test_an_epoch_has_every_sample_once_but_for_the_rest(splits: Splits) -> None:
    batches = Batches(splits, SIXTEEN, VARY, seed=5)
    assert batches.steps_per_epoch == 9
    epoch = list(batches.train(0))
    assert [len(labels) for _, labels in epoch] == [16] * 9
    seen = torch.cat([labels for _, labels in epoch]).tolist()
    assert len(set(seen)) == len(seen) == 144


def test_the_order_is_a_function_of_seed_and_epoch(splits: Splits) -> None:
    batches = Batches(splits, SIXTEEN, VARY, seed=5)
    first = list(batches.train(0))
    assert same(first, list(batches.train(0)))
    for other in (batches.train(1), Batches(splits, SIXTEEN, VARY, seed=6).train(0)):
        assert not torch.equal(next(other)[1], first[0][1])


@pytest.mark.parametrize("skip", [0, 4])
def test_workers_change_nothing(splits: Splits, skip: int) -> None:
    alone = Batches(splits, SIXTEEN, VARY, seed=5)
    helped = Batches(splits, replace(SIXTEEN, workers=2), VARY, seed=5)
    assert same(list(alone.train(2, skip)), list(helped.train(2, skip)))


@pytest.mark.parametrize("skip", [1, 3, 8, 9])
def test_skipping_gives_the_tail(splits: Splits, skip: int) -> None:
    batches = Batches(splits, SIXTEEN, VARY, seed=5)
    assert same(list(batches.train(3, skip)), list(batches.train(3))[skip:])


@pytest.mark.parametrize("world", [2, 4])
def test_the_shares_of_processes_interleave_to_the_whole_batch(splits: Splits, world: int) -> None:
    whole = list(Batches(splits, SIXTEEN, VARY, seed=5).train(1))
    shares = [list(Batches(splits, SIXTEEN, VARY, 5, rank, world).train(1)) for rank in range(world)]
    for step, (images, labels) in enumerate(whole):
        for rank in range(world):
            assert torch.equal(shares[rank][step][0], images[rank::world])
            assert torch.equal(shares[rank][step][1], labels[rank::world])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_has_every_sample_exactly_once_as_it_is(splits: Splits, world: int) -> None:
    shares = [list(Batches(splits, SIXTEEN, VARY, 5, rank, world).evaluation(splits.test)) for rank in range(world)]
    images = torch.cat([images for share in shares for images, _ in share])
    labels = torch.cat([labels for share in shares for _, labels in share])
    assert sorted(labels.tolist()) == list(range(601))
    assert torch.equal(images, splits.preprocessing(splits.test.images)[labels])


@pytest.mark.parametrize("world", [1, 2])
def test_judging_goes_through_the_validation_split_again_and_again(splits: Splits, world: int) -> None:
    """In random orders, as they are; every process has others, and resuming goes on behind those judged."""
    size, known = 20, sorted(label for _, labels in of(splits, 0, 1).evaluation(splits.validation) for label in labels)
    shares = [list(of(splits, rank, world).search_eval_batches(0, size, networks=2)) for rank in range(world)]
    steps = of(splits, 0, 1).steps_per_epoch
    assert [len(share) for share in shares] == [2 * steps] * world
    rows = [[labels.tolist() for _, labels in share] for share in shares]
    seen = [label for i in range(steps) for row in rows for labels in row[2 * i : 2 * i + 2] for label in labels]
    whole = [seen[i : i + len(known)] for i in range(0, len(seen) - len(known) + 1, len(known))]
    assert len(seen) == 2 * steps * size * world
    assert len(whole) >= 1
    assert all(sorted(part) == known for part in whole)
    assert seen[: len(known)] != next(iter(of(splits, 0, 1).search_eval_batches(1, len(known))))[1].tolist()
    images, labels = shares[0][0]
    assert isinstance(splits.validation, InMemoryImages)
    assert torch.equal(images, splits.preprocessing(splits.validation.images)[labels])
    assert same(list(of(splits, 0, world).search_eval_batches(0, size, 2, skip=2)), shares[0][4:])


def of(splits: Splits, rank: int, world: int) -> Batches:
    return Batches(splits, SIXTEEN, VARY, 5, rank, world)


def test_evaluation_leaves_processes_beyond_the_data_with_nothing(splits: Splits) -> None:
    few = splits.test.subset(np.arange(2))
    shares = [list(Batches(splits, SIXTEEN, VARY, 5, rank, 3).evaluation(few)) for rank in range(3)]
    assert [sum(len(labels) for _, labels in share) for share in shares] == [1, 1, 0]


def test_calibration_is_augmented_training_data_in_an_order_of_its_own(splits: Splits) -> None:
    batches = Batches(splits, SIXTEEN, VARY, seed=5)
    images, labels = next(batches.calibration(1, count=10))  # 151 samples are one batch of 128
    assert len(set(labels.tolist())) == 128
    assert not torch.equal(images, splits.preprocessing(splits.train.images)[labels])
    assert labels.tolist()[:16] != next(batches.train(1))[1].tolist()
    shares = [next(Batches(splits, SIXTEEN, VARY, 5, rank, 2).calibration(1, 1)) for rank in range(2)]
    assert torch.equal(shares[1][0], images[1::2])


def test_calibration_takes_as_many_batches_as_asked(splits: Splits) -> None:
    big = replace(splits, train=image_set(400, 3))
    assert [len(labels) for _, labels in Batches(big, SIXTEEN, VARY, 5).calibration(1, 2)] == [128, 128]
    once = [images for images, _ in Batches(big, SIXTEEN, PLAIN, 5).calibration(1, 9)]
    assert [len(images) for images in once] == [128] * 3
    often = [images for images, _ in Batches(big, SIXTEEN, VARY, 5).calibration(1, 9)]
    assert [len(images) for images in often] == [128] * 9
    assert not any(torch.equal(often[i], often[j]) for i in range(9) for j in range(i))


def test_augmentation_is_a_function_of_seed_epoch_and_index(splits: Splits) -> None:
    def by_sample(seed: int, epoch: int, rank: int = 0, world: int = 1, batch: int = 16) -> dict[int, Tensor]:
        loaded = Batches(splits, DataSettings(batch=batch), VARY, seed, rank, world).train(epoch)
        return {int(k): image for images, labels in loaded for image, k in zip(images, labels, strict=True)}

    reference = by_sample(5, 0)
    for other in (by_sample(5, 0, batch=50), by_sample(5, 0, rank=1, world=2)):
        shared = reference.keys() & other.keys()
        assert len(shared) > 50
        assert all(torch.equal(reference[k], other[k]) for k in shared)
    for other in (by_sample(5, 1), by_sample(6, 0)):
        shared = reference.keys() & other.keys()
        assert not any(torch.equal(reference[k], other[k]) for k in shared)


def test_without_strength_nothing_is_augmented(splits: Splits) -> None:
    images = splits.preprocessing(splits.train.images)
    random = np.random.default_rng(0).random((len(images), 4), np.float32)
    assert torch.equal(move_images(images, random, PLAIN), images)
    trained, labels = next(Batches(splits, SIXTEEN, PLAIN, 5).train(0))
    assert torch.equal(trained, images[labels])


def test_the_middle_of_every_range_is_the_image_itself(splits: Splits) -> None:
    images = splits.preprocessing(splits.train.images)
    middle = np.full((len(images), 4), 0.5, np.float32)
    assert torch.allclose(move_images(images, middle, VARY), images, atol=1e-5)


@pytest.mark.parametrize(("column", "dim"), [(2, 3), (3, 2)])
@pytest.mark.parametrize("whole_pixels", [1, 2])
def test_a_shift_by_hand(column: int, dim: int, whole_pixels: int) -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8)
    random = np.full((1, 4), 0.5, np.float32)
    random[0, column] = 1.0  # the far end of the range
    moved = move_images(image, random, AugmentSettings(shift=whole_pixels))
    source = torch.arange(8).add(whole_pixels).clamp_max(7)  # the border repeats
    assert torch.allclose(moved, image.index_select(dim, source), atol=1e-4)


def test_half_a_pixel_is_the_mean_of_two() -> None:
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    random = np.array([[0.5, 0.5, 1.0, 0.5]], np.float32)
    moved = move_images(image, random, AugmentSettings(shift=0.5))
    assert torch.allclose(moved[..., :-1], (image[..., :-1] + image[..., 1:]) / 2, atol=1e-5)


def test_a_quarter_turn_by_hand() -> None:
    image = torch.arange(128.0).view(2, 1, 8, 8)
    random = np.full((2, 4), 0.5, np.float32)
    random[0, 0], random[1, 0] = 1.0, 0.0
    turned = move_images(image, random, AugmentSettings(rotate=90))
    assert torch.allclose(turned[0], torch.rot90(image[0], 1, (1, 2)), atol=1e-3)
    assert torch.allclose(turned[1], torch.rot90(image[1], -1, (1, 2)), atol=1e-3)


def test_a_change_of_size_by_hand() -> None:
    ramp = (torch.arange(8.0) - 3.5).expand(1, 1, 8, 8)
    random = np.array([[0.5, 1.0, 0.5, 0.5]], np.float32)
    larger = move_images(ramp, random, AugmentSettings(scale=1.0))
    assert torch.allclose(larger, ramp / 2, atol=1e-5)  # twice the size: half the slope


def test_turning_keeps_lengths() -> None:
    """A turn is no shear: what lies on a circle stays on it."""
    axis = torch.arange(33.0) - 16
    radius = (axis[:, None].square() + axis.square()).sqrt()[None, None]
    random = np.array([[1.0, 0.5, 0.5, 0.5]], np.float32)
    turned = move_images(radius, random, AugmentSettings(rotate=math.degrees(0.7)))
    inside = radius < 12
    assert torch.allclose(turned[inside], radius[inside], atol=0.2)
