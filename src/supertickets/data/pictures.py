"""One picture file: opened whatever it is, upright, grey or RGB; and how a picture becomes a network's input."""

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

from ..errors import UserError
from .regions import cut_out, picture_matrix

_MOST_PIXELS = 170_000_000  # more is taken for a decompression bomb (Pillow itself stops a little above)
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class BrokenPicture(UserError):
    """A file that is no readable picture."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input; travels in the ticket.

    Attributes:
        channels: 1 for grey, 3 for RGB.
        size: Height and width of the input, in pixels.
        mean: Per channel, of values in [0, 1].
        std: Per channel.
        fit: "stretch" resizes to ``size``, whatever the shape of the picture; "crop" resizes so that the middle
            ``share`` of the picture covers it, and cuts that out; "shorter" keeps the shape and makes the shorter side
            ``shorter``, so that inputs have any size (scenes, crowds); "pad" shows the whole picture, or the region
            around a box, with black where there is no picture (people).
        share: Share of the shorter side that "crop" keeps; share of its region that a box fills ("pad").
        resample: Filter of the resizing, as Pillow does it (antialiased).
        shorter: See ``fit``, in pixels; 0 keeps the size of every picture.
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

    def pixels(self, picture: Image.Image) -> Tensor:
        """Any picture -> uint8 of shape (channels, height, width)."""
        if self.fit == "shorter":
            return self.resized(to_tensor(to_channels(picture, self.channels)))
        return to_tensor(self.fitted(picture))

    def scale(self, height: int, width: int) -> float:
        """The factor that gives the shorter side of a picture its length ("shorter")."""
        return self.shorter / min(height, width) if self.shorter else 1.0

    def resized(self, picture_CHW: Tensor) -> Tensor:
        """A picture in memory, its shape unchanged, its shorter side as wanted."""
        scale = self.scale(picture_CHW.shape[1], picture_CHW.shape[2])
        size = [max(1, round(side * scale)) for side in picture_CHW.shape[-2:]]
        return TF.resize(picture_CHW, size, antialias=True)

    def fitted(self, picture: Image.Image) -> Image.Image:
        """Any picture -> grey or RGB of the input's size."""
        height, width = self.size
        picture = to_channels(picture, self.channels)
        if self.fit == "pad":
            return cut_out(picture, picture_matrix(picture.size, self.size), self.size)
        if picture.size != (width, height) or (self.fit == "crop" and self.share != 1):
            picture = picture.resize((width, height), _RESAMPLE[self.resample], box=self.seen(picture))
        return picture

    def seen(self, picture: Image.Image) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what a network sees of a picture, in its pixels."""
        if self.fit != "crop":
            return (0, 0, *picture.size)
        height, width = self.size
        scale = max(height / picture.height, width / picture.width) / self.share
        low_y, low_x = (picture.height - height / scale) / 2, (picture.width - width / scale) / 2
        return (low_x, low_y, picture.width - low_x, picture.height - low_y)


def measured(plain: Preprocessing, pictures_CHW: Iterable[Tensor]) -> Preprocessing:
    """The preprocessing with mean and deviation over the pixels of some pictures, uint8 of any sizes."""
    values = torch.cat([plain(picture[None]).flatten(2) for picture in pictures_CHW], 2)
    mean, std = values.mean((0, 2)), values.std((0, 2), correction=0).clamp_min(1e-3)
    return replace(plain, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def to_tensor(picture: Image.Image) -> Tensor:
    """Grey or RGB picture -> uint8 of shape (C, H, W)."""
    pixels = np.array(picture, dtype=np.uint8).reshape(picture.height, picture.width, -1)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def open_picture(path: Path, shorter: int | None = None, *, upright: bool = True) -> Image.Image:
    """Reads a picture, turned upright by its EXIF data.

    Args:
        path: A file of any format that Pillow knows.
        shorter: If given, a JPEG is decoded no larger than needed for this shorter side, which is many times faster.
        upright: Whether it is turned at all.

    Raises:
        BrokenPicture: The file is missing, truncated, too large or no picture.
    """
    with _opened(path) as picture:
        if shorter is not None:
            picture.draft(None, (shorter, shorter))
        picture.load()
        return ImageOps.exif_transpose(picture) if upright else picture.copy()


def stored_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as it is stored, without reading its pixels.

    Raises:
        BrokenPicture: As `open_picture`, as far as the head of the file tells.
    """
    with _opened(path) as picture:
        return picture.size


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A file as a picture whose pixels are still to be read; what goes wrong with it is told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about large pictures and odd metadata
            with Image.open(path) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise ValueError(f"{picture.width} x {picture.height} pixels are too many")
                yield picture
    except FileNotFoundError:
        raise BrokenPicture(f"image {path} does not exist") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        why = "no picture format is known for it" if isinstance(error, UnidentifiedImageError) else str(error)
        raise BrokenPicture(f"{path} is not a readable picture ({why})") from None


def to_channels(picture: Image.Image, channels: int) -> Image.Image:
    """Any mode -> "L" or "RGB": 16-bit values are scaled, transparency is laid on white."""
    wanted = "L" if channels == 1 else "RGB"
    if picture.mode == wanted and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        picture = Image.fromarray((values / _full_scale(picture, values)).clip(0, 255).astype(np.uint8))
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if picture.mode in ("LAB", "HSV", "YCbCr"):  # Pillow turns some of these into RGB alone
        picture = picture.convert("RGB")
    return picture.convert(wanted)


def shrink(picture: Image.Image, shorter: int) -> Image.Image:
    """Makes a picture small enough to keep: its shorter side at most ``shorter``, its shape unchanged."""
    scale = shorter / min(picture.size)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _full_scale(picture: Image.Image, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """What to divide 16-bit, 32-bit and floating-point values by to get [0, 255]."""
    if picture.mode == "F" and values.size and values.max() <= 1:
        return 1 / 255
    return 257.0 if picture.mode.startswith("I;16") or (values.size and values.max() > 255) else 1.0
