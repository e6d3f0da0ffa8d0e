"""Scenes as samples: crops in register, splits, broken files, digests."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from generate_streets import COLORS, IGNORED_ROWS, published, scene, street
from supertickets import UserError, load_recipe
from supertickets.config.recipe import AugmentSettings, DataSettings
from supertickets.data import Batches, Preprocessing, load_splits
from supertickets.data.preprocessing import BrokenImage
from supertickets.data.segmentation import SegmentationDataset, largest_share, photometric_distortion, random_crop

CAMVID = Path(__file__).resolve().parents[2] / "../shared/data/camvid"
ALL = AugmentSettings(resize=(0.5, 2.0), class_share=0.75, photometric=True, flip=True, turn=True)


def settings(root: Path, **more: object) -> DataSettings:
    some = DataSettings(
        source="masks", dir=str(root), size=(32, 40), class_names=("sky", "road", "tree"), batch=4, shorter=48
    )
    return replace(some, **more)  # type: ignore[arg-type]


def test_train_val_and_test_stay_as_they_are(tmp_path: Path) -> None:
    splits = load_splits(settings(street(tmp_path, {"train": 6, "val": 3, "test": 2})))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [6, 3, 2]
    assert splits.classes == ("sky", "road", "tree")
    assert "crops are 40 x 32" in splits.notes[-1]


def test_of_two_parts_the_second_is_the_test_split(tmp_path: Path) -> None:
    splits = load_splits(settings(street(tmp_path, {"train": 10, "val": 3}), validation=0.2))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [8, 2, 3]


def test_without_parts_shares_are_held_out(tmp_path: Path) -> None:
    street(tmp_path, {"train": 20})
    (tmp_path / "train").rename(tmp_path / "images")
    (tmp_path / "trainannot").rename(tmp_path / "masks")
    splits = load_splits(settings(tmp_path, validation=0.25, test=0.2))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [12, 4, 4]
    parts = (splits.train, splits.validation, splits.test)
    files = {s.image for part in parts for s in part.scenes if isinstance(part, SegmentationDataset)}
    assert len(files) == 20


@pytest.mark.parametrize(
    ("source", "parts", "classes", "named"),
    [
        # Where sky, road and tree are among the classes, and what they are called there; the published masks of
        # Cityscapes' test split tell nothing.
        ("cityscapes", {"train": 10, "val": 3, "test": 2}, 19, {10: "sky", 0: "road", 8: "vegetation"}),
        ("ade20k", {"training": 10, "validation": 3}, 150, {2: "3", 6: "7", 4: "5"}),
        ("voc", {"train": 10, "val": 3}, 21, {0: "background", 7: "car", 16: "pottedplant"}),
    ],
)
def test_published_layouts(
    tmp_path: Path, source: Any, parts: dict[str, int], classes: int, named: dict[int, str]
) -> None:
    root = str(published(tmp_path, source, parts))
    given = DataSettings(source=source, dir=root, size=(32, 40), shorter=48, batch=4, validation=0.2)
    splits = load_splits(given)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [8, 2, 3]
    assert len(splits.classes) == classes
    assert {index: splits.classes[index] for index in named} == named
    batches = Batches(splits, given, ALL, seed=0)
    _, masks = next(batches.train(0))
    assert set(masks.unique().tolist()) <= {*named, 255}
    for number, (images, masks) in enumerate(batches.evaluation(splits.test)):
        image, mask = scene(10 + number + 1)
        wanted = torch.tensor([*named])[torch.from_numpy(mask).long()]
        wanted[-IGNORED_ROWS:] = 255
        assert torch.equal(masks[0], wanted)
        near = splits.preprocessing(torch.from_numpy(image).permute(2, 0, 1)[None])
        assert (images - near).abs().mean() < 0.1  # the image of this mask, but for JPEG


@pytest.mark.parametrize("keep_gb", [0.0, 1.0])
def test_batches_of_training(tmp_path: Path, keep_gb: float) -> None:
    given = settings(street(tmp_path, {"train": 8, "val": 2, "test": 2}), keep_gb=keep_gb)
    splits = load_splits(given)
    images, masks = next(Batches(splits, given, ALL, seed=0).train(0))
    assert (images.shape, images.dtype) == ((4, 3, 32, 40), torch.float32)
    assert (masks.shape, masks.dtype) == ((4, 32, 40), torch.int64)
    assert set(masks.unique().tolist()) <= {0, 1, 2, 255}
    again = next(Batches(splits, given, ALL, seed=0).train(0))
    assert torch.equal(images, again[0])
    assert torch.equal(masks, again[1])
    with_worker = next(Batches(splits, replace(given, workers=1), ALL, seed=0).train(0))
    assert torch.equal(images, with_worker[0])
    other = next(Batches(splits, given, ALL, seed=0).train(1))
    assert not torch.equal(images, other[0])


def test_batches_of_an_evaluation_have_masks_of_their_files(tmp_path: Path) -> None:
    given = settings(street(tmp_path, {"train": 4, "val": 1, "test": 3}), shorter=24)
    splits = load_splits(given)
    batches = list(Batches(splits, given, ALL, seed=0).evaluation(splits.test))
    assert [tuple(images.shape) for images, _ in batches] == [(1, 3, 24, 32)] * 3
    for number, (_, masks) in enumerate(batches):
        assert torch.equal(masks[0], torch.from_numpy(scene(4 + 1 + number + 1)[1]).long())


def test_a_mirrored_mask_swaps_left_and_right() -> None:
    """Columns of classes 0, 1, 2, 2, 1: mirrored 1, 2, 2, 1, 0, where 1 and 2 are the two sides; 255 stays."""
    image = tv_tensors.Image(torch.zeros(3, 4, 6, dtype=torch.uint8))
    mask = tv_tensors.Mask(torch.tensor([[0, 1, 2, 2, 1, 255]] * 4, dtype=torch.uint8))
    prepare = Preprocessing(3, (4, 6), (0.0,) * 3, (1.0,) * 3, "shorter", shorter=4)
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        _, labels = random_crop(image, mask, prepare, AugmentSettings(flip=True), (0, 2, 1))
        seen.add(tuple(labels[0].tolist()))
    assert seen == {(0, 1, 2, 2, 1, 255), (255, 2, 1, 1, 2, 0)}


@pytest.mark.parametrize("seed", range(12))
def test_image_and_mask_stay_in_register(seed: int) -> None:
    """The colour of a pixel tells its class; at borders of classes, resizing mixes colours."""
    image, mask = scene(seed)
    prepare = Preprocessing(3, (32, 40), (0.0,) * 3, (1.0,) * 3, "shorter", shorter=48)
    torch.manual_seed(seed)
    augment = replace(ALL, photometric=False)
    got, labels = random_crop(
        tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)), tv_tensors.Mask(torch.from_numpy(mask)),
        prepare, augment,
    )  # fmt: skip
    nearest = (got.permute(1, 2, 0)[:, :, None].int() - torch.from_numpy(COLORS).int()).abs().sum(-1).argmin(-1)
    assert set(labels.unique().tolist()) <= set(np.unique(mask).tolist())
    assert float((nearest == labels).float().mean()) > 0.9
    # A shift by three pixels is found out.
    if len(labels.unique()) > 1:
        moved = labels.roll((3, 3), (0, 1))
        assert (nearest == labels).sum() > (nearest == moved).sum()


@pytest.mark.parametrize(
    ("side", "wanted"), [(12, [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7]), (8, [*range(8)]), (5, [0, 2, 4, 5, 7])]
)
def test_a_pixel_has_the_label_at_its_centre(side: int, wanted: list[int]) -> None:
    """Column j of 12 has its centre at (j + 0.5) * 8 / 12 of the eight, where the image is taken, too."""
    columns = torch.arange(8, dtype=torch.uint8).expand(8, 8)
    prepare = Preprocessing(3, (side, side), (0.0,) * 3, (1.0,) * 3, "shorter", shorter=side)
    image = tv_tensors.Image((columns * 30).expand(3, 8, 8))
    got, labels = random_crop(image, tv_tensors.Mask(columns), prepare, AugmentSettings())
    assert labels.tolist() == [wanted] * side
    assert (got[0].float() / 30 - labels).abs().max() <= 0.5


def test_small_scenes_are_filled_up_with_the_mean_and_ignored(tmp_path: Path) -> None:
    given = settings(street(tmp_path, {"train": 8, "val": 2, "test": 2}), shorter=24)
    splits = load_splits(given)
    half = AugmentSettings(resize=(0.5, 0.5))
    images, masks = next(Batches(splits, given, half, seed=0).train(0))
    assert (masks[:, 12:] == 255).all()
    assert (masks[:, :, 16:] == 255).all()
    assert (masks[:, :12, :16] != 255).all()
    assert not images[:, :, 12:].any()


def test_crops_of_one_class_are_drawn_again() -> None:
    """A tenth of the image holds two classes; with the limit, most crops hit it."""
    mask = torch.zeros(60, 60, dtype=torch.uint8)
    mask[20:30, 20:30] = 1
    mask[20:30, 20:25] = 2
    image = tv_tensors.Image(torch.zeros(3, 60, 60, dtype=torch.uint8))
    prepare = Preprocessing(3, (16, 16), (0.0,) * 3, (1.0,) * 3, "shorter", shorter=60)

    def share(limit: float) -> float:
        torch.manual_seed(0)
        augment = AugmentSettings(class_share=limit)
        masks = [random_crop(image, tv_tensors.Mask(mask), prepare, augment)[1] for _ in range(200)]
        return sum(largest_share(m) <= 0.75 for m in masks) / len(masks)

    assert 0 < share(1.0) < 0.2
    assert share(0.75) > 4 * share(1.0)


def test_ignored_pixels_have_no_share() -> None:
    assert largest_share(torch.tensor([[0, 1, 255, 255]])) == 0.5
    assert largest_share(torch.tensor([[0, 0, 0, 1]])) == 0.75


@pytest.mark.parametrize("mask", [[[255, 255]], [[255, 3]], [[3, 3]]])
def test_a_crop_without_two_classes_is_drawn_again(mask: list[list[int]]) -> None:
    assert largest_share(torch.tensor(mask)) == 1


def test_distortion_keeps_colours_in_their_places() -> None:
    """A pure red stays redder than green and blue, whatever happens; and nothing happens to one image in sixteen."""
    red = torch.tensor([200, 60, 60], dtype=torch.uint8).view(3, 1, 1).expand(3, 2, 2).clone()
    torch.manual_seed(0)
    colours = torch.stack([photometric_distortion(red)[:, 0, 0] for _ in range(500)]).int()
    assert (colours[:, 0] >= colours[:, 1:].amax(1)).all()
    same = float((colours == red[:, 0, 0].int()).all(1).float().mean())
    assert 0.5**4 / 2 < same < 0.5**4 * 2
    # Offsets by up to 32, then factors of 0.5 to 1.5: red is within (200 - 32) * 0.5 to 255.
    assert colours[:, 0].min() >= 70
    assert colours[:, 0].min() < 120
    assert (red[:, 0, 0] == torch.tensor([200, 60, 60])).all()  # not in place


def test_distortion_of_grey_by_hand() -> None:
    """Saturation and hue do nothing to grey: it is offset by up to 32, and multiplied by 0.5 to 1.5."""
    grey = torch.full((3, 1, 1), 100, dtype=torch.uint8)
    torch.manual_seed(0)
    colours = torch.stack([photometric_distortion(grey)[:, 0, 0] for _ in range(2000)]).int()
    assert (colours.amax(1) - colours.amin(1) <= 1).all()
    assert 32 <= int(colours.min()) < 50  # (100 - 32) * 0.5 = 34
    assert 180 < int(colours.max()) <= 199  # (100 + 32) * 1.5 = 198


@pytest.mark.parametrize("keep_gb", [0.0, 1.0])
def test_broken_scenes(tmp_path: Path, keep_gb: float) -> None:
    street(tmp_path, {"train": 8, "val": 3, "test": 2})
    broken = ("train/003.png", "trainannot/000.png", "valannot/001.png")  # the very first mask among them
    for path in (tmp_path / name for name in broken):
        path.write_bytes(path.read_bytes()[:60])
    given = settings(tmp_path, keep_gb=keep_gb)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splits = load_splits(given)
        batches = Batches(splits, given, ALL, seed=0)
        assert sum(len(masks) for _, masks in batches.evaluation(splits.validation)) == 2
        assert all(len(masks) == 4 for _, masks in batches.train(0))
    refused = replace(given, broken="refuse")

    def train() -> None:
        list(Batches(load_splits(refused), refused, ALL, seed=0).train(0))

    with pytest.raises(BrokenImage if keep_gb == 0 else UserError, match=r"00[03]\.png"):
        train()


def spoil(root: Path, strange: list[str], small: list[str]) -> None:
    """Gives masks a label that no class has, or another size than their images."""
    for name in strange:
        Image.fromarray(np.full((48, 64), 7, np.uint8)).save(root / name)
    for name in small:
        Image.fromarray(np.zeros((24, 32), np.uint8)).save(root / name)


@pytest.mark.parametrize("broken", ["skip", "refuse"])
def test_bad_masks_are_looked_for_in_all_files(tmp_path: Path, broken: str) -> None:
    street(tmp_path, {"train": 8, "val": 3, "test": 2})
    masks = [f"{name}.png" for name in ("trainannot/002", "trainannot/005", "valannot/000", "testannot/001")]
    spoil(tmp_path, masks[:2], masks[2:])
    with pytest.raises(UserError) as error:
        load_splits(settings(tmp_path, broken=broken))
    text = str(error.value)
    assert text.startswith(f"mask {tmp_path}/trainannot/002.png holds label 7 in 3072 pixels; known are 0-2, 255:")
    assert text.endswith("; 4 bad masks in all: testannot/001.png, trainannot/002.png, trainannot/005.png, ...")
    assert "\n" not in text


def test_one_bad_mask_is_not_counted(tmp_path: Path) -> None:
    street(tmp_path, {"train": 8, "val": 3, "test": 2})
    spoil(tmp_path, [], ["valannot/001.png"])
    with pytest.raises(UserError, match=r"valannot/001.png is 32 x 24; resize the mask .* nearest label$"):
        load_splits(settings(tmp_path))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_mask_of_a_set_that_is_not_kept_is_refused_in_one_line(tmp_path: Path, workers: int) -> None:
    given = settings(street(tmp_path, {"train": 8, "val": 3, "test": 2}), keep_gb=0, workers=workers)
    splits = load_splits(given)
    spoil(tmp_path, ["trainannot/003.png"], ["valannot/001.png"])
    batches = Batches(splits, given, ALL, seed=0)
    for read, said in (
        (lambda: batches.train(0), "trainannot/003.png holds label 7"),
        (lambda: batches.evaluation(splits.validation), "valannot/001.png is 32 x 24"),
    ):
        with pytest.raises(UserError, match=said) as error:
            list(read())
        assert "\n" not in str(error.value)


def test_a_part_of_which_nothing_can_be_read_is_named(tmp_path: Path) -> None:
    for path in (street(tmp_path, {"train": 4, "val": 2, "test": 2}) / "valannot").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match="no scene of the val part"):
        load_splits(settings(tmp_path))


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    street(tmp_path, {"train": 4, "val": 1, "test": 1})
    with pytest.raises(UserError, match=r"data\.size is null"):
        load_splits(settings(tmp_path, size=None))
    with pytest.raises(UserError, match="nearest possible is 16 x 40"):
        load_splits(settings(tmp_path, size=(8, 40)))
    with pytest.raises(UserError, match=r"data\.validation"):
        load_splits(settings(street(tmp_path / "two", {"train": 4, "val": 1}), validation=1.0))
    with pytest.raises(UserError, match="made square"):
        load_splits(DataSettings(size=(8, 9)))


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not in ../shared/data")
def test_camvid() -> None:
    given = load_recipe("camvid", ["--data.dir", str(CAMVID)]).data
    splits = load_splits(given)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [367, 101, 233]
    assert len(splits.classes) == 11
