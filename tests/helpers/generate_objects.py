"""Generated images with objects in COCO's layout for boxes: rectangles, whose colour tells the class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("apple", "sky", "grass")
COLORS = ((230, 40, 40), (40, 60, 230), (40, 220, 60))
NUMBERS = (3, 7, 90)  # of the categories, which COCO numbers with gaps


def image_with_boxes(seed: int, width: int = 96, height: int = 64) -> tuple[Image.Image, list[list[float]]]:
    """Return a dark image with one or two rectangles side by side; rows are class and x, y, width, height."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(20, 60, (height, width, 3)).astype(np.uint8))
    pen, objects = ImageDraw.Draw(image), []
    count = int(random.integers(1, 3))
    for place in range(count):
        wide, tall = (random.uniform(0.5, 0.9, 2) * [width / count, height]).round().tolist()
        left = round(random.uniform(place * width / count, (place + 1) * width / count - wide))
        top = round(random.uniform(0, height - tall))
        kind = int(random.integers(len(NAMES)))
        pen.rectangle((left, top, left + wide - 1, top + tall - 1), COLORS[kind])
        objects.append([kind, left, top, wide, tall])
    return image, objects


def market(root: Path, counts: dict[str, int], **size: int) -> Path:
    """Write a data set; ``counts`` is by folder, e.g. train2017."""
    seed = 0
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    categories = [{"id": number, "name": name} for number, name in zip(NUMBERS, NAMES, strict=True)]
    for folder, count in counts.items():
        (root / folder).mkdir()
        data: dict[str, list[Any]] = {"images": [], "categories": categories[::-1], "annotations": []}
        for _ in range(count):
            seed += 1
            image, objects = image_with_boxes(seed, **size)
            name = f"{seed:012}.png"
            image.save(root / folder / name)
            data["images"].append({"id": seed, "file_name": name, "width": image.width, "height": image.height})
            for kind, *box in objects:
                entry = {"id": len(data["annotations"]) + 1, "image_id": seed, "category_id": NUMBERS[int(kind)]}
                data["annotations"].append({**entry, "iscrowd": 0, "bbox": box, "area": box[2] * box[3]})
        (root / "annotations" / f"instances_{folder}.json").write_text(json.dumps(data))
    return root
