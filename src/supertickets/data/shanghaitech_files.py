"""Files of ShanghaiTech's layout: images, and the points in them as MATLAB files hold them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from ..errors import UserError
from .box_forms import in_first_pixel
from .file_lists import (
    ENDINGS,
    count_noun,
    describe_folder,
    find_child,
    find_splits,
    index_files,
    list_folders,
    note_other_files,
    relative_to_root,
    shorten_list,
)
from .geometry import Floats
from .mat_file import BadMatFile, Matrix, read_mat
from .preprocessing import BrokenImage, stored_form

_ON_SIDE = range(5, 9)  # orientations of EXIF data that exchange width and height
_LIKE = "train_data/ground-truth/GT_IMG_1.mat for train_data/images/IMG_1.jpg"
_DEPTH = 3  # folders below which a part is looked for
_STRANGE = 0.1  # share of the points outside their image from which on they are those of another one
# Geometry-adaptive Gaussians (MCNN, Zhang et al. 2016): nearest points, factor on their mean distance, and that of one
# point alone, in pixels.
_NEAREST, _FACTOR, _ALONE = 3, 0.3, 15.0


@dataclass(frozen=True, eq=False)
class Crowd:
    """An image and the points in it that are counted.

    Attributes:
        image: File of the image.
        size: Its width and height.
        points: float64 of shape (N, 4): x, y from the upper left corner, and the deviations along x and y of the
            Gaussian that a point becomes; in pixels of the image.
    """

    image: Path
    size: tuple[int, int]
    points: Floats


def find_part(root: Path) -> Path:
    """Return the folder with train_data: the one that is given, or the only one in it.

    Raises:
        UserError: There is none, or there are several.
    """
    folders = [root]
    for _ in range(_DEPTH):
        parts = [folder for folder in folders if "train" in find_splits(folder, [])]
        if len(parts) > 1:
            raise UserError(f"{root} has several parts, {', '.join(relative_to_root(root, parts))}; give one of them")
        if parts:
            return parts[0]
        folders = [below for folder in folders for below in list_folders(folder)]
    raise UserError(
        f"{root} is not laid out like ShanghaiTech: folder train_data is missing; give files like {_LIKE}; "
        f"{describe_folder(root)}"
    )


def read_crowd(files: tuple[Path, Path], sigma: float | None, upright: bool = False) -> tuple[Crowd, int]:
    """Read the points of an image; those outside are moved to its border.

    Args:
        files: The image and its MATLAB file.
        sigma: See ``data.sigma``.
        upright: Whether points are those of the image that EXIF data turn, instead of the stored one.

    Returns:
        The image's points; and how many of them were outside.

    Raises:
        BrokenImage: A file cannot be read, or many points are outside.
    """
    image, truth = files
    points, (stored, turn) = read_points(truth), stored_form(image)
    size = stored[::-1] if upright and turn in _ON_SIDE else stored
    inside = points.clip(0, size)
    outside = int((points != inside).any(1).sum())
    if outside > _STRANGE * len(points):
        swapped = ", as if they were y, x" if _fit(points[:, ::-1], size) else ""
        raise BrokenImage(
            f"{truth} has {outside} of {len(points)} points outside of {image.name}, which is {size[0]} x {size[1]} "
            f"pixels{swapped}; give the points of this image"
        )
    deviations = np.full(len(points), sigma) if sigma else adaptive_sigmas(inside)
    return Crowd(image, size, np.column_stack((inside, deviations, deviations))), outside


def drawn_upright(pairs: Sequence[tuple[Path, Path]], notes: list[str]) -> bool:
    """Return whether points are those of images that EXIF data turn, as they show that only fit those.

    Otherwise they are those of the images as they are stored, as MATLAB reads them.

    Args:
        pairs: Images and their MATLAB files.
        notes: What a person should know of images that do not show it is added here.
    """
    stored = upright = silent = 0
    for image, truth in pairs:
        with contextlib.suppress(BrokenImage):
            size, turn = stored_form(image)
            if turn == 1:
                continue
            fits_stored, fits_upright = (_fit(read_points(truth), size[::step]) for step in (1, -1))
            shows = turn in _ON_SIDE and fits_stored != fits_upright
            silent += not shows
            stored += shows and fits_stored
            upright += shows and fits_upright
    is_upright = upright > 0 == stored
    if silent:
        how = "turned upright" if is_upright else "as they are stored"
        notes.append(
            f"EXIF data turn {count_noun(silent, 'image')} whose points fit both ways: they are taken for points of "
            f"the images {how}"
        )
    return is_upright


def read_points(path: Path) -> Floats:
    """Return the points of a MATLAB file of ShanghaiTech: x, y, float64 of shape (N, 2), as ``image_info`` holds them.

    Raises:
        BrokenImage: It cannot be read, holds something else, or another number of points than it says.
    """
    try:
        points, count = _points_of(read_mat(path))
    except OSError as error:
        raise BrokenImage(f"{path} cannot be read ({error.strerror}); fetch it again") from None
    except BadMatFile as error:
        raise BrokenImage(
            f"{path} holds no points as image_info of ShanghaiTech's MATLAB files (it is {error})"
        ) from None
    if points.ndim != 2 or (points.size and points.shape[1] != 2):
        shape = " x ".join(map(str, points.shape))
        raise BrokenImage(f"{path} holds points of shape {shape}; store a row x, y for every point")
    points = points.reshape(-1, 2)
    if not np.isfinite(points).all():
        raise BrokenImage(f"{path} holds points that are not finite numbers; mend it")
    if count is not None and count != len(points):
        raise BrokenImage(f"{path} says that it has {count:g} points, but holds {len(points)}; mend it")
    return points


def _points_of(variables: Mapping[str, Matrix]) -> tuple[Floats, float | None]:
    """Return the points of a file as they are, and their number as it says, if it does.

    Raises:
        BadMatFile: It holds something else.
    """
    if "image_info" not in variables:
        names = shorten_list(sorted(variables)) or "nothing"
        raise BadMatFile(f"one that holds {names}, not image_info")
    info = variables["image_info"]
    if info.parts and isinstance(info.parts[0], Matrix):
        info = info.parts[0]  # a cell around the structure
    fields = info.parts[0] if info.parts and not isinstance(info.parts[0], Matrix) else {}
    points = fields.get("location", next(iter(fields.values()), None))
    if points is None or points.numbers is None:
        raise BadMatFile("one whose image_info has no numbers as location")
    number = fields.get("number")
    count = number.numbers if number is not None else None
    return points.numbers, float(count.flat[0]) if count is not None and count.size == 1 else None


def adaptive_sigmas(points_N2: Floats) -> Floats:
    """Geometry-adaptive deviations (N,): 0.3 times the mean distance to the three nearest points, at least 1 pixel."""
    near = min(_NEAREST, len(points_N2) - 1)
    if near < 1:
        return np.full(len(points_N2), _ALONE)
    distances = KDTree(points_N2).query(points_N2, near + 1)[0]
    return np.maximum(1.0, _FACTOR * distances[:, 1:].mean(1))


def _mark_of(key: str) -> str:
    """Return the place and name of an image's points, e.g. "a/gt_img_1" for "a/IMG_1"."""
    place, slash, name = key.lower().rpartition("/")
    return f"{place}{slash}gt_{name}"


def _fit(points_N2: Floats, size: tuple[int, ...]) -> bool:
    """Return whether points are inside an image of this width and height, but for a few."""
    outside = (points_N2 != points_N2.clip(0, size)).any(1).sum()
    return bool(outside <= _STRANGE * len(points_N2))


def check_points(crowds: Sequence[Crowd], root: Path) -> None:
    """Check that there are points, and that they are in pixels.

    Raises:
        UserError: There are none, or all look like shares of the image.
    """
    points = np.concatenate([one.points[:, :2] for one in crowds] or [np.empty((0, 2))])
    sizes = np.repeat([one.size for one in crowds], [len(one.points) for one in crowds], 0).reshape(-1, 2)
    if crowds and not len(points):
        raise UserError(f"no training image of {root} has a point; give the points")
    if len(points) and in_first_pixel(points, sizes).all():
        raise UserError(
            f"all points of {root} are in the first pixel of their image, as if in shares of it; "
            "multiply x by the image's width and y by its height"
        )


def find_pairs(folder: Path, notes: list[str]) -> list[tuple[Path, Path]]:
    """Return the images of train_data or test_data and their MATLAB files."""
    image_list = find_child(folder, ("images",))
    truth = find_child(folder, ("ground-truth", "ground_truth"))
    if image_list is None or truth is None:
        missing = "images" if image_list is None else "ground-truth"
        raise UserError(f"{folder} has no folder {missing}; give files like {_LIKE}; {describe_folder(folder)}")
    others: list[Path] = []
    images, marks = index_files(image_list, ENDINGS, others=others), index_files(truth, (".mat",))
    note_other_files(others, notes)
    marks = {key.lower(): path for key, path in marks.items()}
    pairs = {image: marks.pop(_mark_of(key), None) for key, image in images.items()}
    if alone := [image for image, mark in pairs.items() if mark is None]:
        raise UserError(
            f"{folder} has {count_noun(len(alone), 'image')} without points: "
            f"{shorten_list(relative_to_root(folder, alone))}; "
            f"add files like {_LIKE}, or remove the images"
        )
    if marks:
        orphans = shorten_list(relative_to_root(folder, marks.values()))
        notes.append(f"{folder} has {count_noun(len(marks), 'file')} of points without an image, left out: {orphans}")
    return [(image, mark) for image, mark in pairs.items() if mark is not None]
