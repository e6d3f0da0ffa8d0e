"""Left and right in names: every usual spelling pairs joints and classes, and nothing else does."""

from __future__ import annotations

import pytest

from supertickets import UserError
from supertickets.data.mirror_names import describe_mirror, joint_sides, pair_joints, pair_names

SPELLINGS = (
    ("left_eye", "right_eye"),
    ("L_Eye", "R_Eye"),
    ("leftEye", "rightEye"),
    ("Left_Eye", "Right_Eye"),
    ("left-eye", "right-eye"),
    ("eye_left", "eye_right"),
    ("left eye", "right eye"),
    ("Eye (left)", "Eye (right)"),
    ("LEFT_EYE", "RIGHT_EYE"),
    ("EyeLeft2", "EyeRight2"),
    ("LEye", "REye"),
    ("hand.L", "hand.R"),
    ("hand_l", "hand_r"),
    ("front_left_paw", "front_right_paw"),
    ("linkes Auge", "rechtes Auge"),
    ("auge_links", "auge_rechts"),
    ("ojo izquierdo", "ojo derecho"),
    ("左手", "右手"),
)
GLUED = (("lefteye", "righteye"), ("lsho", "rsho"), ("Lshoulder", "Rshoulder"))


@pytest.mark.parametrize("pair", [*SPELLINGS, *GLUED], ids="/".join)
def test_joints_of_two_sides_swap(pair: tuple[str, str]) -> None:
    names = (pair[1], "nose", pair[0])
    assert pair_joints(names) == (2, 1, 0)
    assert joint_sides(names) == ("right", "", "left")


@pytest.mark.parametrize("pair", [*SPELLINGS, GLUED[0]], ids="/".join)
def test_classes_of_two_sides_swap(pair: tuple[str, str]) -> None:
    assert pair_names([*pair, "stop"]) == ((1, 0, 2), ())


@pytest.mark.parametrize(
    "names",
    [
        [chr(ord("A") + i) for i in range(26)],  # of an alphabet L and R are no sides
        ["rock", "lock", "lamp", "ramp"],
        ["bright", "copyright", "r_peak", "lip"],
        ["nose", "tail"],
    ],
)
def test_other_names_have_no_side(names: list[str]) -> None:
    assert pair_names(names) == (tuple(range(len(names))), ())


def test_sides_of_sides() -> None:
    """The right corner of the left eye is the left corner of the right eye in a mirrored image."""
    names = ["left_eye_right_corner", "left_eye_left_corner", "right_eye_left_corner", "right_eye_right_corner"]
    assert pair_joints(names) == (2, 3, 0, 1)


@pytest.mark.parametrize(
    ("names", "alone"),
    [
        (["left_eye", "nose"], "left_eye"),
        (["L_Eye", "R_Eye", "L_Ear"], "L_Ear"),
        (["left_eye", "LeftEye", "right_eye"], "left_eye"),
        (["linkes Auge", "right_eye"], "linkes Auge"),
    ],
)
def test_a_side_without_the_other_is_refused_for_joints_and_told_for_classes(names: list[str], alone: str) -> None:
    assert alone in pair_names(names)[1]
    with pytest.raises(UserError, match=f"joint '{alone}' of this data set has no mirror image"):
        pair_joints(names)


def test_what_swaps_is_said() -> None:
    assert describe_mirror(["l_a", "b", "r_a"], (2, 1, 0)) == "a mirrored image swaps l_a and r_a"
    assert describe_mirror(["a", "b"], (0, 1)) == "a mirrored image swaps nothing, no name has a left or right side"
