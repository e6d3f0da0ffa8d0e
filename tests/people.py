"""Generated people in COCO's layout: a disc per joint, whose colour tells which one it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("head", "left_hand", "right_hand", "left_foot", "right_foot")
LIMBS = [[1, 2], [1, 3], [1, 4], [1, 5]]
COLORS = ((250, 250, 250), (250, 60, 60), (60, 60, 250), (250, 250, 60), (60, 250, 60))
# Where joints are in a body of height and width 1, before they move.
_BODY = np.array([[0.5, 0.12], [0.88, 0.45], [0.12, 0.45], [0.75, 0.88], [0.25, 0.88]])


def person(seed: int, height: int = 64, width: int = 64) -> tuple[Image.Image, np.ndarray, list[float]]:
    """A picture of one person, its joints (5, 3), and its box."""
    random = np.random.default_rng(seed)
    picture = Image.fromarray(random.integers(20, 70, (height, width, 3)).astype(np.uint8))
    tall = random.uniform(0.65, 0.9) * height
    wide = tall * 0.7
    corner = random.uniform(0, [width - wide, height - tall])
    joints = corner + (_BODY + random.uniform(-0.08, 0.08, (5, 2))) * [wide, tall]
    pen, radius = ImageDraw.Draw(picture), tall / 13
    for (x, y), color in zip(joints, COLORS, strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), color)
    marks = np.column_stack((joints, np.full(5, 2.0)))
    return picture, marks, [*corner.tolist(), wide, tall]


def crowd(root: Path, counts: dict[str, int], **size: int) -> Path:
    """Writes a data set of one person per picture; ``counts`` is by folder, e.g. train2017."""
    seed = 0
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for folder, count in counts.items():
        (root / folder).mkdir()
        data: dict[str, list[Any]] = {
            "images": [],
            "categories": [{"id": 1, "name": "person", "keypoints": NAMES, "skeleton": LIMBS}],
            "annotations": [],
        }
        for _ in range(count):
            seed += 1
            picture, marks, box = person(seed, **size)
            name = f"{seed:012}.png"
            picture.save(root / folder / name)
            data["images"].append({"id": seed, "file_name": name, "width": picture.width, "height": picture.height})
            data["annotations"].append(
                {
                    "id": seed,
                    "image_id": seed,
                    "category_id": 1,
                    "iscrowd": 0,
                    "num_keypoints": 5,
                    "keypoints": marks.reshape(-1).tolist(),
                    "bbox": box,
                    "area": box[2] * box[3],
                }
            )
        (root / "annotations" / f"person_keypoints_{folder}.json").write_text(json.dumps(data))
    return root
