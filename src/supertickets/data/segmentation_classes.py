"""Classes of scenes: published ones and a set's own, their stored labels and colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .class_names import check_distinct, check_names, clean_name
from .file_lists import find_entry
from .segmentation_masks import IGNORED, Layout, Scene

Color = tuple[int, int, int]

# Label id, name and colour; the position is the class index.
CITYSCAPES: tuple[tuple[int, str, Color], ...] = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
CITYSCAPES_IDS = 34
VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_NAME_FILES = ("classes.txt", "class_names.txt")  # beside the folders of images; the second one as labelme writes it


def class_colors(classes: Sequence[str]) -> tuple[Color, ...]:
    """Return the published colours of a published list of classes, else distinct ones."""
    if tuple(classes) == tuple(row[1] for row in CITYSCAPES):
        return tuple(row[2] for row in CITYSCAPES)
    if tuple(classes) == VOC:
        return tuple(voc_color(label) for label in range(len(VOC)))
    return spread_colors(len(classes))


def spread_colors(count: int) -> tuple[Color, ...]:
    """Return distinct colours, the first ones the farthest apart; all are far from black and white, 700 at most."""
    steps = np.linspace(0, 255, 9).round()
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    weights = np.array([2.0, 4.0, 3.0])  # the eye tells greens apart best

    def distance(color: Iterable[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return (((grid - np.array(color)) ** 2) * weights).sum(-1)

    nearest = np.minimum(distance((0, 0, 0)), distance((255, 255, 255)))
    colors: list[Color] = []
    for _ in range(count):
        red, green, blue = grid[nearest.argmax()].astype(int).tolist()
        colors.append((red, green, blue))
        nearest = np.minimum(nearest, distance(colors[-1]))
    return tuple(colors)


def make_layout(
    classes: Sequence[str],
    colors: Sequence[Color] | None,
    stored: Mapping[int, int],
    parts: Mapping[str, tuple[Scene, ...]],
    notes: Sequence[str],
) -> Layout:
    """Return the layout of a data set.

    Args:
        classes: Names of the class indices.
        colors: RGB of every class; None for distinct ones.
        stored: Class index of every stored label that may occur.
        parts: Scenes of every split.
        notes: What a person should know, a line each.
    """
    lookup = np.full(256, IGNORED, np.uint8)
    known = np.zeros(256, np.bool_)
    for label, index in stored.items():
        lookup[label], known[label] = index, True
    for table in (lookup, known):
        table.flags.writeable = False
    painted = spread_colors(len(classes)) if colors is None else tuple(colors)
    return Layout(tuple(classes), painted, lookup, known, parts, tuple(notes))


def voc_color(label: int) -> Color:
    """Return the colour of a label of VOC.

    Bits 0, 3 and 6 of the label are the highest of red, bits 1 and 4 of green, bits 2 and 5 of blue.
    """
    red, green, blue = (sum((label >> 3 * place + part & 1) << 7 - place for place in range(3)) for part in range(3))
    return red, green, blue


def read_names(root: Path) -> list[str]:
    """Return the lines of classes.txt or class_names.txt in a folder: the names of stored labels; none if it has none.

    Raises:
        UserError: A line is empty, or the file is no text.
    """
    entries = (find_entry(root, name) for name in _NAME_FILES)
    path = next((path for path in entries if path is not None and path.is_file()), None)
    if path is None:
        return []
    lines = text_lines(path)
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise UserError(f"line {lines.index('') + 1} of {path} is empty; every line names the next label, from 0")
    return [clean_name(line) for line in lines]


def own_layout(
    names: Sequence[str], ignore: Sequence[int], parts: Mapping[str, tuple[Scene, ...]], notes: Sequence[str]
) -> Layout:
    """Return the layout of a set with its own classes: name n is that of stored label n."""
    classes, stored = numbered_names(names, ignore)
    return make_layout(classes, None, stored, parts, notes)


def numbered_names(names: Sequence[str], ignore: Sequence[int]) -> tuple[list[str], dict[int, int]]:
    """Return class names without those of ignored labels, and stored label -> class index."""
    if strange := [label for label in ignore if not 0 <= label <= 255]:
        raise UserError(f"label {strange[0]} cannot be ignored: stored labels are 0 to 255")
    check_distinct(names)
    labels = [label for label in range(len(names)) if label not in ignore]
    check_names([names[label] for label in labels])
    if not 2 <= len(labels) <= IGNORED or len(names) > 256:
        raise UserError(f"{len(names)} class names leave {len(labels)} classes that are not ignored; give 2 to 255")
    stored = dict.fromkeys(ignore, IGNORED) | {label: index for index, label in enumerate(labels)}
    return [names[label] for label in labels], stored


def text_lines(path: Path) -> list[str]:
    """Return the lines of a text, without blanks around them.

    Raises:
        UserError: It is not UTF-8.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; write it again") from None
