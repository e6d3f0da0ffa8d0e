"""Boxes in YOLO's layout: a text file per image, a line per object: class, then centre, width and height in shares.

A line with more numbers is an outline (YOLO-seg, oriented boxes): its surrounding box is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import yaml

from ..config.recipe import DataSettings
from ..errors import UserError
from .box_forms import CENTRES, Flags, check_form
from .boxed_image import BoxedImage
from .broken_files import read_all
from .coco_files import BESIDE_IMAGES, is_file, split_of_name
from .coco_json import reject_file, show_value
from .file_lists import (
    ENDINGS,
    count_noun,
    find_child,
    find_entry,
    index_files,
    list_files,
    list_folder_images,
    list_folders,
    note_other_files,
    relative_to_root,
    shorten_list,
    walk_files,
)
from .geometry import Floats
from .preprocessing import stored_form

_NAMES = ("classes.txt", "labels/classes.txt", "obj.names")  # files with a class per line
_NO_PLACE = ("~", "null", "Null", "NULL")  # words for no folder, as texts
_LONGEST_TEXT = 1 << 20  # bytes of a file of names or labels
_BOX, _OUTLINE = 5, 7  # numbers in a line: of a box; of the smallest outline
_BESIDE = 0.01  # share of the image that rounding may put a box outside
_ON_SIDE = range(5, 9)  # orientations that exchange width and height
_FAR = 1e9  # shares: no box is so far away, and products of such numbers are finite
_STRANGE = 0.1  # share of the boxes that may be left out

Folders = tuple[Path, Path]  # of images, and of labels


class _Numbers(NamedTuple):
    """Numbers of a line: of classes, of which the first is one, and how many joints have behind a box."""

    classes: int
    joints: int


@dataclass(frozen=True)
class _Line:
    """An object as a line of a file tells it: class, and centre, width and height in shares."""

    label: int
    box: tuple[float, float, float, float]
    is_outline: bool


def is_yolo(root: Path) -> bool:
    """Return whether a folder has labels in YOLO's layout."""
    folders = [folder for place in (root, *list_folders(root)) if (folder := find_child(place, ("labels",)))]
    if any(map(_has_texts, folders)):
        return True
    is_named = _description(root) is not None or _names_file(root) is not None
    return is_named and any(path.name.lower() not in _NAMES for path in _texts(root))


def read_yolo(
    root: Path, settings: DataSettings, notes: list[str]
) -> tuple[tuple[str, ...], dict[str, tuple[BoxedImage, ...]]]:
    """Read images and the boxes in them.

    Read are images/SPLIT with labels/SPLIT, SPLIT/images with SPLIT/labels, images with labels, and labels beside
    their images; the folders that data.yaml names come first. Class names are those of data.yaml (``names``), else the
    lines of classes.txt or obj.names.

    Args:
        root: Folder of the data set.
        settings: Say what becomes of broken images.
        notes: What a person should know is added here.

    Returns:
        Names of the classes; and the images of each part, "train", "val" and "test", or "all".

    Raises:
        UserError: The layout or a file does not fit.
    """
    described = _description(root)
    classes = _class_names(root, described)
    folders = _find_folders(root, described, notes)
    if not folders:
        raise UserError(f"{root} has labels of YOLO, but no folder images beside them; add the images")
    if not folders.keys() & {"train", "all"}:
        raise UserError(f"{root} has no images for training, only for {', '.join(folders)}; add a folder train")
    numbers = _Numbers(len(classes), _joint_numbers(described))
    return classes, {part: _read_part(pair, numbers, settings, notes) for part, pair in folders.items()}


def _joint_numbers(described: tuple[Path, Mapping[str, Any]] | None) -> int:
    """Return how many numbers the joints of an object have behind its box; 0 if the description names none.

    Raises:
        UserError: Its ``kpt_shape`` is not two whole numbers.
    """
    shape = described[1].get("kpt_shape") if described else None
    if described is None or shape is None:
        return 0
    try:
        joints, each = (int(number) for number in shape)
    except (TypeError, ValueError):
        raise UserError(f"{described[0]} has kpt_shape {shape!r}; write the joints and the numbers of each") from None
    return joints * each


def _has_texts(folder: Path) -> bool:
    return next(_texts(folder), None) is not None


def _texts(folder: Path) -> Iterator[Path]:
    return (path for path in walk_files(folder) if path.suffix.lower() == ".txt")


def _description(root: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """Return the YAML file that names the classes, all of its scalars as texts."""
    for path in sorted(list_files(root, ".yaml", ".yml"), key=lambda path: (path.stem.lower() != "data", path)):
        try:
            # All scalars stay texts: a class may be called no, on or 010.
            content = yaml.load(_read_text(path), yaml.BaseLoader)
        except (yaml.YAMLError, RecursionError, ValueError):
            continue
        if isinstance(content, dict) and "names" in content:
            return path, content
    return None


def _names_file(root: Path) -> Path | None:
    """Return the file with a class per line."""
    entries = (find_entry(root, name) for name in _NAMES)
    return next((path for path in entries if path is not None and is_file(path)), None)


def _class_names(root: Path, described: tuple[Path, Mapping[str, Any]] | None) -> tuple[str, ...]:
    if described is not None:
        path, content = described
        listed = content["names"]
        if isinstance(listed, dict):
            numbers = [str(i) for i in range(len(listed))]
            if sorted(listed) != sorted(numbers):
                raise UserError(f"names of {path} need the numbers 0 to {len(listed) - 1}; number them so")
            listed = [listed[number] for number in numbers]
        if str(content.get("nc", len(listed))) != str(len(listed)):
            raise UserError(f"nc of {path} is {show_value(content['nc'])}, but it has {len(listed)} names; mend one")
    else:
        path = _names_file(root) or root / "data.yaml"
        if not is_file(path):
            raise UserError(f"the classes of {root} have no names; add data.yaml with a list of names, or classes.txt")
        listed = [line.strip() for line in _read_text(path).strip().splitlines()]
    if (
        not isinstance(listed, list)
        or not listed
        or not all(isinstance(name, str) and name.strip() for name in listed)
        or len(set(listed)) < len(listed)
    ):
        raise UserError(f"{path} needs a list of different names, one per class; mend it")
    return tuple(listed)


def _find_folders(root: Path, described: tuple[Path, Mapping[str, Any]] | None, notes: list[str]) -> dict[str, Folders]:
    """Return the folders of each part: those that a YAML file names, else those of the usual layouts."""
    usual, named = _usual_folders(root, notes), dict[str, Folders]()
    path, content = described or (root, {})
    for part in ("train", "val", "test"):
        place = content.get(part)
        images = _place_below(root, place) if isinstance(place, str) else None
        if images is None:
            if place and place not in _NO_PLACE:
                instead = f"; {usual[part][0]} is used" if part in usual else ""
                notes.append(f"{path} names {show_value(place)} for {part}, which is no folder of {root}{instead}")
        elif (pair := _label_folder(images)) in named.values():
            notes.append(f"{path} names {show_value(place)} for {part} too; it is used once")
        else:
            named[part] = pair
    if "train" not in named:
        return usual
    # What is in a folder that the file names has its part already.
    taken = [images for images, _ in named.values()]
    rest = {
        part: pair
        for part, pair in usual.items()
        if part != "all" and not any(pair[0].is_relative_to(images) for images in taken)
    }
    return {part: (rest | named)[part] for part in ("train", "val", "test") if part in rest | named}


def _usual_folders(root: Path, notes: list[str]) -> dict[str, Folders]:
    """Return the folders of the usual layouts."""
    images = find_child(root, ("images",))
    if images is not None:
        splits = _split_folders(images, notes) or {"all": images}
    else:
        splits = _split_folders(root, notes) or ({"all": root} if list_folder_images(root) else {})
    return {part: _label_folder(folder) for part, folder in splits.items()}


def _split_folders(root: Path, notes: list[str]) -> dict[str, Path]:
    """Return the folders of splits in a folder; of two for one split, the first is used."""
    splits: dict[str, Path] = {}
    for folder in list_folders(root):
        part = split_of_name(folder.name)
        if part in splits:
            notes.append(f"folder {folder} is not used: {splits[part].name} is the {part} split")
        elif part is not None:
            splits[part] = folder
        elif list_folder_images(folder):
            notes.append(f"folder {folder} is not used: its name is that of no split")
    return splits


def _place_below(root: Path, place: str) -> Path | None:
    """Return the folder that a path means: paths of other machines count from where they enter the data set."""
    parts = [part for part in PurePosixPath(place.replace("\\", "/")).parts if part not in ("..", ".", "/")]
    # The word images alone, without what was before it, is in every data set.
    starts = (start for start in range(len(parts)) if start == 0 or parts[start:] != ["images"])
    candidates = (root.joinpath(*parts[start:]) for start in starts)
    return next((folder for folder in candidates if _is_folder(folder)), None)


def _is_folder(path: Path) -> bool:
    """Return whether there is such a folder; a name that no folder can have is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _label_folder(folder: Path) -> Folders:
    """Return a folder of images and that of its labels: labels in place of images in its path, or the same."""
    folder = find_child(folder, ("images",)) or folder
    for i in reversed(range(len(folder.parts))):
        if folder.parts[i].lower() == "images":
            labels = find_child(Path(*folder.parts[:i]), ("labels",))
            below = None if labels is None else labels.joinpath(*folder.parts[i + 1 :])
            return folder, below if below is not None and below.is_dir() else folder
    return folder, folder


def _read_part(folders: Folders, numbers: _Numbers, settings: DataSettings, notes: list[str]) -> tuple[BoxedImage, ...]:
    """Return the images of a part with their boxes."""
    others: list[Path] = []
    images, labels = index_files(folders[0], ENDINGS, others=others), index_files(folders[1], (".txt",))
    note_other_files([path for path in others if path.suffix.lower() not in BESIDE_IMAGES], notes)
    orphans = [path for key, path in labels.items() if key not in images and path.name.lower() not in _NAMES]
    if orphans:
        names = shorten_list(relative_to_root(folders[1], orphans))
        notes.append(f"{folders[1]} has {count_noun(len(orphans), 'file')} without an image, left out: {names}")
    if bare := [path for key, path in images.items() if key not in labels]:
        names = shorten_list(relative_to_root(folders[0], bare))
        notes.append(f"{folders[0]} has {count_noun(len(bare), 'image')} without labels, taken for empty: {names}")
    lines = {path: _read_lines(labels[key], numbers) if key in labels else [] for key, path in images.items()}
    sizes = read_all(list(lines), _upright_size, settings, notes)
    return _boxed_images({path: lines[path] for path in sizes}, sizes, folders[1], notes)


def _upright_size(path: Path) -> tuple[int, int]:
    size, orientation = stored_form(path)
    return size[::-1] if orientation in _ON_SIDE else size


def _boxed_images(
    lines: Mapping[Path, list[_Line]], sizes: Mapping[Path, tuple[int, int]], labels: Path, notes: list[str]
) -> tuple[BoxedImage, ...]:
    """Return images with boxes in pixels; boxes without area and outside are left out."""
    rows = [(path, line) for path, some in lines.items() for line in some]
    boxes = np.array([line.box for _, line in rows], np.float64).reshape(-1, 4).clip(-_FAR, _FAR)
    is_inside: Flags = np.all((boxes >= -_BESIDE) & (boxes <= 1 + _BESIDE), axis=1)
    has_area: Flags = np.all(boxes[:, 2:] > 0, axis=1)
    names = [f"one of {path.name}" for path, _ in rows]
    far = [name for name, keep in zip(names, is_inside.tolist(), strict=True) if not keep]
    if len(far) > _STRANGE * len(rows):
        remedy = "divide x and width by the image's width, y and height by its height"
        reject_file(far, labels, f"has {len(far)} of {len(rows)} boxes that are not in shares of the image", remedy)
    flat = int((~has_area & is_inside).sum())
    if rows and len(far) + flat == len(rows):
        raise UserError(f"{labels} has no box inside an image: {flat} of {len(rows)} have no area; mend them")
    for count, reason in ((len(far), "are outside their image"), (flat, "have no area")):
        if count:
            notes.append(f"{count} of {len(rows)} boxes of {labels} {reason}; they are left out")
    if outlines := sum(line.is_outline for _, line in rows):
        notes.append(f"{outlines} of {len(rows)} objects of {labels} are outlines; their surrounding boxes are taken")
    used: Flags = is_inside & has_area
    pixels = boxes * np.array([sizes[path] * 2 for path, _ in rows], np.float64).reshape(-1, 4)
    chosen = [name for name, keep in zip(names, used.tolist(), strict=True) if keep]
    notes += check_form(
        pixels[used], np.array([sizes[p] for p, _ in rows]).reshape(-1, 2)[used], chosen, labels, CENTRES
    )
    objects: dict[Path, list[list[float]]] = {path: [] for path in lines}
    for (path, line), (x, y, width, height), keep in zip(rows, pixels.tolist(), used.tolist(), strict=True):
        if keep:
            area = width * height
            objects[path].append([line.label, x - width / 2, y - height / 2, width, height, area, 0])
    return tuple(
        BoxedImage(path, sizes[path], np.array(some, np.float64).reshape(-1, 7)) for path, some in objects.items()
    )


def _read_lines(path: Path, numbers: _Numbers) -> list[_Line]:
    """Return the objects of a file.

    Raises:
        UserError: A line is no object.
    """
    return [
        _parse_line(words, numbers, f"line {number} of {path}")
        for number, line in enumerate(_read_text(path).splitlines(), 1)
        if (words := line.split())
    ]


def _parse_line(words: list[str], numbers: _Numbers, where: str) -> _Line:
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise UserError(f"{where} has something other than finite numbers; write class, x, y, width, height")
    label = values[0]
    if label != int(label) or not 0 <= label < numbers.classes:
        raise UserError(f"{where} has class {label:g}; there are {numbers.classes} names, numbered from 0")
    if numbers.joints and len(values) not in (_BOX, _BOX + numbers.joints):
        raise UserError(f"{where} has {len(values)} numbers; with its joints an object has {_BOX + numbers.joints}")
    if len(values) == _BOX or numbers.joints:
        values = values[:_BOX]
        x, y, width, height = values[1:].tolist()
        return _Line(int(label), (x, y, width, height), False)
    if len(values) < _OUTLINE or len(values) % 2 == 0:
        raise UserError(f"{where} has {len(values)} numbers; write class, x, y, width, height in shares of the image")
    corners: Floats = values[1:].reshape(-1, 2)
    low, high = corners.min(0), corners.max(0)
    (x, y), (width, height) = ((low + high) / 2).tolist(), (high - low).tolist()
    return _Line(int(label), (x, y, width, height), True)


def _read_text(path: Path) -> str:
    """Return a small text file.

    Raises:
        UserError: It cannot be read, is too large or no UTF-8.
    """
    try:
        if path.stat().st_size > _LONGEST_TEXT:
            raise UserError(f"{path} has more than {_LONGEST_TEXT >> 20} MiB; it is no file of names or labels")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); mend or remove it") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; write it again") from None
