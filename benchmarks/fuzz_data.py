"""Damaged data sets for `fuzz.py`, and what reads them: a small valid example per format, made here."""

from __future__ import annotations

import gzip
import io
import pickle
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from fuzz_mutators import damage_bytes, damage_json
from supertickets.config.recipe import DataSettings
from supertickets.data.cifar import read_pickle
from supertickets.data.coco_detection_json import read_objects
from supertickets.data.coco_files import AnnotationFile
from supertickets.data.coco_keypoints_json import read_people
from supertickets.data.detection_layouts import read_boxed_parts
from supertickets.data.idx import read_idx
from supertickets.data.person_boxes import read_boxes, read_detections
from supertickets.data.preprocessing import open_image, stored_form, to_channels
from supertickets.data.segmentation_masks import stored_labels
from supertickets.data.shanghaitech_files import read_points

Source = random.Random


@dataclass(frozen=True)
class Parser:
    """A reader of files.

    Attributes:
        name: Its name.
        write: Function that writes the damaged example of a source of numbers into a folder; it returns its path.
        read: The reader.
        batch: Inputs of one process.
        bounded: Whether the process may have few addresses only; some libraries reserve many that they never use.
    """

    name: str
    write: Callable[[Source, Path], Path]
    read: Callable[[Path], object]
    batch: int = 5000
    bounded: bool = True


def file_parser(
    name: str, file: str, damage: Callable[[Source], bytes], read: Callable[[Path], object], batch: int = 5000
) -> Parser:
    """Return the parser of a single file."""

    def write(source: Source, folder: Path) -> Path:
        path = folder / file
        path.write_bytes(damage(source))
        return path

    return Parser(name, write, read, batch)


IDX = b"\0\0\x08\x03" + struct.pack(">III", 2, 3, 4) + bytes(range(24))
BATCH = {b"data": np.zeros((2, 8), np.uint8), b"labels": [0, 1], b"names": ["a", b"b"]}
IMAGE_FORMS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
PEOPLE: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 60, "height": 40} for i in (1, 2)],
    "categories": [{"id": 1, "name": "thing", "keypoints": ["left_eye", "right_eye"], "skeleton": [[1, 2]]}],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [30, 5, 20, 20], "area": 400, "iscrowd": 0}
        | {"keypoints": [40, 9, 2, 35, 9, 1], "num_keypoints": 2}
        for i in (1, 2)
    ],
}
DETECTIONS = [{"image_id": i, "category_id": 1, "bbox": [30, 5, 20, 20], "score": 0.9} for i in (1, 2)]


def idx_files() -> Parser:
    """Return the parser of idx files, packed and not."""
    raws = (IDX, gzip.compress(IDX, mtime=0))

    def damage(source: Source) -> bytes:
        return damage_bytes(source, source.choice(raws)) if source.random() < 0.95 else source.randbytes(64)

    return file_parser("idx", "train-images-idx3-ubyte", damage, read_idx)


def pickles() -> Parser:
    """Return the parser of CIFAR's batches."""
    raws = [pickle.dumps(BATCH, protocol=protocol) for protocol in (0, 2, 4, 5)]

    def damage(source: Source) -> bytes:
        return damage_bytes(source, source.choice(raws)) if source.random() < 0.95 else source.randbytes(64)

    return file_parser("CIFAR pickles", "data_batch_1", damage, read_pickle)


def encode_image(form: str) -> bytes:
    """Return a small image, turned by EXIF data where its format has them."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = 6
    how = {} if form in ("GIF", "BMP", "PPM", "JPEG2000") else {"exif": exif}
    Image.fromarray(np.arange(12 * 10 * 3, dtype=np.uint8).reshape(10, 12, 3)).save(buffer, form, **how)
    return buffer.getvalue()


def use_image(path: Path) -> None:
    """Read an image in every way in which images are read."""
    stored_form(path)
    to_channels(open_image(path, 8), 3)
    open_image(path, upright=False)


def images() -> Parser:
    """Return the parser of images and masks."""
    raws, mask = [encode_image(form) for form in IMAGE_FORMS], io.BytesIO()
    Image.fromarray(np.arange(120, dtype=np.uint8).reshape(10, 12)).save(mask, "PNG")
    readers = {"image": use_image, "mask": stored_labels}

    def write(source: Source, folder: Path) -> Path:
        name = source.choice(sorted(readers))
        path = folder / f"{name}.png"
        whole = mask.getvalue() if name == "mask" and source.random() < 0.7 else source.choice(raws)
        path.write_bytes(damage_bytes(source, whole))
        return path

    return Parser("images", write, lambda path: readers[path.stem](path))


def _write_images(folder: Path) -> None:
    for i in (1, 2):
        if not (folder / f"{i}.png").exists():
            Image.new("RGB", (60, 40)).save(folder / f"{i}.png")


def coco_files() -> Parser:
    """Return the parser of COCO's annotations and results: people, objects, boxes."""
    readers = (_read_people, _read_objects, _read_boxes, _read_detections)

    def write(source: Source, folder: Path) -> Path:
        _write_images(folder)
        reader = source.randrange(len(readers))
        path = folder / f"{reader}.json"
        path.write_bytes(damage_json(source, DETECTIONS if reader == 3 or source.random() < 0.05 else PEOPLE))
        return path

    return Parser("COCO JSON", write, lambda path: readers[int(path.stem)](path))


def _read_people(path: Path) -> None:
    read_people(AnnotationFile(path, (path.parent,)), [])


def _read_objects(path: Path) -> None:
    read_objects(AnnotationFile(path, (path.parent,)), [])


def _read_boxes(path: Path) -> None:
    read_boxes(path, [path.parent / f"{i}.png" for i in (1, 2)])


def _read_detections(path: Path) -> None:
    read_detections(path, {i: (path.parent / f"{i}.png", (60, 40)) for i in (1, 2)}, notes=[])


YOLO_WORDS = (
    *("0", "1", "2", "-1", "0.5", "0.25", "1e300", "nan", "inf", "a", "", "1e-9", "9" * 400, "\0", "0x1", "1_0", "٣"),
)
YOLO_LINES = (
    *("names: [a, b]", "names: {0: a, 1: b}", "names: 3", "names: {a: b}", "names: []", "names: &a [*a]"),
    *("nc: 2", "nc: x", "train: images", "train: [images]", "val: ../../..", "path: /", "val: images", "a: *b"),
    *("names: [no, 1]", "{" * 2000, "- a", "\0", "names: [[a], b]", "names: 0x_", "nc: " + "9" * 5000, "a: 2001-99-99"),
)


def yolo_folders() -> Parser:
    """Return the parser of folders of YOLO's layout."""

    def write(source: Source, folder: Path) -> Path:
        for name in ("images", "labels"):
            (folder / name).mkdir(exist_ok=True)
        _write_images(folder / "images")
        lines = [" ".join(source.choices(YOLO_WORDS, k=source.randrange(8))) for _ in range(source.randrange(4))]
        (folder / "labels" / "1.txt").write_text("\n".join(lines))
        (folder / "data.yaml").write_text("\n".join(source.choices(YOLO_LINES, k=source.randrange(4))))
        return folder

    def read(folder: Path) -> object:
        return read_boxed_parts(folder, DataSettings(source="coco_boxes", dir=str(folder)), [])

    return Parser("YOLO", write, read)


def matlab_files() -> Parser:
    """Return the parser of ShanghaiTech's points."""
    inside = np.empty((1, 1), [("location", object), ("number", object)])
    inside[0, 0] = (np.arange(20.0).reshape(10, 2), np.array([[10]]))
    cell = np.empty((1, 1), object)
    cell[0, 0] = inside
    raws = []
    for packed in (False, True):
        file = io.BytesIO()
        savemat(file, {"image_info": cell}, do_compression=packed)
        raws.append(file.getvalue())
    return file_parser("mat", "a.mat", lambda source: damage_bytes(source, source.choice(raws)), read_points)
