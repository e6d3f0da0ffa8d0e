"""Places of files of COCO's format: as published, and as Roboflow, CVAT and converters export them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .coco_json import reject_file
from .file_lists import (
    count_noun,
    describe_folder,
    find_child,
    is_system,
    list_folder_images,
    list_folders,
    note_other_files,
    relative_to_root,
    shorten_list,
    split_of,
    unify,
)
from .foreign_formats import describe_foreign, is_labelme, read_head

ROBOFLOW = "_annotations.coco.json"  # in the folder of the images of a split
_KINDS = ("instances", "person_keypoints", "captions", "stuff", "panoptic", "image_info", "labels")
_IMAGE_FOLDERS = ("images", "data")  # of CVAT and Label Studio, and of FiftyOne
_BYTES = re.compile("[\udc80-\udcff]")  # how Python spells bytes of names that are not UTF-8
BESIDE_IMAGES = (".txt", ".yaml", ".yml", ".names", ".data", ".json", ".cache", ".npy", ".xml", ".md", ".csv", ".html")
_TRIED = 20  # listed images by which a folder is chosen


@dataclass(frozen=True)
class AnnotationFile:
    """A JSON file of COCO's format.

    Attributes:
        path: The file.
        folders: Folders that its file names may start from, the likeliest first.
    """

    path: Path
    folders: tuple[Path, ...]


def find_annotations(root: Path, kind: str, what: str, notes: list[str]) -> dict[str, AnnotationFile]:
    """Return the annotations of the parts "train", "val" and "test", or of one part "all".

    Read are annotations/KIND_NAME.json with images in NAME, images/NAME or images (COCO, CVAT);
    NAME/_annotations.coco.json beside its images (Roboflow); and NAME.json in the folder itself, with images beside it
    or in images. NAME tells the part; a single file of another name is all there is.

    Args:
        root: Folder of the data set.
        kind: How names of annotations begin in COCO's layout, e.g. "person_keypoints".
        what: What they annotate, for the error.
        notes: What a person should know is added here.

    Raises:
        UserError: There are none for training, or several for one part.
    """
    files = _published(root, kind) or _exported(root)
    parts: dict[str, AnnotationFile] = {}
    others = []
    for name, file in files:
        part = "all" if len(files) == 1 and split_of_name(name) is None else split_of_name(name)
        if part is None:
            others.append(file.path)
        elif part in parts:
            both = " and ".join(relative_to_root(root, (parts[part].path, file.path)))
            raise UserError(f"{root} has {both}; keep one of them")
        else:
            parts[part] = file
    if not files and (foreign := describe_foreign(root, boxes=kind == _KINDS[0])):
        raise UserError(foreign)
    if not parts.keys() & {"train", "all"}:
        raise UserError(
            f"{root} is not laid out like COCO's {what}: file annotations/{kind}_train2017.json is missing, "
            f"or train/{ROBOFLOW}; {describe_folder(root)}"
        )
    if others:
        names = shorten_list(relative_to_root(root, others), total=True)
        notes.append(f"{count_noun(len(others), 'file')} of annotations of no split, left out: {names}")
    return parts


def is_published(root: Path, kind: str) -> bool:
    """Return whether a folder has annotations where COCO or Roboflow have them; `find_annotations` reads more."""
    return bool(_published(root, kind) or _beside_images(root))


def has_annotations(root: Path, kind: str) -> bool:
    """Return whether a folder has annotations that `find_annotations` reads."""
    return bool(_published(root, kind) or _exported(root))


def split_of_name(name: str) -> str | None:
    """Return the split that a name speaks of, or one of its words: "val" for "valid", "val2017" and "fire_valid"."""
    words = (split for word in re.split(r"[\W_]+", name) if (split := split_of(word)))
    return split_of(name) or next(words, None)


def locate_images(
    file: AnnotationFile, names: Iterable[str], notes: list[str], needed: Collection[str] | None = None
) -> dict[str, Path]:
    """Return the files of listed images.

    A name that is not there as it is spelt is looked for in another Unicode form, with slashes for backslashes, and
    last by its file name alone, if only one image has that.

    Args:
        file: The annotations.
        names: File names that they list.
        notes: What a person should know is added here.
        needed: Names whose files must be there; None for all.

    Raises:
        UserError: A needed image is missing.
    """
    wanted = list(dict.fromkeys(names))
    folder = _image_folder(file, wanted)
    paths = {name: folder / name for name in wanted}
    if lost := [name for name, path in paths.items() if not is_file(path)]:
        images = list_folder_images(folder)
        by_place = {unify_place(path.relative_to(folder).as_posix()): path for path in images}
        by_name: dict[str, list[Path]] = {}
        for path in images:
            by_name.setdefault(unify_place(path.name), []).append(path)
        moved = 0
        for name in lost:
            spelling = unify_place(name)
            # The name as listed, then what of it is left below the folder.
            parts = [part for part in spelling.split("/") if part not in ("", ".")]
            ends = ["/".join(parts[start:]) for start in range(len(parts))]
            same_name = by_name.get(ends[-1], []) if ends else []
            if end := next((end for end in ends if end in by_place), None):
                moved += end != ends[0]
                paths[name] = by_place[end]
            elif len(same_name) == 1:
                paths[name] = same_name[0]
                moved += 1
        if moved:
            notes.append(f"{moved} of {len(wanted)} images of {file.path} are found by their name, in other folders")
    required = wanted if needed is None else [name for name in wanted if name in needed]
    missing = sorted(str(paths[name]) for name in required if not is_file(paths[name]))
    remedy = "give their folder, or fetch them"
    reject_file(missing, folder, f"lacks {len(missing)} of {count_noun(len(required), 'image')}", remedy)
    if len(set(paths.values())) < len(paths):
        raise UserError(f"{file.path} lists an image under two names; keep one entry of each, with all annotations")
    return paths


def note_shared(listed: Mapping[str, Sequence[Path]], notes: list[str]) -> Counter[Path]:
    """Add a note on images that are in several parts; return the number of parts that every image is in."""
    parts_of = Counter(path for paths in listed.values() for path in set(paths))
    if shared := [str(path) for path, count in parts_of.items() if count > 1]:
        names = shorten_list(sorted(shared))
        notes.append(f"{count_noun(len(shared), 'image')} in more than one split, so scores will be too good: {names}")
    return parts_of


def note_images(listed: Mapping[str, Sequence[Path]], notes: list[str]) -> None:
    """Add notes on images that two parts list, and on those beside them that none does.

    Args:
        listed: Images that are listed, by part.
        notes: The notes are added here.
    """
    parts_of = note_shared(listed, notes)
    folders = sorted({path.parent for path in parts_of})
    others: list[Path] = []
    beside = [
        path
        for folder in folders
        if folder.is_dir()
        for path in list_folder_images(folder, below=False, others=others)
        if path not in parts_of
    ]
    note_other_files([p for p in others if p.suffix.lower() not in BESIDE_IMAGES and p not in parts_of], notes)
    if beside:
        names = shorten_list([str(path) for path in beside])
        notes.append(f"{count_noun(len(beside), 'image')} that no annotations list, left out: {names}")


def is_file(path: Path) -> bool:
    """Return whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def unify_place(name: str) -> str:
    """Return a file name in one Unicode form and with slashes; bytes that are no UTF-8 are read as Latin-1."""
    text = _BYTES.sub(lambda match: chr(ord(match.group()) - 0xDC00), name)
    return unify(text.replace("\\", "/"))


def _published(root: Path, kind: str) -> list[tuple[str, AnnotationFile]]:
    """Return names and files of COCO's folder annotations."""
    folder = find_child(root, ("annotations",))
    candidates = list(_json_files(folder)) if folder is not None else []
    chosen = [path for path in candidates if path.stem.lower().startswith(f"{kind}_")] or [
        path for path in candidates if not path.stem.lower().startswith(tuple(f"{other}_" for other in _KINDS))
    ]
    files = []
    for path in chosen:
        name = path.stem[len(kind) + 1 :] if path.stem.lower().startswith(f"{kind}_") else path.stem
        places = [root / name, *(root / images / name for images in _IMAGE_FOLDERS)]
        files.append((name, AnnotationFile(path, (*places, *_split_folders(root, name), root))))
    return files


def _split_folders(root: Path, name: str) -> list[Path]:
    """Return folders that may hold the images of a split, however that is called; then those of all images."""
    images = [root / folder for folder in _IMAGE_FOLDERS]
    folders = [folder for place in (root, *images) if place.is_dir() for folder in list_folders(place)]
    split = split_of_name(name)
    return [folder for folder in folders if split and split_of_name(folder.name) == split] + images


def _exported(root: Path) -> list[tuple[str, AnnotationFile]]:
    """Return names and files of Roboflow's folders, or of files in the folder itself."""
    return _beside_images(root) or [
        (path.stem, AnnotationFile(path, (root / path.stem, *_split_folders(root, path.stem), root)))
        for path in _json_files(root)
        if _may_be_coco(path)
    ]


def _beside_images(root: Path) -> list[tuple[str, AnnotationFile]]:
    """Return names and files of Roboflow's folders."""
    folders = [folder for folder in list_folders(root) if is_file(folder / ROBOFLOW)]
    return [(folder.name, AnnotationFile(folder / ROBOFLOW, (folder,))) for folder in folders]


def _may_be_coco(path: Path) -> bool:
    """Return whether a JSON begins like an object of some other format than labelme's, or cannot be read."""
    head = read_head(path)
    return head is None or (head.lstrip().startswith(b"{") and not is_labelme(head))


def _json_files(folder: Path) -> Iterator[Path]:
    yield from sorted(p for p in folder.iterdir() if p.suffix.lower() == ".json" and not is_system(p.name))


def _image_folder(file: AnnotationFile, names: Sequence[str]) -> Path:
    """Return the folder that has most of some listed images.

    Raises:
        UserError: None of the folders is there.
    """
    tried = names[:: max(1, len(names) // _TRIED)]
    folders = [folder for folder in file.folders if folder.is_dir()]
    counts = [sum(is_file(folder / name) for name in tried) for folder in folders]
    if any(counts):
        return folders[counts.index(max(counts))]
    root = file.folders[-1]  # the data set's own folder, which is always there
    likely = [folder for folder in folders if folder != root or list_folder_images(root, below=False)]
    if not likely:
        wanted = ", or ".join(str(folder.relative_to(root)) for folder in file.folders[:2])
        raise UserError(
            f"{root} has no images of {file.path}: folder {wanted}, is missing; "
            "give the folder of images and annotations"
        )
    return likely[0]
