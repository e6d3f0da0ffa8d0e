"""Annotations of images that EXIF data turn: drawn on the images as they are stored, or on upright ones."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .file_lists import count_noun
from .preprocessing import BrokenImage, stored_form, without_warnings

_LOOKED_AT = 4096  # images of a set whose heads are read

Size = tuple[int, int]


def drawn_as_stored(sizes: Mapping[Path, Size], what: str, notes: list[str]) -> bool:
    """Return whether annotations are those of the images as they are stored.

    An image that is turned by a quarter shows it by its size. One that is mirrored, upside down or square does not:
    it follows the others of its set. Where none shows it, or they differ, annotations are taken to be drawn upright.

    Args:
        sizes: The images, and the width and height that their annotations are for.
        what: What is drawn on them, for the note: "masks", "boxes".
        notes: What a person should know is added here.
    """
    votes = Counter(_votes(sizes))
    if not votes["silent"]:
        return False
    stored = votes["stored"] > 0 == votes["upright"]
    many = count_noun(votes["silent"], "image")
    how = "as they are stored" if stored else "turned upright"
    if bool(votes["stored"]) != bool(votes["upright"]):
        why = f"as {votes['stored'] or votes['upright']} others of the set show by their size"
    else:
        why = "for no other image shows how" if not votes["stored"] else "though the others of the set differ"
    notes.append(
        f"EXIF data mirror or turn {many} without changing the sides: their {what} are taken to be drawn on them "
        f"{how}, {why}" + ("" if stored else f"; if the {what} were drawn on the stored images, remove the EXIF data")
    )
    return stored


def _votes(sizes: Mapping[Path, Size]) -> Iterator[str]:
    """Yield what each image that EXIF data turn shows: "stored", "upright", or nothing ("silent")."""
    paths = list(sizes)
    paths = paths[:: -(-len(paths) // _LOOKED_AT) or 1]
    with without_warnings(), ThreadPoolExecutor() as pool:
        for path, form in zip(paths, pool.map(_form, paths), strict=True):
            if form is None or form[1] == 1:
                continue
            size, orientation = form
            if orientation < 5 or size[0] == size[1]:
                yield "silent"
            elif sizes[path] in (size, size[::-1]):
                yield "stored" if sizes[path] == size else "upright"


def _form(path: Path) -> tuple[Size, int] | None:
    with contextlib.suppress(BrokenImage):
        return stored_form(path)
    return None
