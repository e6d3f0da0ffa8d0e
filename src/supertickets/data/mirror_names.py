"""Left and right in names of joints and classes, in the spellings that people use: what a mirrored image swaps.

A side is a word of a name: left_eye, LeftEye, "eye (left)", leftEye, L_Eye, eye.l, LEye, auge_links. In names of joints
it may also be glued to the rest: lefteye, lshoulder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import UserError
from .file_lists import shorten_list

_LEFT = {
    "left": "right",
    "links": "rechts",
    "izquierda": "derecha",
    "izquierdo": "derecho",
    "gauche": "droite",
    "左": "右",
}
_LEFT |= {f"linke{end}": f"rechte{end}" for end in ("", "r", "s", "n", "m")}
_LETTERS = {"l": "r", "lt": "rt", "lft": "rgt"}  # these are sides only where the other one is there
_OTHER = {word: other for pairs in (_LEFT, _LETTERS) for pair in pairs.items() for word, other in (pair, pair[::-1])}
_SHORT = {*_LETTERS, *_LETTERS.values()}
# Words of snake_case, camelCase, LEye and lefteye; other scripts stay in one piece.
_WORD = re.compile(r"(?i:left|right)|[左右]|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")
_PAIRS_SHOWN = 12

_Words = tuple[str, ...]


def pair_names(names: Sequence[str]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return what becomes of names in a mirrored image.

    Args:
        names: Names of joints or classes, all different.

    Returns:
        Per name the index of its mirror image, itself where it has no side; and the names with a side whose mirror
        image is not there. A letter is a side only if another name has the other letter.
    """
    return _mirror([_words(name) for name in names], names)


def pair_joints(names: Sequence[str], where: str = "this data set") -> tuple[int, ...]:
    """Return, per joint, the index of its mirror image: the same name with the other side, else itself.

    Raises:
        UserError: A joint of one side has none on the other.
    """
    mirrored, alone = _mirror(_joint_words(names), names)
    if alone:
        raise UserError(
            f"joint '{alone[0]}' of {where} has no mirror image, the same name with the other side; add or rename it"
        )
    return mirrored


def joint_sides(names: Sequence[str]) -> tuple[str, ...]:
    """Return "left", "right" or "" per joint."""
    left = {*_LEFT, *_LETTERS}
    sides = [next((word for word in words if word in _OTHER), "") for words in _joint_words(names)]
    return tuple(side and ("left" if side in left else "right") for side in sides)


def describe_sides(classes: Sequence[str], mirrored: Sequence[int], alone: Sequence[str]) -> list[str]:
    """Return lines on what a mirrored image swaps of classes, if it swaps any, and on sides without the other."""
    lines = [describe_mirror(classes, mirrored)] if mirrored != tuple(range(len(classes))) else []
    if alone:
        lines.append(
            f"{shorten_list(alone)} has no class with the other side: set augment.flip to false if sides count"
        )
    return lines


def describe_mirror(names: Sequence[str], mirrored: Sequence[int]) -> str:
    """Return a line on what a mirrored image swaps."""
    pairs = [f"{names[i]} and {names[other]}" for i, other in enumerate(mirrored) if i < other]
    more = ", ..." if len(pairs) > _PAIRS_SHOWN else ""
    what = ", ".join(pairs[:_PAIRS_SHOWN]) + more if pairs else "nothing, no name has a left or right side"
    return f"a mirrored image swaps {what}"


def _mirror(keys: Sequence[_Words], names: Sequence[str]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    index = {key: i for i, key in enumerate(keys)}
    others = [next((index[key] for key in _swapped(words) if key in index), None) for words in keys]
    letters_pair = any(other is not None and not _is_clear(key) for key, other in zip(keys, others, strict=True))
    # Two spellings of one name share a mirror image, which can only be that of one of them.
    mirrored = tuple(i if other is None or others[other] != i else other for i, other in enumerate(others))
    alone = [
        name
        for i, (name, words) in enumerate(zip(names, keys, strict=True))
        if mirrored[i] == i and _swapped(words) and (_is_clear(words) or letters_pair or others[i] is not None)
    ]
    return mirrored, tuple(alone)


def _words(name: str) -> _Words:
    return tuple(word.lower() for word in _WORD.findall(name))


def _joint_words(names: Sequence[str]) -> list[_Words]:
    """Return the words of joints; an l or r that is glued to a name is one if the other name is there too."""
    lower = {name.lower() for name in names}
    glued = {text for text in lower if text[:1] in ("l", "r") and _OTHER[text[0]] + text[1:] in lower}
    return [(name[0].lower(), *_words(name[1:])) if name.lower() in glued else _words(name) for name in names]


def _is_clear(words: _Words) -> bool:
    """Return whether a side is written out."""
    return any(word in _OTHER and word not in _SHORT for word in words)


def _swapped(words: _Words) -> list[_Words]:
    """Return a name with its sides swapped: all of them, else one of them; a letter alone is no side."""
    places = [i for i, word in enumerate(words) if word in _OTHER and (len(words) > 1 or word not in _SHORT)]
    if not places:
        return []
    every = tuple(_OTHER.get(word, word) for word in words)
    return [every, *((*words[:i], _OTHER[words[i]], *words[i + 1 :]) for i in places)]
