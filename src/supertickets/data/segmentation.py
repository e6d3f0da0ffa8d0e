"""Scenes as samples of segmentation: kept in memory or read when wanted, cropped at random, evaluated whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TF

from ..config.recipe import AugmentSettings, DataSettings
from ..errors import UserError
from .augment import quarter_turns
from .broken_files import DoesNotFit, Memory, iterate_readable, read_all, read_or_substitute
from .class_names import clean_name, note_missing
from .depth import check_depth
from .file_lists import data_folder, encode_names, relative_to_root, shorten_list
from .mirror_names import describe_sides, pair_names
from .orientation import drawn_as_stored
from .preprocessing import Preprocessing, to_tensor, with_normalisation
from .randomness import sample_indices
from .samples import AugmentContext, Batch, Index, Splits, hash_chunks, height_and_width
from .segmentation_classes import CITYSCAPES
from .segmentation_layouts import read_ade20k, read_cityscapes, read_voc
from .segmentation_masks import IGNORED, BadMask, Layout, Scene, check_palettes
from .segmentation_pairs import read_pairs
from .splits import split_samples

_MEASURED = 64  # scenes that the normalisation is measured on
_LOOKED_AT = 4096  # scenes whose heads are read, for palettes and EXIF data
_TRIES = 10  # for a crop in which no class has too large a share

Pair = tuple[tv_tensors.Image, tv_tensors.Mask]


@dataclass(frozen=True, eq=False)
class SegmentationDataset:
    """Scenes and how their masks are read.

    Attributes:
        scenes: The files.
        layout: What the stored labels mean.
        kept: What was read before; a scene that is not in it is read every time.
        skip: Whether a broken scene gives its place to the next one (training) or does not count (evaluation), instead
            of being refused.
        mirrored: Per class the one that it becomes in a mirrored image, as the left hand becomes the right one.
    """

    scenes: tuple[Scene, ...]
    layout: Layout
    kept: Mapping[Scene, Pair]
    skip: bool
    mirrored: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def images(self) -> tuple[Path, ...]:
        """The image of every scene."""
        return tuple(scene.image for scene in self.scenes)

    @property
    def io_bound(self) -> bool:
        """Scenes are read, or at least resized."""
        return True

    def subset(self, index: Index) -> SegmentationDataset:
        """Return the scenes at some positions."""
        return replace(self, scenes=tuple(self.scenes[i] for i in index))

    def scene(self, position: int) -> Pair:
        """Return image, uint8 (3, H, W), and class indices, uint8 (H, W)."""
        scene = self.scenes[position]
        return self.kept[scene] if scene in self.kept else _read_split(scene, self.layout)

    def batch(self, index: Index, prepare: Preprocessing, context: AugmentContext | None) -> Batch:
        """Inputs, and int64 class indices: (B, H, W) in training, else a list of (H, W), each of its file's size."""
        images, masks = [], []
        if context is None:
            for _, (pil_image, mask) in iterate_readable(self.scene, index, self.skip):
                images.append(prepare(prepare.resize_image(pil_image)[None])[0])
                masks.append(mask.to(torch.int64))
            return torch.stack(images) if images else torch.empty(0, 3, *prepare.size), masks
        for i in index.tolist():
            context.seed_random(5, i)
            pil_image, mask = random_crop(*self.scene_or_substitute(i), prepare, context.settings, self.mirrored)
            image = prepare(pil_image[None])[0]
            # What is missing at the border is the mean colour, and ignored.
            gap = (0, prepare.size[1] - image.shape[2], 0, prepare.size[0] - image.shape[1])
            images.append(F.pad(image, gap))
            masks.append(F.pad(mask.to(torch.int64), gap, value=IGNORED))
        return torch.stack(images), torch.stack(masks)

    def digest(self) -> str:
        """Return a hash of file names; what is in the files is not looked at."""
        return hash_chunks(encode_names(scene.key() for scene in self.scenes))

    def scene_or_substitute(self, position: int) -> Pair:
        """Return a scene; a broken one gives its place to the next that can be read."""
        order = itertools.chain(range(position, len(self)), range(position))
        return read_or_substitute(self.scene, order, self.skip, "scene")


def load_segmentation(settings: DataSettings) -> Splits:
    """Read scenes in the layout of ``data.source``; `split_samples` tells what becomes of its parts.

    Raises:
        UserError: The layout, a mask or the settings do not fit.
    """
    readers: dict[str, Callable[[Path, Sequence[str], Sequence[int]], Layout]] = {
        "cityscapes": read_cityscapes,
        "ade20k": read_ade20k,
        "voc": read_voc,
        "masks": read_pairs,
    }
    root = data_folder(settings, "the folder of the data set")
    layout = readers[settings.source](root, tuple(map(clean_name, settings.class_names)), settings.ignore)
    parts = dict(layout.parts)
    if settings.source == "cityscapes" and layout.classes == tuple(name for _, name, _ in CITYSCAPES):
        parts.pop("test", None)  # its labels are kept back, those of a set with its own classes are not
    scenes = [scene for part in parts.values() for scene in part]
    looked_at = scenes[:: -(-len(scenes) // _LOOKED_AT) or 1]
    check_depth([scene.image for scene in looked_at])
    check_palettes([scene.mask for scene in looked_at])
    notes = list(layout.notes)
    as_stored = drawn_as_stored({scene.image: scene.mask_size() for scene in looked_at}, "masks", notes)
    return split_scenes(replace(layout, notes=tuple(notes), as_stored=as_stored), parts, root, settings)


def split_scenes(layout: Layout, parts: Mapping[str, tuple[Scene, ...]], root: Path, settings: DataSettings) -> Splits:
    """Return the splits of scenes; `split_samples` tells what becomes of their parts.

    Args:
        layout: What the masks mean.
        parts: The scenes that are used.
        root: Folder that messages name files from.
        settings: Size, shares and seeds.

    Raises:
        UserError: A scene or the settings do not fit.
    """
    notes = list(layout.notes)
    height, width = height_and_width(settings, "the crops", [180, 240])
    shorter = settings.shorter or min(height, width)
    everything = [scene for part in parts.values() for scene in part]
    kept = _keep_in_memory(root, everything, layout, settings, notes)
    mirrored, alone = pair_names(layout.classes)
    whole = SegmentationDataset(tuple(everything), layout, kept, settings.broken == "skip", mirrored)
    sets = {
        name: replace(whole, scenes=tuple(s for s in part if _drop_unusable(s, kept))) for name, part in parts.items()
    }
    train, validation, test = split_samples(sets, settings, notes, "scene")
    prepare, counts = _look_at(train, (height, width), shorter)
    check_classes(layout.classes, counts, "mask" if kept else f"mask of {min(len(train), _MEASURED)} looked at", notes)
    notes.append(f"{len(layout.classes)} classes: {', '.join(layout.classes[:20])}")
    notes += describe_sides(layout.classes, mirrored, alone)
    notes.append(f"{len(train)} training, {len(validation)} validation, {len(test)} test scenes")
    notes.append(f"scenes are resized to a shorter side of {shorter} pixels; crops are {width} x {height}")
    return Splits(train, validation, test, layout.classes, prepare, tuple(notes))


def check_classes(classes: Sequence[str], counts: Tensor, what: str, notes: list[str]) -> None:
    """Check that there is more than one class to learn, and name those that do not occur.

    Args:
        classes: Names of the class indices.
        counts: Pixels of every index, int64 (256,), those of `IGNORED` among them.
        what: Noun of what was counted, for the note.
        notes: What a person should know is added here.

    Raises:
        UserError: There is a single class, or none, beside pixels that are ignored.
    """
    seen = counts[: len(classes)].nonzero().flatten().tolist()
    if len(seen) < 2 and counts[IGNORED]:
        share = float(counts[IGNORED] / counts.sum())
        alone = f"class '{classes[seen[0]]}' alone" if seen else "no class"
        raise UserError(
            f"the training masks hold {alone}, all else ({share:.0%} of pixels) is ignored; "
            "store the classes as 0, 1, ...; masks of 0 and 255 with two class names are read as such by data.source "
            "masks with --data.ignore []"
        )
    note_missing(classes, counts[: len(classes)].tolist(), what, notes)


def random_crop(
    image: Tensor, mask: Tensor, prepare: Preprocessing, settings: AugmentSettings, mirrored: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """Turn, resize by a random factor, crop at random, flip and colour; uses PyTorch's own random numbers.

    Only the part that is cropped is resized. A crop in which one class has a share of more than
    ``settings.class_share`` is drawn again, ten times at most. A mirrored mask has the classes of ``mirrored``.

    Returns:
        uint8 (3, h, w) and (h, w), no larger than ``prepare.size``.
    """
    if settings.turn:
        quarters = quarter_turns()
        image, mask = image.rot90(quarters, (1, 2)), mask.rot90(quarters)
    sides = image.shape[1], image.shape[2]
    box, size = crop_sides(sides, prepare, settings)
    for _ in range(_TRIES if settings.class_share < 1 else 1):
        top, left = random_corner(sides, box)
        if largest_share(mask[top : top + box[0], left : left + box[1]]) <= settings.class_share:
            break
    where = slice(top, top + box[0]), slice(left, left + box[1])
    image = TF.resize(image[:, *where], size, antialias=True)
    # A pixel has the label at its centre; torchvision takes that at its corner, half a pixel away from the image.
    mask = F.interpolate(mask[None, None, *where], size, mode="nearest-exact")[0, 0]
    if settings.flip and torch.rand(()) < 0.5:
        image, mask = TF.horizontal_flip(image), TF.horizontal_flip(mask)
        if any(other != i for i, other in enumerate(mirrored)):
            others = torch.arange(256, dtype=torch.uint8)
            others[: len(mirrored)] = torch.tensor(mirrored, dtype=torch.uint8)
            mask = others[mask.long()]
    if settings.photometric:
        image = photometric_distortion(image)
    return image, mask


def crop_sides(
    sides: tuple[int, int], prepare: Preprocessing, settings: AugmentSettings
) -> tuple[tuple[int, int], list[int]]:
    """Return how much of an image a crop shows, and the size that this is resized to, by a random factor.

    Args:
        sides: Height and width of the image.
        prepare: Says what scenes are resized to otherwise, and how large a crop is at most.
        settings: The range of the factor.

    Returns:
        Height and width, of the part and of the crop.
    """
    low, high = settings.resize
    factor = float(torch.empty(()).uniform_(low, high)) * prepare.scale(*sides)
    scaled = max(1, round(sides[0] * factor)), max(1, round(sides[1] * factor))
    size = [min(scaled[0], prepare.size[0]), min(scaled[1], prepare.size[1])]
    return (min(sides[0], round(size[0] / factor)), min(sides[1], round(size[1] / factor))), size


def random_corner(sides: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """Return top and left of a part of an image, anywhere."""
    top, left = (int(torch.randint(whole - part + 1, ())) for whole, part in zip(sides, box, strict=True))
    return top, left


def largest_share(mask: Tensor) -> float:
    """Return share of the most frequent class among pixels that are not ignored; 1 if there are not two classes."""
    counts = torch.bincount(mask.flatten(), minlength=256)[:IGNORED]
    return float(counts.max() / counts.sum()) if int((counts > 0).sum()) > 1 else 1.0


def photometric_distortion(image: Tensor) -> Tensor:
    """Vary brightness, contrast, saturation and hue, each with a chance of one half, as the paper's data pipeline.

    Brightness is an offset of up to 32 and contrast a factor of 0.5 to 1.5 on all values, before or after the two
    others; saturation is a factor of 0.5 to 1.5, hue a turn of up to 18 of 180 steps. Colours never change places.

    Args:
        image: uint8 (3, h, w); PyTorch's own random numbers are used.
    """

    def by_chance(change: Callable[[Tensor, float], Tensor], low: float, high: float) -> None:
        nonlocal image
        if torch.rand(()) < 0.5:
            image = change(image, float(torch.empty(()).uniform_(low, high)))

    by_chance(lambda x, offset: x.to(torch.float32).add_(offset).clamp_(0, 255).to(torch.uint8), -32, 32)
    contrast_first = torch.rand(()) < 0.5
    if contrast_first:
        by_chance(TF.adjust_brightness, 0.5, 1.5)
    by_chance(TF.adjust_saturation, 0.5, 1.5)
    by_chance(TF.adjust_hue, -0.1, 0.1)
    if not contrast_first:
        by_chance(TF.adjust_brightness, 0.5, 1.5)
    return image


def _read_split(scene: Scene, layout: Layout) -> Pair:
    image, mask = scene.read(layout)
    return tv_tensors.Image(to_tensor(image)), tv_tensors.Mask(torch.from_numpy(mask))


def _keep_in_memory(
    root: Path, scenes: list[Scene], layout: Layout, settings: DataSettings, notes: list[str]
) -> dict[Scene, Pair]:
    """Read all scenes that fit into memory; leave broken ones out, or refuse them.

    Raises:
        UserError: There are bad masks, which are looked for in all scenes; or files are broken and refused.
    """
    left = settings.keep_gb * 1e9
    for scene in scenes:
        left -= 4 * math.prod(scene.mask_size())
        if left < 0:
            return {}
    memory = Memory(settings.keep_gb * 1e9)

    def attempt(scene: Scene) -> Pair | BadMask:
        try:
            image, mask = _read_split(scene, layout)
        except BadMask as error:
            return error
        memory.take(image.nbytes + mask.nbytes)
        return image, mask

    threads = None if all(scene.thread_safe for scene in scenes) else 1
    try:
        samples = read_all(scenes, attempt, settings, notes, threads)
    except DoesNotFit:
        return {}
    bad = {scene.mask: error for scene, error in samples.items() if isinstance(error, BadMask)}
    if bad:
        more = f"; {len(bad)} bad masks in all: {shorten_list(relative_to_root(root, bad))}" if len(bad) > 1 else ""
        raise UserError(f"{next(iter(bad.values()))}{more}")
    return {scene: pair for scene, pair in samples.items() if not isinstance(pair, BadMask)}


def _drop_unusable(scene: Scene, kept: Mapping[Scene, Pair]) -> bool:
    return not kept or scene in kept


def _look_at(train: SegmentationDataset, size: tuple[int, int], shorter: int) -> tuple[Preprocessing, Tensor]:
    """Return the preprocessing, with mean and deviation over some training scenes; and the pixels of every class index.

    Pixels are counted in all scenes that are kept, else in those that the normalisation is measured on.
    """
    plain = Preprocessing(3, size, (0.0,) * 3, (1.0,) * 3, "shorter", shorter=shorter)
    counts = torch.zeros(256, dtype=torch.int64)

    def look(position: int) -> Tensor:
        image, mask = train.scene_or_substitute(position)
        if not train.kept:
            counts.add_(torch.bincount(mask.flatten(), minlength=256))
        return plain.resize_image(image)

    prepare = with_normalisation(plain, (look(i) for i in sample_indices(len(train), _MEASURED)))
    for scene in train.scenes if train.kept else ():
        counts += torch.bincount(train.kept[scene][1].flatten(), minlength=256)
    return prepare, counts
