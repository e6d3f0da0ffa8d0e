"""Generated data in authentic layouts and at full size, to measure input pipelines where the real is not at hand.

Images are smooth colours with noise, so that PNG and JPEG files are about as large as photographs of their size.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

_JOINTS = 17


def generate(recipe: str, root: Path, count: int) -> None:
    """Write ``count`` training samples of a recipe's data set, and a few of its other parts."""
    parts = {"train": count, "val": 4, "test": 4}
    writers = {"cityscapes": cityscapes, "ade20k": ade20k, "coco": coco, "imagenet": imagenet}
    writers[recipe](root, parts)


def cityscapes(root: Path, parts: dict[str, int]) -> None:
    """Write 2048x1024 PNG, with labelIds."""
    for number, part, i in _numbered({k: v for k, v in parts.items() if k != "test"}):
        stem = f"town_{i:06}_000019"
        _save(_image(number, 1024, 2048), root / "leftImg8bit" / part / "town" / f"{stem}_leftImg8bit.png")
        labels = np.array([7, 8, 11, 21, 23, 26], np.uint8)[_regions(number, 1024, 2048, 6)]
        _save(labels, root / "gtFine" / part / "town" / f"{stem}_gtFine_labelIds.png")


def ade20k(root: Path, parts: dict[str, int]) -> None:
    """Write 683x512 JPEG, with indexed PNG."""
    folder = root / "ADEChallengeData2016"
    for number, part, i in _numbered({"training": parts["train"], "validation": parts["val"]}):
        name = f"ADE_{part[:5]}_{i:08}"
        _save(_image(number, 512, 683), folder / "images" / part / f"{name}.jpg")
        _save(_regions(number, 512, 683, 150), folder / "annotations" / part / f"{name}.png")


def coco(root: Path, parts: dict[str, int]) -> None:
    """Write 640x480 JPEG with one person each."""
    names = ["nose", *(f"{side}_{part}" for part in "abcdefgh" for side in ("left", "right"))]
    for split in ("train", "val"):
        images, people = [], []
        for number, _, i in _numbered({split: parts[split]}):
            _save(_image(number, 480, 640), root / f"{split}2017" / f"{i + 1:012}.jpg")
            images.append({"id": i + 1, "file_name": f"{i + 1:012}.jpg", "width": 640, "height": 480})
            marks = np.random.default_rng(number).uniform([200, 100, 2], [400, 400, 2], (_JOINTS, 3)).ravel().tolist()
            person = {"id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "num_keypoints": _JOINTS}
            people.append(person | {"bbox": [180, 80, 240, 340], "area": 40000.0, "keypoints": marks})
        category = {"id": 1, "name": "person", "keypoints": names, "skeleton": []}
        path = root / "annotations" / f"person_keypoints_{split}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": people, "categories": [category]}))


def imagenet(root: Path, parts: dict[str, int]) -> None:
    """Write 500x375 JPEG in a folder per class."""
    for number, part, i in _numbered({k: 4 * v if k != "train" else v for k, v in parts.items()}):
        _save(_image(number, 375, 500), root / part / f"class{i % 4}" / f"{i:06}.jpg")


def _numbered(parts: dict[str, int]) -> list[tuple[int, str, int]]:
    listed = [(part, i) for part, count in parts.items() for i in range(count)]
    return [(number, part, i) for number, (part, i) in enumerate(listed)]


def _image(seed: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (height // 32, width // 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return (smooth + random.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)


def _regions(seed: int, height: int, width: int, classes: int) -> npt.NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, classes, (height // 64, width // 64), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


def _save(pixels: npt.NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
