"""One image file: opened whatever it is, upright, grey or RGB; and how an image becomes a network's input."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from ..config.recipe import DataSettings
from ..errors import UserError
from .geometry import image_matrix, warp_image

_MOST_PIXELS = 170_000_000  # more is taken for a decompression bomb (Pillow itself stops a little above)
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class BrokenImage(UserError):
    """A file that is no readable image."""


@dataclass(frozen=True)
class Preprocessing:
    """The way from an image to a network's input; travels in the ticket.

    Attributes:
        channels: 1 for grey, 3 for RGB.
        size: Height and width of the input, in pixels.
        mean: Per channel, of values in [0, 1].
        std: Per channel.
        fit: "stretch" resizes to ``size``, whatever the shape of the image; "crop" resizes so that the middle
            ``share`` of the image covers it, and cuts that out; "shorter" keeps the shape and makes the shorter side
            ``shorter``, so that inputs have any size (scenes, crowds); "pad" shows the whole image, or the region
            around a box, with black where there is no image (people).
        share: Share of the shorter side that "crop" keeps; share of its region that a box fills ("pad").
        resample: Filter of the resizing, as Pillow does it (antialiased).
        shorter: See ``fit``, in pixels; 0 keeps the size of every image.
    """

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Literal["stretch", "crop", "shorter", "pad"] = "stretch"
    share: float = 1.0
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    shorter: int = 0

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """uint8 -> normalised float32."""
        scaled = images_BCHW.to(torch.float32) / 255
        mean = torch.tensor(self.mean).view(-1, 1, 1)
        return (scaled - mean) / torch.tensor(self.std).view(-1, 1, 1)

    def pixels(self, image: Image.Image) -> Tensor:
        """Any image -> uint8 of shape (channels, height, width)."""
        if self.fit == "shorter":
            return self.resize_image(to_tensor(to_channels(image, self.channels)))
        return to_tensor(self.fit_image(image))

    def scale(self, height: int, width: int) -> float:
        """Return the factor that gives the shorter side of an image its length ("shorter")."""
        return self.shorter / min(height, width) if self.shorter else 1.0

    def resize_image(self, image_CHW: Tensor) -> Tensor:
        """Return an image in memory, its shape unchanged, its shorter side as wanted."""
        scale = self.scale(image_CHW.shape[1], image_CHW.shape[2])
        size = [max(1, round(side * scale)) for side in image_CHW.shape[-2:]]
        return TF.resize(image_CHW, size, antialias=True)

    def fit_image(self, image: Image.Image) -> Image.Image:
        """Any image -> grey or RGB of the input's size."""
        height, width = self.size
        image = to_channels(image, self.channels)
        if self.fit == "pad":
            return warp_image(image, image_matrix(image.size, self.size), self.size)
        if image.size != (width, height) or (self.fit == "crop" and self.share != 1):
            image = image.resize((width, height), _RESAMPLE[self.resample], box=self.shown_region(image))
        return image

    def shown_region(self, image: Image.Image) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what a network sees of an image, in its pixels."""
        if self.fit != "crop":
            return (0, 0, *image.size)
        height, width = self.size
        scale = max(height / image.height, width / image.width) / self.share
        low_y, low_x = (image.height - height / scale) / 2, (image.width - width / scale) / 2
        return (low_x, low_y, image.width - low_x, image.height - low_y)


def override_preprocessing(plain: Preprocessing, settings: DataSettings) -> Preprocessing:
    """Return the preprocessing of a reader, with what the settings say of it instead.

    Raises:
        UserError: The settings have other channels than the images.
    """
    share, resample = settings.crop_share, settings.resample
    if settings.mean is not None and len(settings.mean) != plain.channels:
        raise UserError(f"data.mean has {len(settings.mean)} values, the images have {plain.channels} channels")
    return replace(
        plain,
        mean=plain.mean if settings.mean is None else settings.mean,
        std=plain.std if settings.std is None else settings.std,
        # Images in memory are evaluated whole, as they were read.
        share=share if share is not None and plain.fit == "crop" and plain.share < 1 else plain.share,
        resample=resample if resample is not None and plain.share < 1 else plain.resample,
    )


def with_normalisation(plain: Preprocessing, images_CHW: Iterable[Tensor]) -> Preprocessing:
    """Return the preprocessing with mean and deviation over the pixels of some images, uint8 of any sizes."""
    values = torch.cat([plain(image[None]).flatten(2) for image in images_CHW], 2)
    mean, std = values.mean((0, 2)), values.std((0, 2), correction=0).clamp_min(1e-3)
    return replace(plain, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def to_tensor(image: Image.Image) -> Tensor:
    """Grey or RGB image -> uint8 of shape (C, H, W)."""
    pixels = np.array(image, dtype=np.uint8).reshape(image.height, image.width, -1)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def open_image(path: Path, shorter: int | None = None, *, upright: bool = True) -> Image.Image:
    """Read an image, turned upright by its EXIF data.

    Args:
        path: A file of any format that Pillow knows.
        shorter: If given, a JPEG is decoded no larger than needed for this shorter side, which is many times faster.
        upright: Whether it is turned at all.

    Raises:
        BrokenImage: The file is missing, truncated, too large or no image.
    """
    with _open_file(path) as image:
        if shorter is not None:
            image.draft(None, (shorter, shorter))
        image.load()
        return ImageOps.exif_transpose(image) if upright else image.copy()


def stored_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image as it is stored, without reading its pixels.

    Raises:
        BrokenImage: As `open_image`, as far as the head of the file tells.
    """
    with _open_file(path) as image:
        return image.size


@contextlib.contextmanager
def _open_file(path: Path) -> Iterator[Image.Image]:
    """Return a file as an image whose pixels are still to be read; what goes wrong with it is told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about large images and odd metadata
            with Image.open(path) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels are too many")
                yield image
    except FileNotFoundError:
        raise BrokenImage(f"image {path} does not exist") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        why = "no image format is known for it" if isinstance(error, UnidentifiedImageError) else str(error)
        raise BrokenImage(f"{path} is not a readable image ({why})") from None


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Any mode -> "L" or "RGB": 16-bit values are scaled, transparency is laid on white."""
    wanted = "L" if channels == 1 else "RGB"
    if image.mode == wanted and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        image = Image.fromarray((values / _full_scale(image, values)).clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode in ("LAB", "HSV", "YCbCr"):  # Pillow turns some of these into RGB alone
        image = image.convert("RGB")
    return image.convert(wanted)


def shrink(image: Image.Image, shorter: int) -> Image.Image:
    """Make an image small enough to keep: its shorter side at most ``shorter``, its shape unchanged."""
    scale = shorter / min(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _full_scale(image: Image.Image, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Return what to divide 16-bit, 32-bit and floating-point values by to get [0, 255]."""
    if image.mode == "F" and values.size and values.max() <= 1:
        return 1 / 255
    return 257.0 if image.mode.startswith("I;16") or (values.size and values.max() > 255) else 1.0
