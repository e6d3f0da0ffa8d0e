"""Spaces of decisions: counts, index lists, membership."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from supertickets import UserError
from supertickets.models import Decision, MobileSpec
from supertickets.models.factory import create_spec
from supertickets.nas import Space

# An inner decision comes before the one it lies within, as in the released index lists.
NESTED = Space(
    (
        Decision("a.kernel", (3, 5, 7), within=("a.skip", False)),
        Decision("a.se", (False, True), within=("a.skip", False)),
        Decision("a.skip", (False, True)),
        Decision("filters", (8, 16), "filters"),
    )
)


def enlarged() -> Space:
    spec = create_spec("tunas_proxyless_enlarged")
    assert isinstance(spec, MobileSpec)
    return Space(spec.decisions())


def genotype_of(filters: tuple[int, ...], layers: tuple[str, ...]) -> dict[str, bool | int | float]:
    """A known network as answers of the ProxylessNAS spaces; layers as "53" (kernel 5, expansion 3)."""
    names = ("stem", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "head")
    answers: dict[str, bool | int | float] = {f"{n}.filters": f for n, f in zip(names, filters, strict=True)}
    answers["b1.0.kernel"] = 3
    for i, block in enumerate(layers, start=2):
        words = block.split()
        for j in range(1 if i == 7 else 4):
            answers[f"b{i}.{j}.skip"] = j >= len(words)
            if j < len(words):
                answers |= {f"b{i}.{j}.kernel": int(words[j][0]), f"b{i}.{j}.expansion": int(words[j][1])}
    return answers


PROXYLESS = genotype_of(
    (32, 16, 32, 40, 80, 96, 192, 320, 1280),
    ("53 33", "73 33 53 53", "76 53 53 53", "56 53 53 53", "76 76 73 73", "76"),
)
MNASNET = genotype_of(
    (32, 16, 24, 40, 80, 96, 192, 320, 1280),
    ("33 33 33", "53 53 53", "56 56 56", "36 36", "56 56 56 56", "36"),
)
MOBILENET_V2 = genotype_of(
    (32, 16, 24, 32, 64, 96, 160, 320, 1280),
    ("36 36", "36 36 36", "36 36 36 36", "36 36 36", "36 36 36", "36"),
)


def test_counts_by_hand() -> None:
    assert NESTED.encodings() == 3 * 2 * 2 * 2
    assert NESTED.networks() == (3 * 2 + 1) * 2
    every = list(NESTED.enumerate())
    assert len(every) == NESTED.networks() == len({tuple(sorted(g.items())) for g in every})
    assert {"a.skip": True, "filters": 8} in every


def test_index_lists() -> None:
    assert NESTED.genotype([2, 1, 0, 1]) == {"a.kernel": 7, "a.se": True, "a.skip": False, "filters": 16}
    assert NESTED.genotype([2, 1, 1, 0]) == {"a.skip": True, "filters": 8}
    assert NESTED.indices({"a.skip": True, "filters": 8}) == [0, 0, 1, 0]
    with pytest.raises(UserError, match="3 indices for 4 decisions"):
        NESTED.genotype([0, 0, 0])
    with pytest.raises(UserError, match=r"index 3 for a\.kernel"):
        NESTED.genotype([3, 0, 0, 0])


@given(some.integers(0, 2**32))
def test_round_trip(seed: int) -> None:
    drawn = NESTED.sample(8, torch.Generator().manual_seed(seed))
    for genotype, row, active in zip(
        NESTED.genotypes(drawn), drawn.tolist(), NESTED.active(drawn).tolist(), strict=True
    ):
        assert NESTED.outside(genotype) == []
        assert NESTED.indices(genotype) == [i if on else 0 for i, on in zip(row, active, strict=True)]


def test_the_released_genotype_of_proxylessnas_mobile() -> None:
    skipped, one = [0, 0, 1], [1, 0, 0]
    expected = [0, 0, 0]
    expected += [*one, 0, 0, 0, *skipped, *skipped, 0]
    expected += [2, 0, 0, 0, 0, 0, *one, *one, 0]
    expected += [2, 1, 0, *one, *one, *one, 0]
    expected += [1, 1, 0, *one, *one, *one, 0]
    expected += [2, 1, 0, 2, 1, 0, 2, 0, 0, 2, 0, 0, 0]
    expected += [2, 1, 0, 0, 0]
    spec = create_spec("tunas_proxyless")
    assert isinstance(spec, MobileSpec)
    space = Space(spec.decisions())
    assert space.indices(PROXYLESS) == expected
    assert space.genotype(expected) == PROXYLESS
    assert spec.select(PROXYLESS) == create_spec("proxylessnas_mobile")


@pytest.mark.parametrize(
    ("genotype", "filters"),
    [
        (MOBILENET_V2, [3, 1, 2, 2, 3, 2, 1, 1, 4]),
        (MNASNET, [3, 1, 2, 3, 4, 2, 2, 1, 4]),
        (PROXYLESS, [3, 1, 3, 3, 4, 2, 2, 1, 4]),
    ],
)
def test_all_three_lie_in_the_enlarged_space(genotype: dict[str, bool | int | float], filters: list[int]) -> None:
    space = enlarged()
    assert space.outside(genotype) == []
    indices = space.indices(genotype)
    assert [i for i, d in zip(indices, space.decisions, strict=True) if d.name.endswith("filters")] == filters


def test_choices_outside_a_space_are_listed() -> None:
    spec = create_spec("tunas_proxyless")
    assert isinstance(spec, MobileSpec)
    space = Space(spec.decisions())
    assert space.outside(MOBILENET_V2) == [
        "b2.filters is 24, the options are [32]",
        "b3.filters is 32, the options are [40]",
        "b4.filters is 64, the options are [80]",
        "b6.filters is 160, the options are [192]",
    ]
    assert space.outside(MNASNET) == ["b2.filters is 24, the options are [32]"]
    with pytest.raises(UserError, match=r"lies outside of the space: b2.filters is 24"):
        space.indices(MNASNET)
    for wrong in ({"a.skip": 1, "filters": 8}, {"a.skip": True, "filters": 8.0}):
        assert len(NESTED.outside(wrong)) == 1  # equal numbers of another type would be read otherwise elsewhere
    assert NESTED.indices({"a.kernel": 5, "a.se": True, "a.skip": True, "filters": 8}) == [0, 0, 1, 0]
    assert NESTED.outside({"a.skip": False, "filters": 8, "b": 1}) == [
        "there is no decision b",
        "a.kernel is not answered",
        "a.se is not answered",
    ]


def test_mobilenet_v3_large_lies_outside_of_the_space_around_it() -> None:
    space = create_spec("tunas_mobilenetv3")
    assert isinstance(space, MobileSpec)
    known = {
        **{"b3.1.expansion": 200 / 80, "b3.2.expansion": 184 / 80, "b4.filters": 112, "head.filters": 960},
        **{"b3.0.expansion": 3, "b3.filters": 80},
    }
    wrong = Space(space.decisions()).outside(known)
    assert [line.split(" is ")[0] for line in wrong if "options" in line] == [
        "b3.1.expansion",
        "b3.2.expansion",
        "b4.filters",
        "head.filters",
    ]
