"""The joints of a data set: names, sides, limbs, and how exactly they can be known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .coco_json import read_entries, read_id, show_value
from .mirror_names import pair_joints

# Names and, per joint, how far annotators differ, as a share of the square root of the person's area (published).
_PARTS = {
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
COCO_NAMES = ("nose", *(f"{side}_{part}" for part in _PARTS for side in ("left", "right")))
COCO_SIGMAS = (0.026, *(sigma for sigma in _PARTS.values() for _ in ("left", "right")))
_OTHER_SIGMA = 0.05


@dataclass(frozen=True)
class Joints:
    """The joints of a data set.

    Attributes:
        names: One per joint, K in all.
        flip: Per joint, the index of its mirror image: the same name with the other side, else itself.
        limbs: Pairs of indices from 0, for drawing.
        sigmas: Per joint, the deviation that the object keypoint similarity allows, as a share of the square root of
            the person's area: COCO's 17 published values for COCO's 17 names in any order, else 0.05 for each.
        category_id: The category that has these joints; results in COCO's format name it.
        category: Its name.
    """

    names: tuple[str, ...]
    flip: tuple[int, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    category_id: int = 1
    category: str = "person"


def read_joints(data: Any, path: Path) -> Joints:
    """Return the joints of the one category of a COCO JSON that has some.

    Raises:
        UserError: There is none, there are several, or it contradicts itself.
    """
    named = [c for c in read_entries(data, "categories", path) if c.get("keypoints")]
    if not named:
        raise UserError(f"{path} has no category with keypoints; give a file like COCO's person_keypoints_train2017")
    if len(named) > 1:
        several = ", ".join(str(category.get("name")) for category in named)
        raise UserError(f"{path} has several categories with keypoints ({several}); keep one")
    category = named[0]
    names = category["keypoints"]
    if (
        not isinstance(names, list)
        or not all(isinstance(n, str) and n.strip() for n in names)
        or len(set(names)) < len(names)
    ):
        raise UserError(f"keypoints of the category in {path} must be a list of different names (texts)")
    sigma_of = dict(zip(COCO_NAMES, COCO_SIGMAS, strict=True))
    is_coco = set(names) == set(COCO_NAMES)
    return Joints(
        tuple(names),
        pair_joints(names, str(path)),
        _read_limbs(category, len(names), path),
        tuple(sigma_of[name] if is_coco else _OTHER_SIGMA for name in names),
        read_id(category, "id", path),
        str(category.get("name") or "person"),
    )


def _read_limbs(category: Mapping[str, Any], count: int, path: Path) -> tuple[tuple[int, int], ...]:
    pairs = category.get("skeleton") or []
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        if not isinstance(pair, list) or len(pair) != 2 or any(i not in range(1, count + 1) for i in pair):
            raise UserError(
                f"skeleton of the category in {path} has {show_value(pair)}; it needs pairs from 1 to {count}"
            )
    return tuple((int(a) - 1, int(b) - 1) for a, b in pairs)
