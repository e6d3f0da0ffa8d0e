"""Layouts of scenes on disk: Cityscapes, ADE20K and VOC as published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .file_lists import (
    Files,
    count_noun,
    describe_folder,
    existing_folder,
    find_entry,
    find_splits,
    index_files,
    index_images,
    list_folders,
    shorten_list,
    split_of,
    unify,
    unwrap_folder,
)
from .segmentation_classes import (
    CITYSCAPES,
    CITYSCAPES_IDS,
    VOC,
    make_layout,
    own_layout,
    read_names,
    text_lines,
    voc_color,
)
from .segmentation_masks import IGNORED, Layout, match_scenes, note_orphans

_ADE20K_CLASSES = 150
_VOC_FOLDERS = ("VOCdevkit/VOC2012", "VOC2012")  # from the folder that is given


def read_cityscapes(root: Path, class_names: Sequence[str] = (), ignore: Sequence[int] = (255,)) -> Layout:
    """Find scenes in the layout of Cityscapes.

    Images are leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png; masks are gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png, or
    NAME_gtFine_labelTrainIds.png if there are no labelIds at all.

    Args:
        root: The folder around these, or one around it.
        class_names: Names of a set's own classes: name n is that of stored label n, from 0. If empty, the lines of
            classes.txt in ``root``; without that file, the labels are those of Cityscapes.
        ignore: Stored labels that neither teach nor count, beside 255, where a set has its own classes.

    Raises:
        UserError: A folder or a mask is missing.
    """
    kind, notes = "Cityscapes", list[str]()
    root = unwrap_folder(existing_folder(root), "leftImg8bit", "gtFine")
    folders = _split_folders(root, "leftImg8bit", "gtFine", kind, notes)
    images = {split: index_images(where, notes, "_leftImg8bit") for split, (where, _) in folders.items()}
    by_tail = {
        tail: {split: index_files(where, (".png",), tail) for split, (_, where) in folders.items()}
        for tail in ("_gtFine_labelIds", "_gtFine_labelTrainIds")
    }
    tail = next((tail for tail, masks in by_tail.items() if any(masks.values())), "_gtFine_labelIds")
    parts = match_scenes(root, images, by_tail[tail], f"gtFine/SPLIT/CITY/NAME{tail}.png", notes)
    if own := class_names or read_names(root):
        return own_layout(own, (*ignore, IGNORED), parts, notes)
    if "test" in parts:
        notes.append("Cityscapes keeps its test labels back: its published masks of test are ignored everywhere")
    if tail.endswith("TrainIds"):
        stored = {index: index for index in range(len(CITYSCAPES))} | {255: IGNORED}
    else:
        # The id -1 of licence plates is 255 where it was written as a byte.
        stored = dict.fromkeys((*range(CITYSCAPES_IDS), 255), IGNORED)
        stored |= {row[0]: index for index, row in enumerate(CITYSCAPES)}
    return make_layout([row[1] for row in CITYSCAPES], [row[2] for row in CITYSCAPES], stored, parts, notes)


def read_ade20k(root: Path, class_names: Sequence[str] = (), ignore: Sequence[int] = (255,)) -> Layout:
    """Find scenes in the layout of ADEChallengeData2016, in that folder or around it.

    Images are images/training/NAME.jpg and images/validation/NAME.jpg, masks annotations/training/NAME.png and so on.
    Stored 0 is ignored; 1 to 150 are the classes, named by objectInfo150.txt if it is there.

    Args:
        root: The folder around these, or one around it.
        class_names: Names of a set's own classes: name n is that of stored label n, from 1 (0 stays ignored). If empty,
            the lines of classes.txt in ``root``; without that file, the classes are those of ADE20K.
        ignore: Stored labels that neither teach nor count, where a set has its own classes.

    Raises:
        UserError: A folder or a mask is missing, or the list of names is not as published.
    """
    notes = list[str]()
    root = unwrap_folder(existing_folder(root), "images", "annotations")
    folders = _split_folders(root, "images", "annotations", "ADE20K", notes, "training")
    images = {split: index_images(where, notes) for split, (where, _) in folders.items()}
    masks = {split: index_files(where, (".png",)) for split, (_, where) in folders.items()}
    parts = match_scenes(root, images, masks, "annotations/SPLIT/NAME.png", notes)
    if own := class_names or read_names(root):
        return own_layout(["", *own], (0, *ignore), parts, notes)
    stored = {0: IGNORED} | {label: label - 1 for label in range(1, _ADE20K_CLASSES + 1)}
    return make_layout(_ade20k_names(root / "objectInfo150.txt"), None, stored, parts, notes)


def read_voc(root: Path, class_names: Sequence[str] = (), ignore: Sequence[int] = (255,)) -> Layout:
    """Find scenes in the layout of VOC2012, in that folder, in VOCdevkit or around it.

    ImageSets/Segmentation/train.txt and val.txt (and test.txt, if its masks are there) list names; images are
    JPEGImages/NAME.jpg, masks SegmentationClass/NAME.png. Stored 255 is ignored.

    Args:
        root: The folder around these, or one around it.
        class_names: Names of a set's own classes: name n is that of stored label n, from 0. If empty, the lines of
            classes.txt or class_names.txt in ``root``; without such a file, the classes are those of VOC.
        ignore: Stored labels that neither teach nor count, beside 255, where a set has its own classes.

    Raises:
        UserError: A folder, a list, an image or a mask is missing.
    """
    kind, notes = "VOC", list[str]()
    around = existing_folder(root)
    root = next((path for name in _VOC_FOLDERS if (path := find_entry(around, name)) is not None), around)
    root = unwrap_folder(root, "JPEGImages", "SegmentationClass")
    wanted = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    image_list, labels, lists = (_require_folder(root, name, kind) for name in wanted)
    images_by_name, masks = index_images(image_list, notes), index_files(labels, (".png",))
    listed = _voc_lists(root, lists, masks, notes)
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
    if own := class_names or read_names(root):
        return own_layout(own, (*ignore, IGNORED), parts, notes)
    stored = {label: label for label in range(len(VOC))} | {255: IGNORED}
    return make_layout(VOC, [voc_color(label) for label in range(len(VOC))], stored, parts, notes)


def _split_folders(
    root: Path, images: str, masks: str, kind: str, notes: list[str], train: str = "train"
) -> dict[str, tuple[Path, Path]]:
    """Return the folders of images and of masks by split; test images without masks are left out."""
    image_list, labels = _require_folder(root, images, kind), _require_folder(root, masks, kind)
    given, labelled = find_splits(image_list, notes), find_splits(labels, notes)
    if not given:
        raise UserError(
            f"{root} is not laid out like {kind}: folder {images}/{train} is missing ({describe_folder(image_list)})"
        )
    if "test" in given and "test" not in labelled:
        notes.append(f"{given.pop('test')} has no masks in {masks}; it is left out")
    if lost := [path.name for split, path in given.items() if split not in labelled]:
        raise UserError(
            f"{root} is not laid out like {kind}: folder {masks}/{lost[0]} is missing ({describe_folder(labels)})"
        )
    if rest := [path.name for path in list_folders(image_list) if split_of(path.name) is None]:
        notes.append(f"{count_noun(len(rest), 'folder')} of {image_list} in no split, left out: {shorten_list(rest)}")
    return {split: (path, labelled[split]) for split, path in given.items()}


def _voc_lists(root: Path, lists: Path, masks: Files, notes: list[str]) -> dict[str, list[str]]:
    """Return the names that the lists of every split give; a test list without masks is left out, as are others."""
    files = {path.stem.lower(): path for path in sorted(lists.iterdir()) if path.suffix.lower() == ".txt"}
    splits = dict[str, list[str]]()
    for stem, path in files.items():
        split = split_of(stem)
        names = sorted({unify(line) for line in text_lines(path)} - {""})
        if split is None or split in splits or (split == "test" and not masks.keys() & set(names)):
            if stem != "trainval":  # both lists in one
                notes.append(f"{path} is not used")
        else:
            splits[split] = names
    if not splits.keys() & {"train", "val"}:
        raise UserError(
            f"{root} is not laid out like VOC: file ImageSets/Segmentation/train.txt is missing "
            f"({describe_folder(lists)})"
        )
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


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


def _ade20k_names(path: Path) -> list[str]:
    """Return first names of the classes, by the table "Idx ... Name"; numbers if there is none."""
    numbers = [str(label) for label in range(1, _ADE20K_CLASSES + 1)]
    if not path.is_file():
        return numbers
    rows = [line.split("\t") for line in text_lines(path)[1:] if line]
    if [row[0].strip() for row in rows] != numbers:
        raise UserError(f"{path} does not list classes 1 to {_ADE20K_CLASSES}; fetch it again or remove it")
    full = [row[-1].strip() for row in rows]
    first = [name.replace(";", ",").split(",")[0].strip() for name in full]
    return [short if first.count(short) == 1 else name for short, name in zip(first, full, strict=True)]


def _require_folder(root: Path, name: str, kind: str) -> Path:
    path = find_entry(root, name)
    if path is None or not path.is_dir():
        raise UserError(f"{root} is not laid out like {kind}: folder {name} is missing ({describe_folder(root)})")
    return path
