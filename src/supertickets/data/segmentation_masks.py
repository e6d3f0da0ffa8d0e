"""Scenes: images with a class for every pixel, put together from files, and how one of them is read."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ..errors import UserError
from .file_lists import Files, count_noun, relative_to_root, shorten_list
from .preprocessing import BrokenImage, open_image, to_channels

IGNORED = 255  # class index of pixels that neither teach nor count

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

_NUMBERS = ("1", "L", "P", "I", "I;16", "I;16B")  # modes whose pixels are one number each
_ORIENTATION = 0x0112
# What undoes the turning of an image whose sides change places, by its EXIF orientation.
_BACK = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


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
        return read_scene(self, layout.lookup, layout.known)

    def pixels(self) -> int:
        """Return the number of pixels, without reading them; 0 if the mask cannot be opened."""
        with contextlib.suppress(OSError), Image.open(self.mask) as mask:
            return mask.width * mask.height
        return 0

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
    """

    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    lookup: Bytes
    known: Flags
    parts: Mapping[str, tuple[Scene, ...]]
    notes: tuple[str, ...] = ()


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
        raise UserError(
            f"{root} has {count_noun(len(alone), 'image')} without a mask: "
            f"{shorten_list(relative_to_root(root, alone))}; "
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


def read_scene(scene: Scene, lookup: Bytes, known: Flags) -> tuple[Image.Image, Bytes]:
    """Read an image and its mask, in the same orientation.

    An image is turned upright by its EXIF data, unless its mask only fits the image as stored. Where both fit, as
    with an image upside down, the mask is taken to be upright.

    Args:
        scene: The files.
        lookup: See `Layout`.
        known: See `Layout`.

    Returns:
        The image, RGB, and its class indices, uint8 of shape (H, W).

    Raises:
        BrokenImage: A file cannot be read.
        BadMask: The sizes differ, or the mask holds something else than known labels.
    """
    mask = read_mask(scene.mask, lookup, known)
    pil_image = to_channels(open_image(scene.image), 3)
    height, width = mask.shape
    if pil_image.size == (width, height):
        return pil_image, mask
    if pil_image.size == (height, width) and (back := _BACK.get(_orientation(scene.image))) is not None:
        return pil_image.transpose(back), mask
    raise BadMask(
        f"{scene.image} is {pil_image.width} x {pil_image.height} pixels "
        f"but its mask {scene.mask} is {width} x {height}; "
        "resize the mask to the image, taking the nearest label"
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
    return look_up_labels(_stored_labels(path), lookup, known, f"mask {path}")


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


def _stored_labels(path: Path) -> npt.NDArray[np.uint8] | npt.NDArray[np.int32]:
    """Return the numbers in a PNG file: indices of a palette stay indices."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of Pillow, about large images and odd metadata
            head = file.read(26)
            file.seek(0)
            with Image.open(file) as image:
                form, mode = image.format, image.mode
                if form != "PNG":
                    raise BadMask(f"mask {path} is a {form} file; store class numbers as PNG, which keeps them exact")
                if mode not in _NUMBERS:
                    raise BadMask(
                        f"mask {path} holds colours ({mode}), a mask must hold class numbers; store one number per "
                        "pixel as an 8-bit grey or palette PNG"
                    )
                values = np.asarray(image)
    except FileNotFoundError:
        raise BrokenImage(f"mask {path} does not exist") from None
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        why = "no image format is known for it" if isinstance(error, UnidentifiedImageError) else str(error)
        raise BrokenImage(f"mask {path} is not readable ({why}); fetch or write it again") from None
    if mode in ("1", "L", "P"):
        # Pillow stretches grey of 2 and 4 bits to [0, 255]; byte 24 of a PNG file is the number of bits.
        stretched = {2: 85, 4: 17}.get(head[24], 1) if mode == "L" else 1
        return values.astype(np.uint8) // np.uint8(stretched) if stretched > 1 else values.astype(np.uint8)
    return values.astype(np.int32)


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


def _orientation(path: Path) -> int:
    with Image.open(path) as image:
        return int(image.getexif().get(_ORIENTATION, 1))
