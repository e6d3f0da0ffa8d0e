"""Generated people in COCO's layout: a disc per joint, whose colour tells which one it is."""

from __future__ import annotations

import colorsys
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("head", "left_hand", "right_hand", "left_foot", "right_foot")
LIMBS = [[1, 2], [1, 3], [1, 4], [1, 5]]
COLORS = ((250, 250, 250), (250, 60, 60), (60, 60, 250), (250, 250, 60), (60, 250, 60))


class Body(NamedTuple):
    """A kind of body.

    Attributes:
        names: Of the joints.
        limbs: Pairs of joints, from 1.
        colors: RGB of every joint.
        places: x, y of every joint in a body of height and width 1.
        loose: How far joints move from there.
        radius: Of their discs, as a share of the body's height.
    """

    names: tuple[str, ...]
    limbs: list[list[int]]
    colors: tuple[tuple[int, ...], ...]
    places: list[list[float]]
    loose: float
    radius: float


FIVE = Body(NAMES, LIMBS, COLORS, [[0.5, 0.12], [0.88, 0.45], [0.12, 0.45], [0.75, 0.88], [0.25, 0.88]], 0.08, 1 / 13)
# COCO's joints from the nose to the ankles; but for the nose, x is that of the left one.
_COCO = {
    **{"eye": (0.57, 0.06), "ear": (0.64, 0.08), "shoulder": (0.7, 0.2), "elbow": (0.82, 0.36)},
    **{"wrist": (0.9, 0.52), "hip": (0.62, 0.54), "knee": (0.66, 0.74), "ankle": (0.68, 0.94)},
}
SEVENTEEN = Body(
    ("nose", *(f"{side}_{part}" for part in _COCO for side in ("left", "right"))),
    [
        *([16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10]),
        *([9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]),
    ],
    tuple(tuple(round(255 * c) for c in colorsys.hsv_to_rgb(5 * k / 17, 0.5 + k % 2 / 2, 1)) for k in range(17)),
    [[0.5, 0.1], *([at, y] for x, y in _COCO.values() for at in (x, 1 - x))],
    0.02,
    1 / 40,
)


def person(
    seed: int, height: int = 64, width: int = 64, body: Body = FIVE
) -> tuple[Image.Image, np.ndarray, list[float]]:
    """Return an image of one person, its joints (K, 3), and its box."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(20, 70, (height, width, 3)).astype(np.uint8))
    tall = random.uniform(0.65, 0.9) * height
    wide = tall * 0.7
    corner = random.uniform(0, [width - wide, height - tall])
    joints = corner + (body.places + random.uniform(-body.loose, body.loose, (len(body.names), 2))) * [wide, tall]
    pen, radius = ImageDraw.Draw(image), tall * body.radius
    for (x, y), color in zip(joints, body.colors, strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), color)
    marks = np.column_stack((joints, np.full(len(joints), 2.0)))
    return image, marks, [*corner.tolist(), wide, tall]


def crowd(root: Path, counts: dict[str, int], body: Body = FIVE, **size: int) -> Path:
    """Write a data set of one person per image; ``counts`` is by folder, e.g. train2017."""
    seed = 0
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for folder, count in counts.items():
        (root / folder).mkdir()
        data: dict[str, list[Any]] = {
            "images": [],
            "categories": [{"id": 1, "name": "person", "keypoints": body.names, "skeleton": body.limbs}],
            "annotations": [],
        }
        for _ in range(count):
            seed += 1
            image, marks, box = person(seed, **size, body=body)
            name = f"{seed:012}.png"
            image.save(root / folder / name)
            data["images"].append({"id": seed, "file_name": name, "width": image.width, "height": image.height})
            data["annotations"].append(
                {
                    "id": seed,
                    "image_id": seed,
                    "category_id": 1,
                    "iscrowd": 0,
                    "num_keypoints": len(marks),
                    "keypoints": marks.reshape(-1).tolist(),
                    "bbox": box,
                    "area": box[2] * box[3],
                }
            )
        (root / "annotations" / f"person_keypoints_{folder}.json").write_text(json.dumps(data))
    return root
