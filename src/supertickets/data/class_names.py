"""Names of classes: those of the data, and those that the settings give instead."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.recipe import DataSettings
from ..errors import UserError, printable
from .file_lists import shorten_list, unify
from .samples import Splits


def clean_name(name: str) -> str:
    """Return a class's name as any file and terminal takes it: one Unicode spelling, escapes for what is not UTF-8."""
    return printable(unify(name)).replace("\n", "\\n").replace("\t", "\\t")


def name_classes(own: Sequence[str], settings: DataSettings) -> tuple[str, ...]:
    """Return ``data.class_names``, or the names that classes have by themselves.

    Args:
        own: Names that the classes have, in the order of their indices.
        settings: Reads ``class_names``; name n is that of class n.

    Raises:
        UserError: Names are too many, too few or given twice, or one is another class's own name.
    """
    given = tuple(map(clean_name, settings.class_names))
    if not given:
        return tuple(own)
    if len(given) != len(own):
        raise UserError(f"data.class_names has {len(given)} names, the data has {len(own)} classes")
    check_names(given)
    for index, name in enumerate(given):
        if name in own and own[index] != name:
            raise UserError(
                f"data.class_names calls class '{own[index]}' {name}, but that is the name of another class of the "
                f"data; give the names in the order of the classes: {shorten_list(own, total=True)}"
            )
    return given


def check_names_used(splits: Splits, settings: DataSettings) -> None:
    """Check that ``data.class_names`` are what the classes are called.

    Raises:
        UserError: The source takes names from its files alone.
    """
    if settings.class_names and not set(splits.classes) <= set(map(clean_name, settings.class_names)):
        raise UserError(
            f"data.class_names is not for {settings.source}, whose names are in its files: "
            f"{shorten_list(splits.classes, total=True)}; leave it out, or change the names there"
        )


def check_distinct(names: Sequence[str]) -> None:
    """Check that no name of a class is given twice.

    Raises:
        UserError: One is.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"class name '{twice[0]}' is given twice; every class needs a name of its own")


def check_names(names: Sequence[str]) -> None:
    """Check that names of classes differ and that none is empty.

    Raises:
        UserError: One is empty or given twice.
    """
    if not all(name.strip() for name in names):
        raise UserError(f"one of {len(names)} class names is empty; every class needs a name of its own")
    check_distinct(names)


def note_missing(classes: Sequence[str], counts: Sequence[int], what: str, notes: list[str]) -> None:
    """Add a note about classes that occur in no training sample.

    Args:
        classes: Names of the classes.
        counts: How often each occurs in training.
        what: Noun of a sample, for the note.
        notes: The note is added here.
    """
    missing = [f"'{name}'" for name, count in zip(classes, counts, strict=True) if not count]
    if missing:
        noun, verb = ("class", "occurs") if len(missing) == 1 else ("classes", "occur")
        notes.append(
            f"{noun} {shorten_list(missing, total=True)} never {verb} in a training {what}: nothing is learned of it"
        )
