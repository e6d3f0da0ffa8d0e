"""Crowds: points in ShanghaiTech's layout, crops with their points in register, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from generate_crowds import crowds, write_mat
from supertickets import UserError
from supertickets.config.recipe import AugmentSettings, DataSettings
from supertickets.data import Batches, Preprocessing, load_splits
from supertickets.data.preprocessing import BrokenImage
from supertickets.data.samples import AugmentContext, pad_rows
from supertickets.data.shanghaitech import CrowdDataset, points_to_shares, random_crop
from supertickets.data.shanghaitech_files import adaptive_sigmas, read_points

CELLS = Path(__file__).resolve().parents[2] / "../shared/data/mbm_cells"
ALL = AugmentSettings(resize=(0.5, 2.0), photometric=True, flip=True, turn=True)
PLAIN = Preprocessing(3, (32, 40), (0.0,) * 3, (1.0,) * 3, "shorter")


def settings(root: Path, **more: object) -> DataSettings:
    some = DataSettings(source="shanghaitech", dir=str(root), size=(32, 40), batch=4, validation=0.25)
    return replace(some, **more)  # type: ignore[arg-type]


def refused(root: Path, **more: object) -> str:
    with pytest.raises(UserError) as error:
        load_splits(settings(root, **more))
    assert "\n" not in str(error.value)
    return str(error.value)


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [[[3.5, 7.0], [0.25, 60.0]], [[1, 2]], []])
def test_points_are_read_as_written(points: list[list[float]], tmp_path: Path) -> None:
    write_mat(tmp_path / "GT_IMG_1.mat", points)
    array = read_points(tmp_path / "GT_IMG_1.mat")
    assert array.shape == (len(points), 2)
    assert array.tolist() == points


@pytest.mark.parametrize("truth", ["ground-truth", "ground_truth"])
def test_validation_is_held_out_from_train(truth: str, tmp_path: Path) -> None:
    splits = load_splits(settings(crowds(tmp_path, {"train": 8, "test": 3}, truth)))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [6, 2, 3]
    assert splits.classes == ("density",)
    assert "images are taken as they are; crops are 40 x 32" in splits.notes[-1]
    assert splits.digest() == load_splits(settings(tmp_path)).digest()
    assert splits.digest() != load_splits(settings(tmp_path, split_seed=1)).digest()


def test_a_folder_with_one_part_is_read_as_that_part(tmp_path: Path) -> None:
    crowds(tmp_path / "ShanghaiTech" / "part_A", {"train": 4, "test": 1})
    for root in (tmp_path, tmp_path / "ShanghaiTech", tmp_path / "ShanghaiTech" / "part_A"):
        assert len(load_splits(settings(root)).test) == 1
    crowds(tmp_path / "ShanghaiTech" / "part_B", {"train": 4, "test": 1})
    said = refused(tmp_path / "ShanghaiTech")
    assert "several parts, part_A, part_B" in said


def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert "folder train_data is missing" in refused(tmp_path)
    (tmp_path / "train_data").mkdir()
    assert "has no folder images" in refused(tmp_path)
    (tmp_path / "train_data" / "images").mkdir()
    assert "has no folder ground-truth" in refused(tmp_path)
    assert "data.size is null" in refused(crowds(tmp_path / "other", {"train": 4}), size=None)


def test_an_image_without_points_is_refused(tmp_path: Path) -> None:
    crowds(tmp_path, {"train": 5, "test": 1})
    (tmp_path / "train_data" / "ground-truth" / "GT_IMG_2.mat").unlink()
    assert "1 image without points: images/IMG_2.jpg" in refused(tmp_path)


def test_points_without_an_image_are_noted(tmp_path: Path) -> None:
    crowds(tmp_path, {"train": 5, "test": 1})
    (tmp_path / "train_data" / "images" / "IMG_2.jpg").unlink()
    splits = load_splits(settings(tmp_path))
    assert len(splits.train) + len(splits.validation) == 4
    assert any("1 file of points without an image, left out: ground-truth/GT_IMG_2.mat" in n for n in splits.notes)


def test_damaged_files_are_named_and_left_out_or_refused(tmp_path: Path) -> None:
    crowds(tmp_path, {"train": 9, "test": 1})
    truth, images = tmp_path / "train_data" / "ground-truth", tmp_path / "train_data" / "images"
    whole = (truth / "GT_IMG_1.mat").read_bytes()
    (truth / "GT_IMG_1.mat").write_bytes(whole[: len(whole) // 2])
    (truth / "GT_IMG_2.mat").write_bytes(b"no points at all")
    savemat(truth / "GT_IMG_3.mat", {"points": np.zeros((2, 2))})
    write_mat(truth / "GT_IMG_4.mat", [[np.nan, 2]])
    write_mat(truth / "GT_IMG_5.mat", [[500.0, 2], [3, 4]])
    (images / "IMG_6.jpg").write_bytes(b"no image")
    splits = load_splits(settings(tmp_path))
    assert len(splits.train) + len(splits.validation) == 3
    message = [note for note in splits.notes if note.startswith("left out")]
    assert len(message) == 6
    for name, why in (
        ("GT_IMG_2.mat", "holds no points"),
        ("GT_IMG_3.mat", "image_info"),
        ("GT_IMG_4.mat", "not finite"),
        ("GT_IMG_5.mat", "1 of 2 points outside of IMG_5.jpg"),
        ("IMG_6.jpg", "not a readable image"),
    ):
        assert any(name in note and why in note for note in message)
    assert "6 such in all" in refused(tmp_path, broken="refuse")


def test_version_73_is_reported(tmp_path: Path) -> None:
    """A file whose head says so; the rest is HDF5."""
    path = tmp_path / "GT_IMG_1.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF" + bytes(600))
    with pytest.raises(BrokenImage, match=r"version 7\.3; save it as version 7"):
        read_points(path)


def test_points_outside_are_moved_to_the_border_and_count(tmp_path: Path) -> None:
    crowds(tmp_path, {"train": 4, "test": 1})
    inside = [[float(i), 5.0] for i in range(1, 20)]
    write_mat(tmp_path / "test_data" / "ground-truth" / "GT_IMG_1.mat", [*inside, [-3.0, 9.0]])
    splits = load_splits(settings(tmp_path))
    assert isinstance(splits.test, CrowdDataset)
    (one,) = splits.test.samples
    assert one.points[-1].tolist() == [0.0, 9.0, 4.0, 4.0]
    assert len(one.points) == 20
    assert any("1 point outside the image moved to its border" in note for note in splits.notes)


# Gaussians -----------------------------------------------------------------------------------------------------------


def test_deviations_follow_the_distance_to_neighbours() -> None:
    points = np.array([[0.0, 0.0], [10, 0], [0, 20], [0, -30], [100, 100]])
    assert adaptive_sigmas(points)[0] == pytest.approx(0.3 * (10 + 20 + 30) / 3)
    assert adaptive_sigmas(points[:2]).tolist() == pytest.approx([3, 3])
    assert adaptive_sigmas(points[:1]).tolist() == [15]
    assert adaptive_sigmas(points[:0]).tolist() == []
    assert adaptive_sigmas(np.zeros((4, 2))).tolist() == [1] * 4  # on one place


def test_the_setting_chooses_them(tmp_path: Path) -> None:
    crowds(tmp_path, {"train": 4, "test": 1})
    for sigma in (2.5, None):
        test = load_splits(settings(tmp_path, sigma=sigma)).test
        assert isinstance(test, CrowdDataset)
        points = test.samples[0].points
        wanted = np.full(len(points), sigma) if sigma else adaptive_sigmas(points[:, :2])
        assert np.allclose(points[:, 2], wanted)
        assert np.allclose(points[:, 3], wanted)


# Batches -------------------------------------------------------------------------------------------------------------


def test_points_move_with_their_pixels() -> None:
    """One red pixel in ten of ten; wherever crop and flip put it, its point is at its centre."""
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    image[0, 30:34, 50:54] = 255
    points = np.array([[52.0, 32.0, 4.0, 4.0]])
    seen = flipped = 0
    for seed in range(60):
        torch.manual_seed(seed)
        crop, heads = random_crop(image, points, PLAIN, AugmentSettings(resize=(1.0, 2.0), flip=True, turn=True))
        assert crop.shape == (3, 32, 40)
        red = crop[0].double()
        if len(heads) and red[1:-1, 1:-1].sum() == red.sum() > 0:
            rows, columns = np.mgrid[:32, :40] + 0.5
            weights = red.numpy() / red.sum().item()
            assert heads[0, :2] == pytest.approx([(columns * weights).sum(), (rows * weights).sum()], abs=0.15)
            assert 3.9 < heads[0, 2] < 8.2
            seen += 1
            flipped += heads[0, 0] < 20
        if not len(heads):
            assert red.sum() < 255 * 16 * 4 * 0.8  # its centre is not in it
    assert seen > 10
    assert 0 < flipped < seen


def test_a_crop_of_all_keeps_every_point() -> None:
    image, points = torch.zeros(3, 32, 40, dtype=torch.uint8), np.array([[0, 0, 4, 4], [40, 32, 4, 4], [7, 9, 4, 4]])
    torch.manual_seed(0)
    crop, heads = random_crop(image, points.astype(float), PLAIN, AugmentSettings())
    assert crop.shape == image.shape
    assert heads.tolist() == points.tolist()


def test_small_images_are_filled_up_without_points(tmp_path: Path) -> None:
    splits = load_splits(settings(crowds(tmp_path, {"train": 4, "test": 1}, height=20, width=30)))
    images, points = splits.train.batch(np.arange(2), splits.preprocessing, AugmentContext(AugmentSettings(), 0, 0))
    assert images.shape == (2, 3, 32, 40)
    assert not images[:, :, 30:].any()
    rows = points[points[..., 2] > 0]
    assert rows[:, 0].max() <= 30 / 40
    assert rows[:, 1].max() <= 28 / 32


def test_batches_are_functions_of_seed_and_epoch(tmp_path: Path) -> None:
    some = settings(crowds(tmp_path, {"train": 8, "test": 3}))
    splits = load_splits(some)
    first, again, other = (list(Batches(splits, some, ALL, seed).train(0)) for seed in (0, 0, 1))
    for (images, points), (same_images, same_points) in zip(first, again, strict=True):
        assert images.shape == (4, 3, 32, 40)
        assert points.shape[::2] == (4, 4)
        assert torch.equal(images, same_images)
        assert torch.equal(points, same_points)
    assert not torch.equal(first[0][0], other[0][0])


def test_evaluations_see_whole_images_of_their_own_size(tmp_path: Path) -> None:
    some = settings(crowds(tmp_path, {"train": 8, "test": 3}))
    splits = load_splits(some)
    shapes = []
    for i, (images, points) in enumerate(Batches(splits, some, ALL, 0).evaluation(splits.test)):
        one = splits.test.samples[i]  # type: ignore[attr-defined]
        shapes.append(tuple(images.shape))
        assert images.shape[2:] == one.size[::-1]
        assert points[0][:, :2].numpy() == pytest.approx(one.points[:, :2] / one.size, abs=1e-6)
        assert points[0][:, 2:].numpy() == pytest.approx(np.tile([4.0], (len(one.points), 2)) / one.size, abs=1e-6)
    assert len(set(shapes)) == 3
    small = load_splits(replace(some, shorter=24))
    assert min(next(Batches(small, some, ALL, 0).evaluation(small.test))[0].shape[2:]) == 24


def test_a_large_set_is_read_when_wanted_and_broken_images_give_place(tmp_path: Path) -> None:
    some = settings(crowds(tmp_path, {"train": 4, "test": 2}), keep_gb=0.0)
    kept, read = load_splits(replace(some, keep_gb=2.0)), load_splits(some)
    assert kept.digest() == read.digest()
    for (images, points), (others, marks) in zip(
        Batches(kept, some, ALL, 0).evaluation(kept.test),
        Batches(read, some, ALL, 0).evaluation(read.test),
        strict=True,
    ):
        assert torch.equal(images, others)
        assert torch.equal(points[0], marks[0])
    image = read.test.samples[0].image  # type: ignore[attr-defined]
    image.write_bytes(image.read_bytes()[:400])
    with pytest.warns(UserWarning, match="left out"):
        assert [len(images) for images, _ in Batches(read, some, ALL, 0).evaluation(read.test)] == [0, 1]


def test_rows_of_minus_one_fill_up() -> None:
    points = [points_to_shares(np.array([[8.0, 8, 2, 2]]), (16, 32)), points_to_shares(np.empty((0, 4)), (16, 32))]
    assert pad_rows(points, 4).tolist() == [[[0.5, 0.25, 0.125, 0.0625]], [[-1.0] * 4]]
    assert pad_rows(points[1:], 4).shape == (1, 1, 4)


@pytest.mark.skipif(not CELLS.is_dir(), reason="shared data is absent")
def test_cells_are_read() -> None:
    splits = load_splits(settings(CELLS))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [25, 8, 11]
    assert isinstance(splits.test, CrowdDataset)
    assert np.mean([len(one.points) for one in splits.test.samples]) == pytest.approx(122.6, abs=0.1)
    assert {one.size for one in splits.test.samples} == {(300, 300)}


def test_an_image_may_be_stored_on_its_side(tmp_path: Path) -> None:
    """Points are those of the image as it is stored, as MATLAB reads it."""
    crowds(tmp_path, {"train": 4, "test": 1})
    path = tmp_path / "test_data" / "images" / "IMG_1.jpg"
    with Image.open(path) as image:
        size, exif = image.size, image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif.tobytes())
    splits = load_splits(settings(tmp_path))
    ((images, _),) = Batches(splits, settings(tmp_path), ALL, 0).evaluation(splits.test)
    assert tuple(images.shape[2:]) == size[::-1]
