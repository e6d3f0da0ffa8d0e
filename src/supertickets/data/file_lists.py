"""Files and folders by their names: lists, children, and how messages name them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..config.recipe import DataSettings
from ..errors import UserError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


_SHOWN = 3  # files that an error names


def data_folder(settings: DataSettings, what: str) -> Path:
    """Return the folder that the settings name.

    Raises:
        UserError: There is none; ``what`` says what it should be.
    """
    if settings.dir is None:
        raise UserError(f"this recipe reads {what}: say where it is with --data DIR")
    folder = Path(settings.dir)
    if not folder.is_dir():
        raise UserError(f"data folder {folder} does not exist; give {what}")
    if not any(folder.iterdir()):
        raise UserError(f"data folder {folder} is empty; give {what}")
    return folder


def list_images(words: Sequence[str | Path]) -> list[Path]:
    """Return files as given, and of folders all images in and below them.

    Raises:
        UserError: A folder holds no image.
    """
    images: list[Path] = []
    for path in map(Path, words):
        if path.is_dir() and not list_folder_images(path):
            raise UserError(f"folder {path} holds no images; give one with {', '.join(ENDINGS[:4])} ... files")
        images += list_folder_images(path) if path.is_dir() else [path]
    return images


def find_child(root: Path, names: Sequence[str]) -> Path | None:
    """Return the folder in a folder that has one of some names, in upper or lower case."""
    return next((path for path in list_folders(root) if path.name.lower() in names), None)


Files = dict[str, Path]  # by what an image and its mask have in common


def index_files(folder: Path, endings: Sequence[str], tail: str = "") -> Files:
    """Return files below a folder by their place and name, less ``tail`` and ending; hidden ones are passed over."""
    files: Files = {}
    for where, inside, names in os.walk(folder):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        place = Path(where).relative_to(folder)
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            if name.startswith(".") or ending.lower() not in endings or not stem.lower().endswith(tail.lower()):
                continue
            key = (place / stem[: len(stem) - len(tail)]).as_posix()
            if key in files:
                raise UserError(f"{files[key]} and {name} differ in their endings only; remove one of them")
            files[key] = Path(where) / name
    return files


def relative_to_root(root: Path, paths: Iterable[Path]) -> list[str]:
    """Return the paths as seen from a folder, sorted."""
    return sorted(str(path.relative_to(root)) for path in paths)


def shorten_list(names: Sequence[str], *, total: bool = False) -> str:
    """Return the first names, for an error in one line.

    Args:
        names: All names.
        total: Whether the number of all is told, where some are left out.
    """
    more = f", ... ({len(names)} in all)" if total else ", ..."
    return ", ".join(names[:_SHOWN]) + (more if len(names) > _SHOWN else "")


def count_noun(count: int, word: str, many: str | None = None) -> str:
    """Return a count with its noun, e.g. "3 masks"."""
    return f"1 {word}" if count == 1 else f"{count} {many or word + 's'}"


def list_folder_images(folder: Path, *, below: bool = True) -> list[Path]:
    """Return image files by their ending, sorted; hidden files and folders are passed over."""
    if not folder.is_dir():
        return []
    if not below:
        return sorted(p for p in folder.iterdir() if _is_image_file(p))
    images = []
    for where, inside, names in os.walk(folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        images += [path for name in names if _is_image_file(path := Path(where) / name)]
    return sorted(images)


def list_folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_image_file(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")
