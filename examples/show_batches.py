"""Draw a batch as training sees it, after augmentation, to see whether masks, joints and labels fit their images.

Use: python examples/show_batches.py RECIPE --data DIR --out FILE.png [--any.setting VALUE]

Scenes are shown plain and, below, under the colours of their classes (what is ignored stays plain); people with their
marked joints and limbs, orange on their left and blue on their right; objects with their boxes and classes; crowds
plain and, below, with a dot for every point; all others with their label.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from supertickets import Recipe, UserError, load_recipe
from supertickets.data import Batches, Splits, load_splits
from supertickets.data.segmentation_classes import class_colors
from supertickets.tasks.drawing import draw_boxes, draw_skeletons, tint_mask

SHOWN, COLUMNS = 12, 4  # images of a batch, and in a row
SIDE, GAP, LINE = 240, 8, 20  # longer side of an image, and height of a line of text, in pixels
INK = "#1f2933"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw a batch as training sees it.", allow_abbrev=False)
    parser.add_argument("recipe", metavar="RECIPE", help="a shipped name or a YAML file")
    parser.add_argument("--data", metavar="DIR", help="folder with the data set")
    parser.add_argument("--out", metavar="FILE.png", type=Path, required=True)
    options, settings = parser.parse_known_args(arguments)
    try:
        recipe = load_recipe(options.recipe, [*settings, *(["--data.dir", options.data] if options.data else [])])
        splits = load_splits(recipe.data)
        pixels, targets = first_batch(recipe, splits)
        tiles = [tile(recipe.task, splits, *pair) for pair in zip(pixels[:SHOWN], targets[:SHOWN], strict=True)]
        sheet = page(tiles, legend(splits, targets[:SHOWN]) if recipe.task == "segmentation" else [])
        save(sheet, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.out}: {len(tiles)} of a batch of {len(pixels)}")
    return 0


def first_batch(recipe: Recipe, splits: Splits) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 (B, C, H, W), and targets of a run's first training batch."""
    settings = dataclasses.replace(recipe.data, workers=0, batch=min(recipe.data.batch, len(splits.train)))
    images, targets = next(Batches(splits, settings, recipe.augment, recipe.seed).train(0))
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (splits.preprocessing.mean, splits.preprocessing.std))
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8), targets


def tile(task: str, splits: Splits, pixels: Tensor, target: Tensor) -> Image.Image:
    """Draw one image with its target."""
    image = Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).numpy())
    scale = SIDE / max(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    image = image.resize((width, height), Image.Resampling.BOX)  # so that pixels are seen
    if task == "pose":  # joints are in shares of the image
        joints = target.numpy() * [width, height, 1] - [0.5, 0.5, 0]
        return draw_skeletons(image, [joints], splits.classes, splits.limbs, at_least=0.5)
    if task == "detection":  # boxes likewise
        colors = dict(zip(splits.classes, class_colors(splits.classes), strict=True))
        rows = [(splits.classes[int(kind)], place) for kind, *place in target.tolist() if kind >= 0]
        boxes = [(name, (x * width, y * height, (r - x) * width, (d - y) * height)) for name, (x, y, r, d) in rows]
        return draw_boxes(image, [(name, 1.0, box) for name, box in boxes], colors)
    dense = task in ("segmentation", "counting")
    sheet = Image.new("RGB", (width, height + (height if dense else LINE)), "white")
    sheet.paste(image, (0, 0))
    if task == "segmentation":
        colors = np.array(class_colors(splits.classes), np.uint8)
        sheet.paste(tint_mask(image, target.numpy().astype(np.uint8), colors), (0, height))
    elif task == "counting":  # points are in shares of the image
        sheet.paste(dotted(image, target.numpy()), (0, height))
    else:
        write(sheet, (0, height + 2), label(splits.classes, target))
    return sheet


def dotted(image: Image.Image, points: np.ndarray) -> Image.Image:
    """Draw the image with a dot for every point."""
    image, radius = image.copy(), 1.5
    for x, y in points[points[:, 2] > 0, :2] * image.size:
        ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill="#e8472b")
    return image


def label(classes: Sequence[str], target: Tensor) -> str:
    """Return the class; of mixed images the classes and their shares."""
    if target.ndim == 0:
        return classes[int(target)]
    shares = sorted(zip(target.tolist(), classes, strict=True), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in shares if share >= 0.005)


def legend(splits: Splits, masks: Tensor) -> list[Image.Image]:
    """Return the colour and the name of every class that occurs."""
    colors, entries = class_colors(splits.classes), []
    for index in masks.unique().tolist():
        if index < len(colors):
            entry = Image.new("RGB", (SIDE, LINE), "white")
            ImageDraw.Draw(entry).rectangle((0, 3, 14, 17), fill=colors[index])
            write(entry, (22, 2), splits.classes[index])
            entries.append(entry)
    return entries


def page(tiles: Sequence[Image.Image], entries: Sequence[Image.Image]) -> Image.Image:
    """Compose tiles of one size in rows, and the legend's entries, likewise, below."""
    places, top = [], GAP
    for group in (tiles, entries):
        for i, part in enumerate(group):
            places.append((part, (GAP + i % COLUMNS * (tiles[0].width + GAP), top)))
            if i % COLUMNS == COLUMNS - 1 or i == len(group) - 1:
                top += part.height + GAP
    sheet = Image.new("RGB", (GAP + min(COLUMNS, len(tiles)) * (tiles[0].width + GAP), top), "white")
    for part, place in places:
        sheet.paste(part, place)
    return sheet


def write(sheet: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(sheet).text(place, text, fill=INK, font=ImageFont.load_default(13))


def save(sheet: Image.Image, path: Path) -> None:
    """Write a PNG."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, "PNG")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another --out") from None


if __name__ == "__main__":
    raise SystemExit(main())
