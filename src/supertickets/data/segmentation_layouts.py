"""Layouts of scenes on disk: Cityscapes, ADE20K and VOC as published, and any folders of images and masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .file_lists import ENDINGS, SPLITS, count_noun, find_child, index_files, relative_to_root, shorten_list
from .segmentation_masks import IGNORED, Layout, Scene, match_scenes, note_orphans

Color = tuple[int, int, int]

_MASK_FOLDERS = ("masks", "labels", "annotations")

# Label id, name and colour; the position is the class index.
_CITYSCAPES: tuple[tuple[int, str, Color], ...] = (
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
_CITYSCAPES_IDS = 34
_ADE20K_CLASSES = 150
_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def read_cityscapes(root: Path) -> Layout:
    """Find scenes in the layout of Cityscapes.

    Images are leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png; masks are gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png, or
    NAME_gtFine_labelTrainIds.png if there are no labelIds at all.

    Raises:
        UserError: A folder or a mask is missing.
    """
    kind, notes = "Cityscapes", list[str]()
    image_list, labels = (_require_folder(_root(root), name, kind) for name in ("leftImg8bit", "gtFine"))
    splits = [split for split in SPLITS if (image_list / split).is_dir()]
    if not splits:
        raise UserError(f"{root} is not laid out like Cityscapes: folder leftImg8bit/train is missing")
    if "test" in splits and not (labels / "test").is_dir():
        notes.append(f"{image_list / 'test'} has no masks in gtFine/test; it is left out")
        splits.remove("test")
    folders = {split: _require_folder(root, f"gtFine/{split}", kind) for split in splits}
    images = {split: index_files(image_list / split, ENDINGS, "_leftImg8bit") for split in splits}
    by_tail = {
        tail: {split: index_files(folder, (".png",), tail) for split, folder in folders.items()}
        for tail in ("_gtFine_labelIds", "_gtFine_labelTrainIds")
    }
    tail = next((tail for tail, masks in by_tail.items() if any(masks.values())), "_gtFine_labelIds")
    if tail.endswith("TrainIds"):
        stored = {index: index for index in range(len(_CITYSCAPES))} | {255: IGNORED}
    else:
        # The id -1 of licence plates is 255 where it was written as a byte.
        stored = dict.fromkeys((*range(_CITYSCAPES_IDS), 255), IGNORED)
        stored |= {row[0]: index for index, row in enumerate(_CITYSCAPES)}
    parts = match_scenes(root, images, by_tail[tail], f"gtFine/SPLIT/CITY/NAME{tail}.png", notes)
    if "test" in parts:
        notes.append("Cityscapes keeps its test labels back: its published masks of test are ignored everywhere")
    return make_layout([row[1] for row in _CITYSCAPES], [row[2] for row in _CITYSCAPES], stored, parts, notes)


def read_ade20k(root: Path) -> Layout:
    """Find scenes in the layout of ADEChallengeData2016, in that folder or around it.

    Images are images/training/NAME.jpg and images/validation/NAME.jpg, masks annotations/training/NAME.png and so on.
    Stored 0 is ignored; 1 to 150 are the classes, named by objectInfo150.txt if it is there.

    Raises:
        UserError: A folder or a mask is missing, or the list of names is not as published.
    """
    kind, notes = "ADE20K", list[str]()
    root = _root(root, "ADEChallengeData2016")
    image_list = _require_folder(root, "images", kind)
    _require_folder(root, "annotations", kind)
    names = {"train": "training", "val": "validation"}
    names = {split: name for split, name in names.items() if (image_list / name).is_dir()}
    if not names:
        raise UserError(f"{root} is not laid out like ADE20K: folder images/training is missing")
    masks = {
        split: index_files(_require_folder(root, f"annotations/{name}", kind), (".png",))
        for split, name in names.items()
    }
    images = {split: index_files(image_list / name, ENDINGS) for split, name in names.items()}
    stored = {0: IGNORED} | {label: label - 1 for label in range(1, _ADE20K_CLASSES + 1)}
    parts = match_scenes(root, images, masks, "annotations/SPLIT/NAME.png", notes)
    return make_layout(_ade20k_names(root / "objectInfo150.txt"), None, stored, parts, notes)


def read_voc(root: Path) -> Layout:
    """Find scenes in the layout of VOC2012, in that folder, in VOCdevkit or around it.

    ImageSets/Segmentation/train.txt and val.txt list names; images are JPEGImages/NAME.jpg, masks
    SegmentationClass/NAME.png. Stored 255 is ignored.

    Raises:
        UserError: A folder, a list, an image or a mask is missing.
    """
    kind, notes = "VOC", list[str]()
    root = _root(root, "VOCdevkit/VOC2012", "VOC2012")
    wanted = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    image_list, labels, lists = (_require_folder(root, name, kind) for name in wanted)
    files = {split: path for split in ("train", "val") if (path := lists / f"{split}.txt").is_file()}
    if not files:
        raise UserError(f"{root} is not laid out like VOC: file ImageSets/Segmentation/train.txt is missing")
    listed = {split: sorted(set(_lines(path)) - {""}) for split, path in files.items()}
    images_by_name, masks = index_files(image_list, ENDINGS), index_files(labels, (".png",))
    lost = [name for names in listed.values() for name in names if name not in images_by_name]
    if lost:
        raise UserError(
            f"{root} lacks {count_noun(len(lost), 'image')} that its lists name: "
            f"{shorten_list([f'JPEGImages/{name}.jpg' for name in lost])}; fetch the data set again"
        )
    note_orphans(root, masks, images_by_name, notes)
    images = {split: {name: images_by_name[name] for name in names} for split, names in listed.items()}
    masks_of = {split: {name: masks[name] for name in names if name in masks} for split, names in listed.items()}
    parts = match_scenes(root, images, masks_of, "SegmentationClass/NAME.png", notes)
    stored = {label: label for label in range(len(_VOC))} | {255: IGNORED}
    return make_layout(_VOC, [_voc_color(label) for label in range(len(_VOC))], stored, parts, notes)


def read_pairs(root: Path, class_names: Sequence[str] = (), ignore: Sequence[int] = (255,)) -> Layout:
    """Find scenes in folders of images and of masks with the same names.

    The folders are SPLIT beside SPLITannot (CamVid), images/SPLIT with masks/SPLIT, or images with masks, which are
    then one part "all". The masks may also be in "labels" or "annotations".

    Args:
        root: Where the folders are.
        class_names: Name n is that of stored label n, from 0. If empty, the lines of classes.txt in ``root``.
        ignore: Stored labels that neither teach nor count; if they have names, these are no classes.

    Raises:
        UserError: A folder, a mask or the class names are missing, or the names are impossible.
    """
    notes: list[str] = []
    root = _root(root)
    names, stored = _numbered_names(class_names or _read_names(root), ignore)
    folders, like = _pair_folders(root, notes)
    images = {split: index_files(where, ENDINGS) for split, (where, _) in folders.items()}
    masks = {split: index_files(where, ENDINGS) for split, (_, where) in folders.items()}
    others = [path for files in masks.values() for path in files.values() if path.suffix.lower() != ".png"]
    if others:
        raise UserError(
            f"{root} has {count_noun(len(others), 'mask')} in other formats than PNG: "
            f"{shorten_list(relative_to_root(root, others))}; "
            "store class numbers as PNG, which keeps them exact"
        )
    return make_layout(names, None, stored, match_scenes(root, images, masks, like, notes), notes)


def class_colors(classes: Sequence[str]) -> tuple[Color, ...]:
    """Return the published colours of a published list of classes, else distinct ones."""
    if tuple(classes) == tuple(row[1] for row in _CITYSCAPES):
        return tuple(row[2] for row in _CITYSCAPES)
    if tuple(classes) == _VOC:
        return tuple(_voc_color(label) for label in range(len(_VOC)))
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


def _pair_folders(root: Path, notes: list[str]) -> tuple[dict[str, tuple[Path, Path]], str]:
    """Folders of images and of masks by split, and what a mask is called."""
    beside = {
        split: (find_child(root, names), find_child(root, [f"{name}annot" for name in names]))
        for split, names in SPLITS.items()
    }
    images = find_child(root, ("images",))
    if any(masks for _, masks in beside.values()):
        return {
            s: _paired_files(root, s, pair, f"{s}annot") for s, pair in beside.items() if any(pair)
        }, "SPLITannot/NAME.png"
    if images is None:
        split = next((split for split, (child, _) in beside.items() if child), None)
        gone = "folder images" if split is None else f"folder {split}annot, or images,"
        raise UserError(
            f"{root} is no layout of images and masks: {gone} is missing; give images beside masks, "
            "or train beside trainannot"
        )
    masks = next((child for name in _MASK_FOLDERS if (child := find_child(root, (name,)))), None)
    if masks is None:
        raise UserError(f"{root} has a folder images but no folder masks, labels or annotations; add the masks")
    pairs = {split: (find_child(images, names), find_child(masks, names)) for split, names in SPLITS.items()}
    if not any(child for child, _ in pairs.values()):
        return {"all": (images, masks)}, f"{masks.name}/NAME.png"
    used = {child for child, _ in pairs.values()}
    if rest := sorted(path.name for path in images.iterdir() if path not in used and not path.name.startswith(".")):
        notes.append(
            f"{images} has {count_noun(len(rest), 'entry', 'entries')} in no split, left out: {shorten_list(rest)}"
        )
    both = {split: _paired_files(images, split, pair, split, masks) for split, pair in pairs.items() if any(pair)}
    return both, f"{masks.name}/SPLIT/NAME.png"


def _paired_files(
    root: Path, split: str, pair: tuple[Path | None, Path | None], name: str, other: Path | None = None
) -> tuple[Path, Path]:
    images, masks = pair
    if images is None or masks is None:
        gone = root / split if images is None else (other or root) / name
        raise UserError(f"folder {gone} is missing; images and masks need a folder each for every split")
    return images, masks


def _numbered_names(names: Sequence[str], ignore: Sequence[int]) -> tuple[list[str], dict[int, int]]:
    """Return class names without those of ignored labels, and stored label -> class index."""
    if strange := [label for label in ignore if not 0 <= label <= 255]:
        raise UserError(f"label {strange[0]} cannot be ignored: stored labels are 0 to 255")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"class name '{twice[0]}' is given twice; every class needs a name of its own")
    labels = [label for label in range(len(names)) if label not in ignore]
    if not 2 <= len(labels) <= IGNORED or len(names) > 256:
        raise UserError(f"{len(names)} class names leave {len(labels)} classes that are not ignored; give 2 to 255")
    stored = dict.fromkeys(ignore, IGNORED) | {label: index for index, label in enumerate(labels)}
    return [names[label] for label in labels], stored


def _read_names(root: Path) -> list[str]:
    path = root / "classes.txt"
    if not path.is_file():
        raise UserError(
            f"the classes of {root} have no names; give them as data.class_names, or write them to {path}, "
            "one per line, that of label 0 first"
        )
    lines = _lines(path)
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise UserError(f"line {lines.index('') + 1} of {path} is empty; every line names the next label, from 0")
    return lines


def _ade20k_names(path: Path) -> list[str]:
    """Return first names of the classes, by the table "Idx ... Name"; numbers if there is none."""
    numbers = [str(label) for label in range(1, _ADE20K_CLASSES + 1)]
    if not path.is_file():
        return numbers
    rows = [line.split("\t") for line in _lines(path)[1:] if line]
    if [row[0].strip() for row in rows] != numbers:
        raise UserError(f"{path} does not list classes 1 to {_ADE20K_CLASSES}; fetch it again or remove it")
    full = [row[-1].strip() for row in rows]
    first = [name.replace(";", ",").split(",")[0].strip() for name in full]
    return [short if first.count(short) == 1 else name for short, name in zip(first, full, strict=True)]


def _voc_color(label: int) -> Color:
    """Return bits 0, 3 and 6 of the label are the highest of red, bits 1 and 4 of green, bits 2 and 5 of blue."""
    red, green, blue = (sum((label >> 3 * place + part & 1) << 7 - place for place in range(3)) for part in range(3))
    return red, green, blue


def _root(root: Path, *below: str) -> Path:
    if not root.is_dir():
        raise UserError(f"data folder {root} does not exist; give the folder of the data set")
    return next((root / name for name in below if (root / name).is_dir()), root)


def _require_folder(root: Path, name: str, kind: str) -> Path:
    if not (root / name).is_dir():
        raise UserError(f"{root} is not laid out like {kind}: folder {name} is missing")
    return root / name


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; write it again") from None
