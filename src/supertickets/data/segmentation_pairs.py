"""Any folders of images and of masks with the same names, as scenes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .file_lists import (
    ENDINGS,
    count_noun,
    describe_folder,
    existing_folder,
    find_child,
    find_splits,
    index_files,
    index_images,
    is_system,
    list_folders,
    relative_to_root,
    shorten_list,
    split_of,
    unwrap_until,
)
from .preprocessing import BrokenImage
from .segmentation_classes import make_layout, numbered_names, read_names
from .segmentation_masks import BadMask, Layout, Scene, match_scenes, stored_labels

_MASK_FOLDERS = ("masks", "labels", "annotations")
_ANNOTATIONS = re.compile(r"(.+?)[-_ ]?(?:annots?|annotations?|masks?|labels?)")
_LOOKED_AT = 64  # masks that tell whether labels are 0 and 255

FolderPair = tuple[Path, Path]


def read_pairs(root: Path, class_names: Sequence[str] = (), ignore: Sequence[int] = (255,)) -> Layout:
    """Find scenes in folders of images and of masks with the same names.

    The folders are SPLIT beside SPLITannot (CamVid), SPLIT/images with SPLIT/masks, images/SPLIT with masks/SPLIT, or
    images with masks, which are then one part "all". The masks may also be in "labels" or "annotations".

    Args:
        root: Where the folders are, or one around it.
        class_names: Name n is that of stored label n, from 0. If empty, the lines of classes.txt in ``root``.
        ignore: Stored labels that neither teach nor count; if they have names, these are no classes. Of two classes
            without 255 among these, masks may hold 0 and 255.

    Raises:
        UserError: A folder, a mask or the class names are missing, or the names are impossible.
    """
    notes: list[str] = []
    root = unwrap_until(existing_folder(root), _has_pairs)
    names = class_names or read_names(root)
    if not names:
        raise UserError(
            f"the classes of {root} have no names; give them as data.class_names, or write them to "
            f"{root / 'classes.txt'}, one per line, that of label 0 first"
        )
    folders, like = _pair_folders(root, notes)
    images = {split: index_images(where, notes) for split, (where, _) in folders.items()}
    masks = {split: index_files(where, ENDINGS) for split, (_, where) in folders.items()}
    wrong = [path for files in masks.values() for path in files.values() if path.suffix.lower() != ".png"]
    if wrong:
        raise UserError(
            f"{root} has {count_noun(len(wrong), 'mask')} in other formats than PNG: "
            f"{shorten_list(relative_to_root(root, wrong))}; "
            "store class numbers as PNG, which keeps them exact"
        )
    parts = match_scenes(root, images, masks, like, notes)
    classes, stored = numbered_names(names, ignore)
    if len(names) == 2 and 255 not in ignore and _hold_0_and_255(parts):
        notes.append(f"masks hold 0 and 255: 0 is '{names[0]}', 255 is '{names[1]}'")
        stored = {0: stored[0], 255: stored[1]}
    return make_layout(classes, None, stored, parts, notes)


def _pair_folders(root: Path, notes: list[str]) -> tuple[dict[str, FolderPair], str]:
    """Return folders of images and of masks by split, and what a mask is called."""
    annotated = {
        split: path
        for path in list_folders(root)
        if (match := _ANNOTATIONS.fullmatch(path.name.lower())) and (split := split_of(match[1]))
    }
    splits = find_splits(root, notes) if annotated or find_child(root, ("images",)) is None else {}
    if annotated:
        names = list(splits | annotated)
        return {s: _both(root, splits.get(s), annotated.get(s), s, f"{s}annot") for s in names}, "SPLITannot/NAME.png"
    inside = {split: (find_child(path, ("images",)), _mask_folder(path)) for split, path in splits.items()}
    if any(all(pair) for pair in inside.values()):
        pairs = {s: _both(splits[s], *pair, "images", "masks") for s, pair in inside.items()}
        return pairs, "SPLIT/masks/NAME.png"
    images, masks = find_child(root, ("images",)), _mask_folder(root)
    if images is None:
        split = next(iter(splits), None)
        gone = "folder images" if split is None else f"folder {split}annot, or images,"
        raise UserError(
            f"{root} is no layout of images and masks: {gone} is missing ({describe_folder(root)}); give images beside "
            "masks, or train beside trainannot"
        )
    if masks is None:
        raise UserError(
            f"{root} has a folder images but no folder masks, labels or annotations ({describe_folder(root)}); "
            "add the masks"
        )
    return _pairs_by_split(images, masks, notes)


def _pairs_by_split(images: Path, masks: Path, notes: list[str]) -> tuple[dict[str, FolderPair], str]:
    """Return images/SPLIT with masks/SPLIT; of folders without splits, both as one part."""
    given, labelled = find_splits(images, notes), find_splits(masks, notes)
    if not given and not labelled:
        return {"all": (images, masks)}, f"{masks.name}/NAME.png"
    rest = [name for path in images.iterdir() if path not in given.values() and not is_system(name := path.name)]
    if rest := sorted(name for name in rest if split_of(name) is None):
        notes.append(
            f"{images} has {count_noun(len(rest), 'entry', 'entries')} in no split, left out: {shorten_list(rest)}"
        )
    both: dict[str, FolderPair] = {
        split: _both(images, given.get(split), labelled.get(split), split, split, masks)
        for split in ("train", "val", "test")
        if split in given or split in labelled
    }
    return both, f"{masks.name}/SPLIT/NAME.png"


def _both(
    root: Path, images: Path | None, masks: Path | None, image_name: str, mask_name: str, other: Path | None = None
) -> FolderPair:
    if images is None or masks is None:
        gone = root / image_name if images is None else (other or root) / mask_name
        raise UserError(f"folder {gone} is missing; images and masks need a folder each for every split")
    return images, masks


def _mask_folder(root: Path) -> Path | None:
    return next((child for name in _MASK_FOLDERS if (child := find_child(root, (name,)))), None)


def _has_pairs(root: Path) -> bool:
    return any(path.name.lower() == "images" or split_of(path.name) for path in list_folders(root))


def _hold_0_and_255(parts: Mapping[str, Sequence[Scene]]) -> bool:
    """Return whether some masks, spread over all, hold 255 and nothing else but 0."""
    scenes = [scene for part in parts.values() for scene in part]
    labels: set[int] = set()
    for scene in scenes[:: -(-len(scenes) // _LOOKED_AT)]:
        with contextlib.suppress(BrokenImage, BadMask):
            labels |= set(np.unique(stored_labels(scene.mask)).tolist())
    return 255 in labels <= {0, 255}
