"""One image file: opened whatever it is, upright, grey or RGB; and how an image becomes a network's input."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from ..config.recipe import DataSettings
from ..errors import UserError, printable
from .geometry import image_matrix, warp_image

_MOST_PIXELS = 110_000_000  # more is taken for a decompression bomb
_STRIP = 1 << 22  # pixels that are converted at once, so that a large image is not held in several forms
# Formats that are opened: those that images are stored in, and none that runs programs (PostScript, WMF).
FORMATS = (
    *("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000"),
    *(("AVIF",) if importlib.util.find_spec("PIL.AvifImagePlugin") else ()),
)
_OVERSHOOT = 0.05  # share by which values may go beyond their range, as resizing makes them
_ORIENTATION = 0x0112  # entry of EXIF data
_UPRIGHT = {  # what undoes how a camera was held, by the orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STORED = _UPRIGHT | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # and the way back
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

CROP_SHARE = 0.875  # of the shorter side, as has become common (224 of 256 pixels)
_FITS = ("stretch", "crop", "shorter", "pad")
_MOST_INPUTS, _LONGEST = 2**25, 2**13  # pixels of an input, and on its shorter side, that a file may ask for


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

    def check(self, channels: int) -> None:
        """Check values that come from a file.

        Args:
            channels: Channels of the network's input.

        Raises:
            ValueError: One cannot work.
        """
        sides, figures = self.size, (*self.mean, *self.std, self.share)
        if not all(type(number) is int for number in (self.channels, *sides, self.shorter)):
            raise ValueError("a size of the preprocessing is no whole number")
        if self.channels != channels or len(sides) != 2 or not {len(self.mean), len(self.std)} <= {1, channels}:
            raise ValueError(f"the preprocessing is not for {channels} channels")
        if min(sides) < 1 or sides[0] * sides[1] > _MOST_INPUTS or not 0 <= self.shorter <= _LONGEST:
            raise ValueError(f"an input of {sides[0]} x {sides[1]} (shorter {self.shorter}) is out of range")
        if not all(isinstance(figure, int | float) and math.isfinite(figure) for figure in figures):
            raise ValueError("a figure of the preprocessing is no number")
        if not 0 < self.share <= 10 or 0 in self.std or self.resample not in _RESAMPLE or self.fit not in _FITS:
            raise ValueError("the preprocessing is out of range")

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
        # Rounding may make the part that is seen larger than the image, by less than any pixel.
        low_y = max(0.0, (image.height - height / scale) / 2)
        low_x = max(0.0, (image.width - width / scale) / 2)
        return (low_x, low_y, image.width - low_x, image.height - low_y)


def override_preprocessing(plain: Preprocessing, settings: DataSettings) -> Preprocessing:
    """Return the preprocessing of a reader, with what the settings say of it instead.

    Raises:
        UserError: The settings have other channels than the images.
    """
    crops = plain.fit == "crop"  # the other ways show whole images
    share, resample = (settings.crop_share, settings.resample) if crops else (None, None)
    if settings.mean is not None and len(settings.mean) != plain.channels:
        raise UserError(f"data.mean has {len(settings.mean)} values, the images have {plain.channels} channels")
    return replace(
        plain,
        mean=plain.mean if settings.mean is None else settings.mean,
        std=plain.std if settings.std is None else settings.std,
        share=plain.share if share is None else share,
        resample=plain.resample if resample is None else resample,
    )


def with_normalisation(plain: Preprocessing, images_CHW: Iterable[Tensor]) -> Preprocessing:
    """Return the preprocessing with mean and deviation over the pixels of some images.

    The pixels are counted by value, so that none is kept.

    Args:
        plain: The preprocessing.
        images_CHW: uint8 of any sizes; batches of images, (B, C, H, W), are taken as well.
    """
    counts = torch.zeros(plain.channels, 256, dtype=torch.int64)
    for images in images_CHW:
        for channel in range(plain.channels):
            counts[channel] += images[..., channel, :, :].flatten().bincount(minlength=256)
    shares = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ values
    std = (shares * (values - mean[:, None]) ** 2).sum(1).sqrt().clamp_min(1e-3)
    return replace(plain, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def to_tensor(image: Image.Image) -> Tensor:
    """Grey or RGB image -> uint8 of shape (C, H, W)."""
    pixels = np.array(image, dtype=np.uint8).reshape(image.height, image.width, -1)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def open_image(path: Path, shorter: int | None = None, *, upright: bool = True) -> Image.Image:
    """Read an image, turned upright by its EXIF data.

    Args:
        path: A file of one of `FORMATS`.
        shorter: If given, a JPEG is decoded no larger than needed for this shorter side, which is many times faster.
        upright: Whether it is turned; else it is as it is stored.

    Raises:
        BrokenImage: The file is missing, truncated, too large or no image.
    """
    with open_file(path) as image:
        if shorter is not None:
            image.draft(None, (shorter, shorter))
        stored = read_orientation(image)
        image.load()
        check_values(image)
        left = read_orientation(image)  # Pillow turns some formats by itself, and leaves nothing to do
        turn = _UPRIGHT.get(left) if upright else _STORED.get(stored) if left != stored else None
        pixels = image.copy() if turn is None else image.transpose(turn)
        for name in ("exif", "xmp", "XML:com.adobe.xmp"):  # which would turn it again
            pixels.info.pop(name, None)
        return pixels


def open_fitting(path: Path, size: tuple[int, int], *, upright: bool) -> Image.Image:
    """Return an image turned upright, or as it is stored; the other way round if it has a given size only then.

    Args:
        path: The image.
        size: Width and height of what was drawn on it.
        upright: Which of both is preferred.

    Raises:
        BrokenImage: It cannot be read.
    """
    image = open_image(path, upright=upright)
    if image.size != size and (other := open_image(path, upright=not upright)).size == size:
        return other
    return image


def stored_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image as it is stored, without reading its pixels.

    Raises:
        BrokenImage: As `open_image`, as far as the head of the file tells.
    """
    return stored_form(path)[0]


def stored_form(path: Path) -> tuple[tuple[int, int], int]:
    """Return width and height of an image as it is stored, and its orientation, without reading its pixels.

    Raises:
        BrokenImage: As `open_image`, as far as the head of the file tells.
    """
    with open_file(path) as image:
        turn = read_orientation(image)
        turned = turn > 4 and image.format == "TIFF"  # whose size Pillow gives as it will be turned
        return (image.size[::-1] if turned else image.size), turn


def read_orientation(image: Image.Image) -> int:
    """Return the orientation in the EXIF data of an image, from 1 to 8; 1 (as stored) where there is none.

    What else the data hold is not looked at, however odd it is.
    """
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged data may raise anything
        return 1
    return int(value) if value in _UPRIGHT else 1


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Silence what Pillow says about large images and odd metadata.

    What is silenced is one for all threads, so that this changes nothing in a thread beside the main one: who begins
    such threads silences it around them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Image.Image]:
    """Return a file as an image whose pixels are still to be read; what goes wrong with it is told.

    Raises:
        BrokenImage: The file is missing, truncated, too large or no image.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        with without_warnings(), Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many, {_MOST_PIXELS} at most are read")
            yield image
    except UserError:
        raise
    except FileNotFoundError:
        raise BrokenImage(f"image {path} does not exist") from None
    except Exception as error:  # damaged bytes may raise anything
        why = "no image format is known for it" if isinstance(error, UnidentifiedImageError) else _in_one_line(error)
        raise BrokenImage(f"{path} is not a readable image ({why})") from None


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Any mode -> "L" or "RGB": 16-bit values and floats are scaled, transparency is laid on white."""
    if channels not in (1, 3):
        raise UserError(f"an image has 1 or 3 channels, the network takes {channels}; give it tensors")
    wanted = "L" if channels == 1 else "RGB"
    if image.mode == wanted and "transparency" not in image.info:
        return image
    scale = _full_scale(image)
    result = Image.new(wanted, image.size)
    rows = max(1, _STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        result.paste(_convert(part, wanted, scale), (0, top))
    return result


def _convert(image: Image.Image, wanted: str, scale: float) -> Image.Image:
    """Return an image in a mode; see `to_channels`."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        image = Image.fromarray((values / scale).clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode in ("LAB", "HSV", "YCbCr"):  # Pillow turns some of these into RGB alone
        image = image.convert("RGB")
    return image.convert(wanted)


def open_small(path: Path, shorter: int) -> Image.Image:
    """Read an image, RGB, no larger than its shorter side needs: the same wherever it is read."""
    return shrink(to_channels(open_image(path, shorter), 3), shorter)


def shrink(image: Image.Image, shorter: int) -> Image.Image:
    """Make an image small enough to keep: its shorter side at most ``shorter``, its shape unchanged."""
    scale = shorter / min(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def check_values(image: Image.Image) -> None:
    """Check that an image of 32-bit numbers or floats holds what images hold.

    Raises:
        ValueError: Values are negative, above 65535, or no finite numbers.
    """
    if image.mode in ("I", "F") and image.width * image.height:
        low, high = _extremes(image)
        if not (low >= -_OVERSHOOT * high and high <= (1 + _OVERSHOOT) * 65535):  # also where one is no number
            raise ValueError(
                f"it holds values from {low:g} to {high:g}; store 0 to 255, 0 to 65535, or floats from 0 to 1"
            )


def _full_scale(image: Image.Image) -> float:
    """Return what to divide 16-bit, 32-bit and floating-point values by to get [0, 255]; 1 for all others."""
    if image.mode.startswith("I;16"):
        return 257.0
    if image.mode not in ("I", "F") or not image.width * image.height:
        return 1.0
    high = _extremes(image)[1]
    if image.mode == "F" and high <= 1:
        return 1 / 255
    return 257.0 if high > 255 else 1.0


def _extremes(image: Image.Image) -> tuple[float, float]:
    """Return the least and the largest value; NaN if there is one."""
    values = np.asarray(image)
    return float(values.min()), float(values.max())


def _in_one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__
