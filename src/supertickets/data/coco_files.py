"""What all readers of COCO's files share: samples in pictures, JSON whose faults are told, and where files are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ..errors import UserError
from ..recipe import DataSettings
from .files import first_readable, read_all
from .pictures import BrokenPicture, Preprocessing, open_picture, to_channels, to_tensor
from .regions import Box

_NAMED = 3  # offenders that a message names


class Annotated(Protocol):
    """What annotations tell of something in a picture, or of all of it."""

    @property
    def image(self) -> Path: ...

    @property
    def size(self) -> tuple[int, int]: ...


Known = TypeVar("Known", bound=Annotated)


@dataclass(frozen=True, eq=False)
class AnnotatedSet(Generic[Known]):
    """Samples that annotations tell of.

    Attributes:
        samples: What is known of them.
        kept: What was read before; a picture that is not in it is read every time.
        skip: Whether a broken picture gives its place to another (training) or does not count (evaluation), instead of
            being refused.
        upright: Whether annotations are those of pictures that are turned by their EXIF data.
    """

    samples: tuple[Known, ...]
    kept: Mapping[Path, Image.Image]
    skip: bool
    upright: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def slow(self) -> bool:
        """Pictures are read, or at least resized or cut out."""
        return True

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The picture of every sample."""
        return tuple(one.image for one in self.samples)

    def picture(self, position: int) -> tuple[Known, Image.Image]:
        """A sample, and the picture it is in, RGB."""
        one = self.samples[position]
        found = self.kept.get(one.image)
        return one, open_annotated(one.image, one.size, self.upright) if found is None else found

    def picture_or_another(self, position: int) -> tuple[Known, Image.Image]:
        """A sample; one in a broken picture gives its place to the next that can be read."""
        order = [position, *range(position + 1, len(self)), *range(position)]
        return first_readable(self.picture, order, self.skip, "picture")

    def files(self) -> bytes:
        """Names of the pictures, for a digest."""
        return "\0".join(f"{path.parent.name}/{path.name}" for path in self.pictures).encode()


def inputs_of(pictures: Sequence[Image.Image], prepare: Preprocessing) -> Tensor:
    """The network's inputs, of pictures that have their size."""
    if not pictures:
        return torch.empty(0, 3, *prepare.size)
    return prepare(torch.stack([to_tensor(picture) for picture in pictures]))


def annotation_files(root: Path, kind: str, what: str) -> dict[str, Path]:
    """The annotations of the parts "train", "val" and "test".

    Args:
        root: Folder of the data set.
        kind: How their names begin, e.g. "person_keypoints".
        what: What they annotate, for the error.

    Raises:
        UserError: There are none for training, or several for one part.
    """
    folder = root / "annotations"
    found: dict[str, Path] = {}
    for name in ("train", "val", "test"):
        paths = sorted(folder.glob(f"{kind}_{name}*.json"))
        if len(paths) > 1:
            raise UserError(f"{folder} has {paths[0].name} and {paths[1].name}; keep one of them")
        if paths:
            found[name] = paths[0]
    if "train" not in found:
        raise UserError(f"{root} is not laid out like COCO's {what}: file annotations/{kind}_train2017.json is missing")
    return found


def pictures_folder(annotations: Path, root: Path, kind: str, what: str) -> Path:
    """The folder of the pictures that annotations speak of; see `annotation_files`."""
    name = annotations.stem.removeprefix(f"{kind}_")
    folder = next((f for f in (root / name, root / "images" / name) if f.is_dir()), None)
    if folder is None:
        raise UserError(f"{root} is not laid out like COCO's {what}: folder {name}, or images/{name}, is missing")
    return folder


def open_annotated(path: Path, size: tuple[int, int], upright: bool = True) -> Image.Image:
    """A picture, RGB, as its annotations mean it.

    Args:
        path: The picture.
        size: Width and height that its annotations give.
        upright: Whether it is turned by its EXIF data, if it has that size then; else it is taken as it is stored.

    Raises:
        BrokenPicture: It cannot be read, or has another size.
    """
    picture = open_picture(path, upright=upright)
    if picture.size != size and (stored := open_picture(path, upright=False)).size == size:
        picture = stored
    if picture.size != size:
        raise BrokenPicture(
            f"{path} has {picture.width} x {picture.height} pixels, but its annotations are for {size[0]} x {size[1]}"
        )
    return to_channels(picture, 3)


def keep_pictures(
    sizes: Mapping[Path, tuple[int, int]], settings: DataSettings, notes: list[str], upright: bool = True
) -> dict[Path, Image.Image] | None:
    """Reads all pictures if they fit into memory; broken ones are left out, or refused.

    Args:
        sizes: The pictures, and the width and height that their annotations give.
        settings: Say how much memory there is, and what becomes of broken pictures.
        notes: What a person should know is added here.
        upright: See `open_annotated`.

    Returns:
        None if they do not fit.
    """
    if len(sizes) * _bytes_of_one(sizes) > settings.keep_gb * 1e9:
        return None
    return read_all(list(sizes), lambda path: open_annotated(path, sizes[path], upright), settings, notes)


def listed_images(data: Any, path: Path) -> dict[int, dict[str, Any]]:
    """The pictures that a file lists, by their number.

    Raises:
        UserError: The list is missing or damaged.
    """
    found = {}
    for picture in entries_of(data, "images", path):
        number = integer(picture, "id", path)
        sides = [picture.get("width") or 0, picture.get("height") or 0]
        if not isinstance(picture.get("file_name"), str) or not all(type(n) in (int, float) and n > 0 for n in sides):
            raise UserError(f"image {number} of {path} lacks a file_name, width or height; add them")
        found[number] = picture
    return found


def clipped(box: Sequence[float], width: float, height: float) -> Box | None:
    """The part of a box that is inside the picture."""
    x, y = max(0.0, box[0]), max(0.0, box[1])
    right, lower = min(float(width), box[0] + box[2]), min(float(height), box[1] + box[3])
    return (x, y, right - x, lower - y) if right > x and lower > y else None


def is_known(image_id: Any, images: Mapping[int, Any]) -> bool:
    """Whether there is a picture of this number."""
    return type(image_id) is int and image_id in images


def load(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: It cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a JSON file of COCO's format") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON; give a file of COCO's format, or fetch it again") from None


def entries_of(data: Any, key: str, path: Path) -> list[dict[str, Any]]:
    """A list of the file.

    Raises:
        UserError: It is missing.
    """
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise UserError(f"{path} has no list of {key}; give a file of COCO's format")
    return found


def integer(entry: Mapping[str, Any], key: str, path: Path) -> int:
    """A whole number of an entry.

    Raises:
        UserError: It is none.
    """
    value = entry.get(key)
    if type(value) is not int:
        raise UserError(f"{key} {value!r} in {path} is not a whole number; number the entries")
    return value


def numbers_of(entries: Sequence[Mapping[str, Any]], key: str, count: int, path: Path) -> npt.NDArray[np.float64]:
    """What all entries hold under a key: float64 of shape (entries, count)."""
    rows = np.zeros((len(entries), count))
    lengths: list[str] = []
    values: list[str] = []
    for row, entry in zip(rows, entries, strict=True):
        found = entry.get(key)
        found = found if isinstance(found, list) else [] if found is None else [found]
        if len(found) != count:
            lengths.append(f"entry {entry.get('id')} has {len(found)}")
        elif not all(type(value) in (int, float) and math.isfinite(value) for value in found):
            values.append(f"entry {entry.get('id')}")
        else:
            row[:] = found
    refuse(lengths, path, f"needs {key} of {count} number{'s' * (count > 1)}", "mend these entries")
    refuse(values, path, f"has {key} that are not finite numbers", "mend these entries")
    return rows


def refuse(offenders: Sequence[str], where: Path, what: str, remedy: str) -> None:
    """Raises `UserError` if there are offenders, and names the first of them."""
    if offenders:
        raise UserError(f"{where} {what}: {some(offenders)}; {remedy}")


def some(offenders: Sequence[str]) -> str:
    """The first few, and how many there are."""
    shown = ", ".join(offenders[:_NAMED])
    return f"{shown}, ... ({len(offenders)} in all)" if len(offenders) > _NAMED else shown


def _bytes_of_one(paths: Iterable[Path]) -> int:
    """Memory of the first picture that can be read."""
    for path in paths:
        try:
            width, height = open_picture(path).size
        except BrokenPicture:
            continue
        return 4 * width * height
    return 0
