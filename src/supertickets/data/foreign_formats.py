"""Formats of annotations that are not read, told by their files, with the command that converts them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_HEAD = 4096  # bytes of a file that tell its format
_LOOKED_AT = 200  # files

_LABEL_STUDIO = (
    "convert it with: label-studio-converter export -i {file} -c CONFIG.xml -o OUT -f COCO "
    "(pip install label-studio-converter), and give OUT"
)
_LABELME = "convert it with: labelme2coco {folder} --export_dir {folder} (pip install labelme2coco)"
_VOC = (
    "convert it with: datum convert -i {folder} -if voc -f coco -o OUT -- --save-media "
    "(pip install datumaro), and give OUT"
)


def describe_foreign(root: Path) -> str | None:
    """Return what a folder's annotations are and how to convert them; None if nothing is known of them."""
    for path in islice(_text_files(root), _LOOKED_AT):
        with path.open("rb") as file:
            head = file.read(_HEAD)
        places = {"file": path, "folder": path.parent}
        if path.suffix.lower() == ".xml":
            if b"<annotation" in head:
                return f"{path} is of Pascal VOC's format; {_VOC.format(folder=root)}"
        elif is_labelme(head):
            return f"{path} is of labelme; {_LABELME.format(**places)}"
        elif head.lstrip().startswith(b"[") and (b'"annotations"' in head or b'"completions"' in head):
            return f"{path} is of Label Studio; {_LABEL_STUDIO.format(**places)}"
    return None


def is_labelme(head: bytes) -> bool:
    """Return whether a JSON begins like those of labelme."""
    return b'"shapes"' in head and b'"version"' in head


def _text_files(root: Path) -> Iterator[Path]:
    """Yield JSON and XML files of a folder and of two levels below."""
    for pattern in ("*", "*/*", "*/*/*"):
        yield from (path for path in sorted(root.glob(pattern)) if path.suffix.lower() in (".json", ".xml"))
