"""Files and folders by their names: lists, children, splits, and how messages name them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..config.recipe import DataSettings
from ..errors import UserError, printable

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"),
    *(".jp2", ".avif"),
)

# Words for a split, in any case: alone, behind "seg_" and the like, or before "set", "data", a year ...
_SPLIT_WORDS = {
    "train": "train|training|trn",
    "val": "val|valid|validation|validate|eval|evaluation|dev|development",
    "test": "test|testing|tst",
}
_SPLIT_NAMES = {
    split: re.compile(
        rf"(?:(?:seg|img|images?|data|dataset)[-_ ]?)?(?:{words})(?:[-_ ]?(?:set|data|split|images?|imgs|\d{{1,4}}))?"
    )
    for split, words in _SPLIT_WORDS.items()
}
# What operating systems and network drives leave behind, beside names that begin with a dot.
_SYSTEM_NAMES = frozenset(
    (
        *("__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "__pycache__", "icon\r"),
    )
)
_SHOWN = 3  # files that an error names


def data_folder(settings: DataSettings, what: str) -> Path:
    """Return the folder that the settings name.

    Raises:
        UserError: There is none, or it is that of the whole file system; ``what`` says what it should be.
    """
    if settings.dir is None:
        raise UserError(f"this recipe reads {what}: say where it is with --data DIR")
    folder = Path(settings.dir)
    if not folder.is_dir():
        raise UserError(f"data folder {folder} {_why_no_folder(folder)}; give {what}")
    if os.path.realpath(folder) == folder.anchor:
        raise UserError(f"data folder {folder} is the whole file system; give {what}")
    if not _visible_entries(folder):
        raise UserError(f"data folder {folder} is empty; give {what}")
    return folder


def existing_folder(root: Path) -> Path:
    """Return a data folder.

    Raises:
        UserError: It does not exist.
    """
    if not root.is_dir():
        raise UserError(f"data folder {root} {_why_no_folder(root)}; give the folder of the data set")
    return root


def _why_no_folder(path: Path) -> str:
    return "is a file" if path.exists() else "does not exist"


def list_images(words: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return files as given, one or several, and of folders all images in and below them.

    Raises:
        UserError: A folder holds no image.
    """
    images: list[Path] = []
    for path in map(Path, [words] if isinstance(words, str | Path) else words):
        if path.is_dir() and not list_folder_images(path):
            raise UserError(f"folder {path} holds no images; give one with {', '.join(ENDINGS[:4])} ... files")
        images += list_folder_images(path) if path.is_dir() else [path]
    return images


def find_child(root: Path, names: Sequence[str]) -> Path | None:
    """Return the folder in a folder that has one of some names, in upper or lower case."""
    return next((path for path in list_folders(root) if path.name.lower() in names), None)


def unwrap_folder(root: Path, *names: str) -> Path:
    """Return the folder that has one of some entries: the given one, or one below, as unpacked archives have it.

    Only folders that are alone in theirs are entered. Where none has them, the given one is returned.
    """
    return unwrap_until(root, lambda folder: any(find_entry(folder, name) for name in names))


def unwrap_until(root: Path, fits: Callable[[Path], bool]) -> Path:
    """Return the first folder that fits; see `unwrap_folder`."""
    folder = root
    while not fits(folder):
        inside = list_folders(folder)
        if len(inside) != 1:
            return root
        (folder,) = inside
    return folder


def find_entry(root: Path, name: str) -> Path | None:
    """Return the file or folder at a place below a folder, in upper or lower case and any Unicode spelling."""
    path = root
    for part in PurePosixPath(name).parts:
        below = path / part
        if not below.exists():
            if not path.is_dir():
                return None
            same = (entry for entry in sorted(path.iterdir()) if _fold(entry.name) == _fold(part))
            if (entry := next(same, None)) is None:
                return None
            below = entry
        path = below
    return path


def list_files(folder: Path, *endings: str) -> list[Path]:
    """Return the files in a folder with some endings (given in lower case, found in any), sorted; none without it."""
    if not folder.is_dir():
        return []
    return [path for path in _visible_paths(folder) if path.suffix.lower() in endings and not path.is_dir()]


def split_of(name: str) -> str | None:
    """Return the split that a folder's name speaks of: "train", "val" or "test"; None if it is no such name.

    Known are the usual words in any case, also with what is often added: ``seg_train``, ``training_set``,
    ``val2017``, ``Validation``, ``dev``.
    """
    return next((split for split, names in _SPLIT_NAMES.items() if names.fullmatch(name.lower())), None)


def find_splits(root: Path, notes: list[str]) -> dict[str, Path]:
    """Return the folders of splits in a folder, by "train", "val" and "test"; of two for one split, one is used.

    Args:
        root: Where to look.
        notes: A folder that is not used is noted here.
    """
    splits: dict[str, Path] = {}
    # The plainest name first.
    for path in sorted(list_folders(root), key=lambda path: (path.name.lower() not in _SPLIT_WORDS, path.name)):
        if (split := split_of(path.name)) is None:
            continue
        if split in splits:
            notes.append(f"folder {path} is not used: {splits[split].name} is the {split} split")
        else:
            splits[split] = path
    return {split: splits[split] for split in _SPLIT_WORDS if split in splits}


Files = dict[str, Path]  # by what an image and its mask have in common


def index_files(folder: Path, endings: Sequence[str], tail: str = "", others: list[Path] | None = None) -> Files:
    """Return files below a folder by their place and name, less ``tail`` and ending, in one Unicode spelling (NFC).

    Args:
        folder: Where to look; see `walk_files`.
        endings: Endings that count, in lower case.
        tail: What the names of files end with, without their ending; all others are passed over.
        others: Files with other endings are added here.

    Raises:
        UserError: Two files have the same place and name.
    """
    files: Files = {}
    for path in sorted(walk_files(folder)):
        stem, ending = os.path.splitext(path.name)
        if ending.lower() not in endings:
            if others is not None:
                others.append(path)
            continue
        if not stem.lower().endswith(tail.lower()):
            continue
        key = unify((path.parent.relative_to(folder) / stem[: len(stem) - len(tail)]).as_posix())
        if key in files:
            raise UserError(
                f"{files[key]} and {path.name} differ in their endings or Unicode spelling only; remove one of them"
            )
        files[key] = path
    return files


def index_images(folder: Path, notes: list[str], tail: str = "") -> Files:
    """Return images below a folder as `index_files` does; files with other endings are noted."""
    others: list[Path] = []
    images = index_files(folder, ENDINGS, tail, others)
    note_other_files(others, notes)
    return images


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the files in and below a folder; links are followed, every folder is entered once.

    Hidden files and folders are passed over, and what systems leave behind (thumbnails, ``__MACOSX``, ``@eaDir``).
    What leads nowhere is a file.

    Raises:
        UserError: A folder cannot be read, or a link leads to a folder around the given one or around itself.
    """
    ahead, linked = deque([folder]), deque[Path]()  # links last, so that a folder is known by its own name
    entered = set[tuple[int, int]]()
    while ahead or linked:
        where = ahead.popleft() if ahead else linked.popleft()
        try:
            status = where.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(where) as entries:
                inside = [entry for entry in entries if not is_system(entry.name)]
        except OSError as error:
            raise UserError(f"folder {where} cannot be read ({error.strerror}); let it be read, or remove it") from None
        for entry in inside:
            if not _is_folder(entry):
                yield where / entry.name
            elif entry.is_symlink():
                linked.append(refuse_loop(where / entry.name, folder))
            else:
                ahead.append(where / entry.name)


def refuse_loop(link: Path, *starts: Path, itself: bool = False) -> Path:
    """Return a linked folder.

    Args:
        link: The folder, which may be no link.
        starts: Folders from which it is come upon, beside the one that it is in.
        itself: Whether the folder that the link is in is refused too.

    Raises:
        UserError: It holds one of those folders: read again, their files would be in two places.
    """
    if not link.is_symlink():
        return link
    target = Path(os.path.realpath(link))
    inside = [Path(os.path.realpath(place)) for place in (link.parent, *starts)]
    if any(target in place.parents or (itself and place == target) for place in inside):
        raise UserError(f"{link} is a link to {target}, a folder that it is in; remove the link")
    return link


def is_system(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that systems leave behind."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def unify(name: str) -> str:
    """Return a name in the one spelling that names are compared in (Unicode's NFC)."""
    return unicodedata.normalize("NFC", name)


def encode_names(names: Iterable[str]) -> bytes:
    """Return names as bytes, for a digest; also those that are not UTF-8."""
    return "\0".join(names).encode("utf-8", "surrogateescape")


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return what names are sorted by, so that 2 comes before 10: numbers in them by their value."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name


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


def describe_folder(folder: Path) -> str:
    """Return what is in a folder, for an error that says what should be, e.g. "there are images, labels, a.txt"."""
    names = _visible_entries(folder)
    verb = "is" if len(names) == 1 else "are"
    return f"there {verb} {printable(shorten_list(names, total=True))}" if names else "it is empty"


def count_endings(files: Iterable[Path]) -> str:
    """Return how many files have which ending, e.g. "3 .heic, 1 without ending"."""
    counts = Counter(path.suffix.lower() for path in files)
    shown = [f"{count} {ending or 'without ending'}" for ending, count in counts.most_common()]
    return shorten_list(shown)


def note_other_files(others: Sequence[Path], notes: list[str]) -> None:
    """Add a note about files that are left out, since their endings are not those of images."""
    if others:
        notes.append(
            f"{count_noun(len(others), 'file')} with other endings than those of images left out: "
            f"{count_endings(others)} ({shorten_list([str(path) for path in others[:1]])})"
        )


def list_folder_images(folder: Path, *, below: bool = True, others: list[Path] | None = None) -> list[Path]:
    """Return image files by their ending, sorted; see `walk_files`.

    Args:
        folder: Where to look.
        below: Whether to look into the folders in it.
        others: Files with other endings are added here.
    """
    if not folder.is_dir():
        return []
    files = walk_files(folder) if below else (path for path in _visible_paths(folder) if not path.is_dir())
    images: list[Path] = []
    for path in files:
        if path.suffix.lower() in ENDINGS:
            images.append(path)
        elif others is not None:
            others.append(path)
    return sorted(images)


def holds_images(folder: Path) -> bool:
    """Return whether an image, by its ending, is in a folder or below it."""
    return any(path.suffix.lower() in ENDINGS for path in walk_files(folder))


def list_folders(root: Path) -> list[Path]:
    """Return the folders in a folder, sorted; hidden ones and those that systems leave behind are passed over.

    Raises:
        UserError: The folder cannot be read, or one in it is a link to a folder around it.
    """
    return [refuse_loop(path) for path in _visible_paths(root) if path.is_dir()]


def _visible_paths(folder: Path) -> list[Path]:
    return [folder / name for name in _visible_entries(folder)]


def _visible_entries(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not is_system(name))
    except OSError as error:
        raise UserError(f"folder {folder} cannot be read ({error.strerror}); let it be read") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to what may not be read
        return False


def _fold(name: str) -> str:
    return unify(name).casefold()
