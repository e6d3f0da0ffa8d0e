"""Formats that a reader does not read, told by their files, with the setting or the command that helps."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from .file_lists import find_entry, unwrap_folder, walk_files

_HEAD = 4096  # bytes of a file that tell its format
_LOOKED_AT = 200  # files

# What converts boxes; joints are kept by none of these.
_COMMANDS = {
    "Label Studio": (
        "label-studio-converter export -i {file} -c CONFIG.xml -f COCO -o OUT "
        "(pip install label-studio-converter), and give OUT"
    ),
    "labelme": "labelme2coco {folder} --export_dir {folder} (pip install labelme2coco)",
    "Pascal VOC": "datum convert -i {root} -if voc -f coco -o OUT -- --save-media (pip install datumaro), and give OUT",
}

# Data sets of classes that have a source of their own: their names, and files of their published forms.
_PUBLISHED = {
    "tiny_imagenet": ("Tiny-ImageNet", ("val/val_annotations.txt", "tiny-imagenet-200/val/val_annotations.txt")),
    "idx": ("MNIST and its kin", ("train-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte")),
    "cifar10": ("CIFAR-10", ("data_batch_1", "cifar-10-batches-py/data_batch_1")),
    "cifar100": ("CIFAR-100", ("meta", "cifar-100-python/meta")),
}


def describe_published(root: Path) -> str | None:
    """Return which data set of classes a folder holds in its published form, and the source for it; None if none."""
    for source, (name, marks) in _PUBLISHED.items():
        folder = unwrap_folder(root, *marks)
        for mark in marks:
            if (path := find_entry(folder, mark)) and path.is_file():
                return f"{path} belongs to {name} as published, which is read by: --data.source {source}"
    return None


def describe_foreign(root: Path, *, boxes: bool) -> str | None:
    """Return what a folder's annotations are and how to convert them; None if nothing is known of them.

    Args:
        root: Folder of a data set.
        boxes: Whether its boxes are wanted, for which there are commands, not joints.
    """
    for path in islice(_text_files(root), _LOOKED_AT):
        if (name := _format_of(path)) is None:
            continue
        if not boxes:
            return f"{path} is of {name}'s format, which is not read; give joints in COCO's format for keypoints"
        places = {"file": path, "folder": path.parent, "root": root}
        command = _COMMANDS[name].format(**{key: shlex.quote(str(place)) for key, place in places.items()})
        return f"{path} is of {name}'s format, which is not read; convert it with: {command}"
    return None


def is_labelme(head: bytes) -> bool:
    """Return whether a JSON begins like those of labelme."""
    return b'"shapes"' in head and b'"version"' in head


def read_head(path: Path) -> bytes | None:
    """Return the first bytes of a file; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return None


def _format_of(path: Path) -> str | None:
    head = (read_head(path) or b"").lstrip()
    if path.suffix.lower() == ".xml":
        return "Pascal VOC" if b"<annotation" in head else None
    if is_labelme(head):
        return "labelme"
    marks = (b'"annotations"', b'"completions"', b'"rectanglelabels"', b'"keypointlabels"')
    return "Label Studio" if head.startswith(b"[") and any(mark in head for mark in marks) else None


def _text_files(root: Path) -> Iterator[Path]:
    """Yield JSON and XML files, those of the folder itself first."""
    return (path for path in walk_files(root) if path.suffix.lower() in (".json", ".xml"))
