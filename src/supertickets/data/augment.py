"""Random changes of training samples: glyphs move as a batch; images are cropped, flipped, coloured one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from ..config.recipe import AugmentSettings


def photo_transform(settings: AugmentSettings, size: tuple[int, int]) -> Callable[[Image.Image], Image.Image] | None:
    """Return the random changes of one image, in PyTorch's own random numbers; None if there are none.

    TensorFlow's recipe: a crop of random area and shape resized to ``size`` (bicubic), a flip, colours; or RandAugment.
    """
    steps: list[Callable[[Image.Image], Image.Image]] = []
    if settings.turn:
        keeps_size = settings.crop == 1 and size[0] != size[1]  # half turns alone
        steps.append(lambda image: turn_image(image, quarter_turns(2 if keeps_size else 1)))
    if settings.crop < 1:
        bicubic = v2.InterpolationMode.BICUBIC
        steps.append(v2.RandomResizedCrop(size, scale=(settings.crop, 1.0), interpolation=bicubic))
    if settings.flip:
        steps.append(v2.RandomHorizontalFlip())
    if settings.randaugment:
        steps.append(v2.RandAugment(num_ops=2, magnitude=settings.randaugment))
    if settings.jitter:
        steps.append(v2.ColorJitter(settings.jitter, settings.jitter, settings.jitter))
    return v2.Compose(steps) if steps else None


def quarter_turns(step: int = 1) -> int:
    """Return a random number of quarter turns, a multiple of a step; uses PyTorch's own random numbers."""
    return step * int(torch.randint(4 // step, ()))


def turn_image(image: Image.Image, quarters: int) -> Image.Image:
    """Return an image turned counterclockwise by quarter turns."""
    turns = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    turn = turns[quarters % 4]
    return image if turn is None else image.transpose(turn)


def mix_samples(
    images_BCHW: Tensor, labels_B: Tensor, classes: int, settings: AugmentSettings
) -> tuple[Tensor, Tensor]:
    """Mix every sample with another (mixup, cutmix, or one of the two by chance); labels become (B, classes)."""
    ways: list[v2.Transform] = []
    if settings.mixup:
        ways.append(v2.MixUp(alpha=settings.mixup, num_classes=classes))
    if settings.cutmix:
        ways.append(v2.CutMix(alpha=settings.cutmix, num_classes=classes))
    images, labels = (v2.RandomChoice(ways) if len(ways) > 1 else ways[0])(images_BCHW, labels_B)
    return images, labels


def crop_padded(images_BCHW: Tensor, random_B2: npt.NDArray[np.float32], padding: int) -> Tensor:
    """Pad images by their borders, and crop each back to its size at a random place (x, y)."""
    height, width = images_BCHW.shape[-2:]
    padded = F.pad(images_BCHW, (padding,) * 4, mode="replicate")
    corners = torch.from_numpy((random_B2 * (2 * padding + 1)).astype(np.int64)).clamp(max=2 * padding)
    columns = corners[:, :1] + torch.arange(width)
    rows = corners[:, 1:] + torch.arange(height)
    each = torch.arange(len(padded))[:, None, None]
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def move_images(images_BCHW: Tensor, random_B4: npt.NDArray[np.float32], settings: AugmentSettings) -> Tensor:
    """Rotate, scale and shift each image by its own random numbers in [0, 1); borders repeat.

    Whole pixels alone are shifted by whole pixels, as random crops of a padded image are: no value is mixed.
    """
    if not (settings.rotate or settings.scale or settings.shift):
        return images_BCHW
    if not (settings.rotate or settings.scale) and settings.shift == int(settings.shift):
        return crop_padded(images_BCHW, random_B4[:, 2:], int(settings.shift))
    height, width = images_BCHW.shape[-2:]
    signed = torch.from_numpy(random_B4) * 2 - 1
    angle = signed[:, 0] * math.radians(settings.rotate)
    zoom = 1 + signed[:, 1] * settings.scale
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    move_x = signed[:, 2] * settings.shift * 2 / width
    move_y = signed[:, 3] * settings.shift * 2 / height
    # Places are shares of height and width, so that a turn of an oblong image has to go between them.
    row_x = torch.stack((cos, -sin * (height / width), move_x), 1)
    row_y = torch.stack((sin * (width / height), cos, move_y), 1)
    theta = torch.stack((row_x, row_y), 1)
    grid = F.affine_grid(theta, list(images_BCHW.shape), align_corners=False)
    return F.grid_sample(images_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)
