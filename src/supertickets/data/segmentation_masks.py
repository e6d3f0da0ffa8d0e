"""Scenes: images with a class for every pixel, put together from files, and how one of them is read."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import UserError
from .file_lists import Files, count_noun, relative_to_root, shorten_list
from .preprocessing import BrokenImage, open_file, open_fitting, stored_size, to_channels

IGNORED = 255  # class index of pixels that neither teach nor count

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

_NUMBERS = ("1", "L", "P", "I", "I;16", "I;16B")  # modes whose pixels are one number each
_PALETTES = 16  # differing palettes that are compared, a mask each


class BadMask(UserError):
    """A mask that does not belong to its image or its classes; unlike a broken file it is never left out."""


@dataclass(frozen=True)
class Scene:
    """An image and the mask that tells the class of each of its pixels, in files."""

    image: Path
    mask: Path

    @property
    def thread_safe(self) -> bool:
        """Return whether scenes may be read by several threads."""
        return True

    def read(self, layout: Layout) -> tuple[Image.Image, Bytes]:
        """Return the image, RGB, and its class indices; see `read_scene`."""
        return read_scene(self, layout)

    def mask_size(self) -> tuple[int, int]:
        """Return width and height of the mask without reading it; 0 if it cannot be opened."""
        with contextlib.suppress(BrokenImage):
            return stored_size(self.mask)
        return 0, 0

    def key(self) -> str:
        """Return the name of the image, for a digest; what is in the files is not looked at."""
        return f"{self.image.parent.name}/{self.image.name}"


@dataclass(frozen=True, eq=False)
class Layout:
    """A data set of scenes, as found on disk; no image has been opened yet.

    Attributes:
        classes: Names of the class indices.
        colors: RGB of every class, for painting.
        lookup: uint8, shape (256,): stored label -> class index, or `IGNORED`.
        known: bool, shape (256,): which stored labels may occur; all others are refused.
        parts: The scenes of every split ("train", "val", "test"; "all" if there are no splits), sorted.
        notes: What a person should know about how the data was found, a line each.
        as_stored: Whether masks were drawn on images as they are stored, where both fit; see `drawn_as_stored`.
    """

    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    lookup: Bytes
    known: Flags
    parts: Mapping[str, tuple[Scene, ...]]
    notes: tuple[str, ...] = ()
    as_stored: bool = False


def match_scenes(
    root: Path, images: Mapping[str, Files], masks: Mapping[str, Files], like: str, notes: list[str]
) -> dict[str, tuple[Scene, ...]]:
    """Put images and masks together, split by split; splits without images are left out.

    Args:
        root: The data folder.
        images: The images of every split, by what they have in common with their masks.
        masks: The masks of every split, likewise.
        like: Where a mask should be, for the error.
        notes: What a person should know is added here.

    Raises:
        UserError: An image has no mask, or there are no images.
    """
    alone = [path for split, files in images.items() for key, path in files.items() if key not in masks[split]]
    if alone:
        some = relative_to_root(root, (path for files in masks.values() for path in files.values()))
        there = f"there are {count_noun(len(some), 'mask')}, such as {some[0]}" if some else "there are no masks at all"
        raise UserError(
            f"{root} has {count_noun(len(alone), 'image')} without a mask: "
            f"{shorten_list(relative_to_root(root, alone))} ({there}); "
            f"add masks like {like}, or remove the images"
        )
    if not any(images.values()):
        raise UserError(f"{root} has folders for images but none in them; put images there, with masks like {like}")
    parts: dict[str, tuple[Scene, ...]] = {}
    for split, files in images.items():
        note_orphans(root, masks[split], files, notes)
        if files:
            parts[split] = tuple(Scene(files[key], masks[split][key]) for key in sorted(files))
        else:
            notes.append(f"the {split} part of {root} has no images; it is left out")
    notes.append(", ".join(f"{len(scenes)} {split}" for split, scenes in parts.items()) + " images with masks")
    return parts


def note_orphans(root: Path, masks: Files, images: Files, notes: list[str]) -> None:
    """Add a note about masks that have no image."""
    if orphans := [path for key, path in masks.items() if key not in images]:
        notes.append(
            f"{root} has {count_noun(len(orphans), 'mask')} without an image, left out: "
            f"{shorten_list(relative_to_root(root, orphans))}"
        )


def read_scene(scene: Scene, layout: Layout) -> tuple[Image.Image, Bytes]:
    """Read an image and its mask, in the same orientation.

    An image is turned upright by its EXIF data, or not, as its set has it; and the other way if only that fits.

    Args:
        scene: The files.
        layout: What the labels mean, and how masks lie on their images.

    Returns:
        The image, RGB, and its class indices, uint8 of shape (H, W).

    Raises:
        BrokenImage: A file cannot be read.
        BadMask: The sizes differ, or the mask holds something else than known labels.
    """
    mask = read_mask(scene.mask, layout.lookup, layout.known)
    height, width = mask.shape
    pil_image = to_channels(open_fitting(scene.image, (width, height), upright=not layout.as_stored), 3)
    if pil_image.size == (width, height):
        return pil_image, mask
    raise BadMask(
        f"{scene.image} is {pil_image.width} x {pil_image.height} pixels "
        f"but its mask {scene.mask} is {width} x {height}; "
        "resize the mask to the image, taking the nearest label"
    )


def check_palettes(masks: Sequence[Path]) -> None:
    """Check that masks with palettes mean the same by their numbers.

    Numbers alone are read, so a mask whose palette was made for it alone, as drawing programs do, has others than the
    rest.

    Raises:
        BadMask: A number has two colours, or a colour two numbers.
    """
    first = dict[bytes, Path]()
    for path in masks:
        with contextlib.suppress(BrokenImage), open_file(path) as image:
            if image.mode == "P" and image.palette is not None:
                first.setdefault(bytes(image.palette.palette), path)
    colors = dict[int, tuple[tuple[int, ...], Path]]()
    numbers = dict[tuple[int, ...], tuple[int, Path]]()
    for palette, path in list(first.items())[:_PALETTES] if len(first) > 1 else []:
        with contextlib.suppress(BrokenImage):
            for number in np.unique(stored_labels(path)).tolist():
                color = tuple(palette[3 * number : 3 * number + 3])
                known, where = colors.setdefault(number, (color, path))
                other, there = numbers.setdefault(color, (number, path))
                if known != color:
                    raise BadMask(_palette_error(f"number {number} is {known} in {where} but {color} in {path}"))
                if other != number and there != path:
                    raise BadMask(_palette_error(f"colour {color} is {other} in {there} but {number} in {path}"))


def _palette_error(what: str) -> str:
    return (
        f"palettes of the masks differ: {what}, so their numbers may mean different classes; "
        "write all masks with one palette, or in grey"
    )


def read_mask(path: Path, lookup: Bytes, known: Flags) -> Bytes:
    """Read class indices, uint8 of shape (H, W), from a grey or palette PNG by the numbers that are stored in it.

    Args:
        path: A PNG file of 1 to 16 bits per pixel.
        lookup: See `Layout`.
        known: See `Layout`.

    Raises:
        BrokenImage: The file is missing, truncated or no image.
        BadMask: It holds no class numbers, or an unknown label.
    """
    return look_up_labels(stored_labels(path), lookup, known, f"mask {path}")


def look_up_labels(
    stored: npt.NDArray[np.uint8] | npt.NDArray[np.int32], lookup: Bytes, known: Flags, name: str
) -> Bytes:
    """Return the class indices, uint8 (H, W), of stored labels.

    Args:
        stored: Labels (H, W).
        lookup: See `Layout`.
        known: See `Layout`.
        name: Name of the mask, for the error.

    Raises:
        BadMask: A label is unknown.
    """
    fits = known.take(stored) if stored.dtype == np.uint8 else (stored < 256) & known.take(np.minimum(stored, 255))
    if not fits.all():
        raise BadMask(_unknown_labels_error(name, stored[~fits], known))
    return lookup.take(stored)  # faster than by index


def stored_labels(path: Path) -> npt.NDArray[np.uint8] | npt.NDArray[np.int32]:
    """Return the numbers in a PNG file: indices of a palette stay indices.

    Raises:
        BrokenImage: The file is missing, truncated or no image.
        BadMask: It holds no numbers.
    """
    try:
        with open_file(path) as image:
            form, mode = image.format, image.mode
            if form != "PNG":
                raise BadMask(f"mask {path} is a {form} file; store class numbers as PNG, which keeps them exact")
            if mode not in _NUMBERS:
                raise BadMask(
                    f"mask {path} holds colours ({mode}), a mask must hold class numbers; store one number per "
                    "pixel as an 8-bit grey or palette PNG"
                )
            values = np.asarray(image)
    except BrokenImage as error:
        raise BrokenImage(f"mask {str(error).removeprefix('image ')}; fetch or write it again") from None
    if mode in ("1", "L", "P"):
        # Pillow stretches grey of 2 and 4 bits to [0, 255].
        stretched = {2: 85, 4: 17}.get(_bits(path), 1) if mode == "L" else 1
        return values.astype(np.uint8) // np.uint8(stretched) if stretched > 1 else values.astype(np.uint8)
    return values.astype(np.int32)


def _bits(path: Path) -> int:
    """Return the bits of a number in a PNG file."""
    with path.open("rb") as file:
        return file.read(25)[24]


def _unknown_labels_error(name: str, strange: npt.NDArray[np.integer], known: Flags) -> str:
    labels, counts = np.unique(strange, return_counts=True)
    more = f" and {count_noun(len(labels) - 1, 'more unknown label')}" if len(labels) > 1 else ""
    text = f"{name} holds label {labels[0]} in {count_noun(int(counts[0]), 'pixel')}{more}; known are {_ranges(known)}"
    if labels[0] >= len(known):
        return f"{text}: it looks like numbers of objects, give the mask with numbers of classes"
    return f"{text}: store a known label there, or name or ignore label {labels[0]} where the classes are given"


def _ranges(known: Flags) -> str:
    """Flag -> "0-33, 255"."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8))).reshape(-1, 2)
    return ", ".join(f"{low}-{high - 1}" if high - low > 1 else f"{low}" for low, high in edges.tolist())
