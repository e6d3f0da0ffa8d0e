"""Masks of the best scores against a plain sort in Python: exact counts, ties, floors, exemptions."""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from supertickets import UserError
from supertickets.config.recipe import PruneSettings
from supertickets.pruning import check_ratio, empty_layers, keep_best, magnitude_mask, sensitivities
from supertickets.pruning.masks import magnitudes
from supertickets.pruning.scopes import split_budget

PLAIN = PruneSettings()
# Few different values, so that nearly everything ties.
LAYERS = st.lists(
    st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=12), min_size=1, max_size=5
)


def named(layers: list[list[float]]) -> dict[str, Tensor]:
    """Layers as tensors; those of even length have two dimensions."""
    tensors = {f"w{i}": torch.tensor(values) for i, values in enumerate(layers)}
    return {n: t.view(2, -1) if t.numel() % 2 == 0 else t for n, t in tensors.items()}


def by_sorting(layers: list[list[float]], ratio: float, floor: float, exempt: int) -> list[list[bool]]:
    """Return masks by the documented order: unprotected before protected, small before large, early first."""
    ranked = []
    for i, values in enumerate(layers):
        order = sorted(range(len(values)), key=lambda j: (-abs(values[j]), j))
        most = len(values) if len(values) <= exempt else math.ceil(floor * len(values))
        protected = set(order[:most])
        ranked += [(j in protected, abs(value), i, j) for j, value in enumerate(values)]
    total = sum(map(len, layers))
    gone = {(i, j) for _, _, i, j in sorted(ranked)[: round(ratio * total)]}
    return [[(i, j) not in gone for j in range(len(values))] for i, values in enumerate(layers)]


@settings(deadline=None)
@given(
    layers=LAYERS,
    ratio=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])),
    floor=st.sampled_from([0.0, 0.04, 0.3, 1.0]),
    exempt=st.sampled_from([0, 2, 6]),
)
def test_mask_equals_a_plain_sort(layers: list[list[float]], ratio: float, floor: float, exempt: int) -> None:
    weights = named(layers)
    mask = magnitude_mask(weights, ratio, PruneSettings(layer_floor=floor, exempt_below=exempt))
    assert list(mask) == list(weights)
    assert all(mask[n].shape == w.shape and mask[n].dtype == torch.bool for n, w in weights.items())
    assert [flags.flatten().tolist() for flags in mask.values()] == by_sorting(layers, ratio, floor, exempt)
    total = sum(map(len, layers))
    assert sum(int((~flags).sum()) for flags in mask.values()) == round(ratio * total)


def test_smallest_go_by_hand() -> None:
    weights = {"a": torch.tensor([[3.0, -1.0], [0.5, -4.0]]), "b": torch.tensor([-2.0, 0.25])}
    mask = magnitude_mask(weights, 0.5, PLAIN)
    assert {n: f.tolist() for n, f in mask.items()} == {"a": [[True, False], [False, True]], "b": [True, False]}


def test_of_equal_weights_the_earlier_goes_first() -> None:
    weights = {"a": torch.tensor([1.0, -1.0, 1.0]), "b": torch.tensor([[-1.0, 1.0, 1.0]])}
    mask = magnitude_mask(weights, 4 / 6, PLAIN)
    assert {n: f.tolist() for n, f in mask.items()} == {"a": [False] * 3, "b": [[False, True, True]]}


def test_floor_by_hand() -> None:
    """A quarter of four is one weight: the largest of each layer; the rest goes by size."""
    weights = {"weak": torch.tensor([0.1, 0.4, 0.2, 0.3]), "strong": torch.tensor([1.0, 4.0, 2.0, 3.0])}
    settings = PruneSettings(layer_floor=0.25)
    mask = magnitude_mask(weights, 0.5, settings)
    assert {n: f.tolist() for n, f in mask.items()} == {
        "weak": [False, True, False, False],
        "strong": [False, True, True, True],
    }
    assert empty_layers(mask) == []
    assert empty_layers(magnitude_mask(weights, 0.5, PLAIN)) == ["weak"]


def test_protected_weights_go_last_but_the_ratio_is_met() -> None:
    """Layers of up to two weights are exempt, and yet 5 of 6 go: the exempt ones by size, after the others."""
    weights = {"small": torch.tensor([0.1, 0.3]), "large": torch.tensor([9.0, 8.0, 7.0, 6.0])}
    settings = PruneSettings(exempt_below=2)
    half = magnitude_mask(weights, 0.5, settings)
    assert {n: f.tolist() for n, f in half.items()} == {"small": [True, True], "large": [True, False, False, False]}
    most = magnitude_mask(weights, 5 / 6, settings)
    assert {n: f.tolist() for n, f in most.items()} == {"small": [False, True], "large": [False] * 4}


def test_exemption_is_inclusive() -> None:
    weights = {"three": torch.full((3,), 0.1), "four": torch.full((4,), 9.0)}
    mask = magnitude_mask(weights, 4 / 7, PruneSettings(exempt_below=3))
    assert mask["three"].all()
    assert not mask["four"].any()


def test_normalised_magnitudes_by_hand() -> None:
    """Root mean squares are 5 and 0.05: (3, 4, 5, 5 * sqrt 2) / 5 against (0.01, 0.07, ...) / 0.05."""
    large = torch.tensor([3.0, 4.0, 5.0, 50**0.5])
    small = torch.tensor([0.01, 0.07, 0.05, 0.05])
    assert large.square().mean().sqrt().item() == pytest.approx(5.0)
    assert small.square().mean().sqrt().item() == pytest.approx(0.05)
    weights = {"large": large, "small": small}
    plain = magnitude_mask(weights, 3 / 8, PLAIN)
    assert {n: f.tolist() for n, f in plain.items()} == {"large": [True] * 4, "small": [False, True, False, False]}
    mask = magnitude_mask(weights, 3 / 8, PruneSettings(normalise="rms"))
    # 0.2 (small), then 0.6 and 0.8 (large); 1.0 and more stay.
    assert {n: f.tolist() for n, f in mask.items()} == {
        "large": [False, False, True, True],
        "small": [False, True, True, True],
    }


def test_costs_by_hand() -> None:
    """As by rms, 0.57 to 1.41 and 0.63 to 1.26; each weight of the first layer is used 4 times, which halves them."""
    weights = {"large": torch.tensor([0.4, 1.0]), "small": torch.tensor([0.1, 0.2])}
    by_rms = magnitudes(weights, PruneSettings(normalise="rms"))
    by_cost = magnitudes(weights, PruneSettings(normalise="cost"), lambda: {"large": 4})
    assert torch.equal(by_cost["large"], by_rms["large"] / 2)
    assert torch.equal(by_cost["small"], by_rms["small"])


def test_lamp_by_hand() -> None:
    """Squares 9, 16 and 144: 9 / 169, 16 / 160 and 144 / 144; 0.36 and 0.64: 0.36 / 1 and 0.64 / 0.64."""
    weights = {"three": torch.tensor([4.0, -12.0, 3.0]), "two": torch.tensor([[0.8], [-0.6]])}
    settings = PruneSettings(normalise="lamp")
    scores = magnitudes(weights, settings)
    assert scores["three"].square().tolist() == pytest.approx([0.1, 1.0, 9 / 169])
    assert scores["two"].square().flatten().tolist() == pytest.approx([1.0, 0.36])
    mask = magnitude_mask(weights, 2 / 5, settings)
    assert {n: f.flatten().tolist() for n, f in mask.items()} == {"three": [False, True, False], "two": [True, True]}


@given(layers=LAYERS)
def test_lamp_equals_sums_over_larger_weights(layers: list[list[float]]) -> None:
    scores = magnitudes(named(layers), PruneSettings(normalise="lamp"))
    for values, actual in zip(layers, scores.values(), strict=True):
        ranked = sorted(range(len(values)), key=lambda j: (-abs(values[j]), -j))
        expected = [0.0] * len(values)
        total = 0.0
        for j in ranked:
            total += values[j] ** 2
            expected[j] = abs(values[j]) / math.sqrt(total) if total else 0.0
        assert actual.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("normalise", ["rms", "cost", "lamp"])
def test_a_layer_of_zeros_can_be_normalised(normalise: Literal["rms", "cost", "lamp"]) -> None:
    weights = {"zero": torch.zeros(3), "other": torch.ones(3)}
    mask = magnitude_mask(weights, 0.5, PruneSettings(normalise=normalise))
    assert {n: f.tolist() for n, f in mask.items()} == {"zero": [False] * 3, "other": [True] * 3}


def test_masks_do_not_share_memory_with_weights_or_each_other() -> None:
    weights = {"a": torch.ones(2), "b": torch.ones(2)}
    mask = magnitude_mask(weights, 0.0, PLAIN)
    mask["a"][:] = False
    assert mask["b"].all()
    assert weights["a"].tolist() == [1.0, 1.0]


def test_impossible_ratio_names_the_nearest() -> None:
    """4 of 10 weights are exempt, and the largest two of the six others: 4 may go."""
    weights = {"small": torch.ones(4), "large": torch.ones(6)}
    settings = PruneSettings(ratio=0.5, exempt_below=4, layer_floor=0.3)
    with pytest.raises(UserError, match=r"prune\.ratio 0\.5 is impossible.*6 of 10 weights.*possible is 0\.4$"):
        check_ratio(weights, settings)
    check_ratio(weights, PruneSettings(ratio=0.4, exempt_below=4, layer_floor=0.3))


@settings(deadline=None)
@given(layers=LAYERS, ratio=st.floats(0, 0.99), floor=st.floats(0, 1), exempt=st.integers(0, 12))
def test_the_nearest_ratio_is_possible(layers: list[list[float]], ratio: float, floor: float, exempt: int) -> None:
    """Refused exactly when protected weights would have to go; what is offered instead passes."""
    weights = named(layers)
    total = sum(map(len, layers))
    free = sum(0 if len(v) <= exempt else len(v) - math.ceil(floor * len(v)) for v in layers)
    settings = PruneSettings(ratio=ratio, layer_floor=floor, exempt_below=exempt)
    if round(ratio * total) <= free:
        check_ratio(weights, settings)
        return
    with pytest.raises(UserError) as caught:
        check_ratio(weights, settings)
    offered = Fraction(str(caught.value).rsplit(" ", 1)[1])  # two digits, rounded down
    check_ratio(weights, PruneSettings(ratio=float(offered), layer_floor=floor, exempt_below=exempt))
    assert offered <= Fraction(free, total) <= offered + Fraction(1, 100)


def test_sensitivities_by_hand() -> None:
    weights = {"a": torch.tensor([2.0, -3.0]), "b": torch.tensor([[0.5], [0.0]])}
    gradients = {"a": torch.tensor([-1.0, 0.5]), "b": torch.tensor([[8.0], [9.0]])}
    scores = sensitivities(weights, gradients)
    assert {n: s.tolist() for n, s in scores.items()} == {"a": [2.0, 1.5], "b": [[4.0], [0.0]]}
    mask = keep_best(scores, 0.5, PLAIN)
    assert {n: f.tolist() for n, f in mask.items()} == {"a": [True, False], "b": [[True], [False]]}


@settings(deadline=None)
@given(
    layers=LAYERS,
    seed=st.integers(0, 99),
    ratio=st.floats(0, 1),
    floor=st.sampled_from([0.0, 0.3, 1.0]),
    exempt=st.sampled_from([0, 6]),
)
def test_the_dead_go_first(layers: list[list[float]], seed: int, ratio: float, floor: float, exempt: int) -> None:
    """As many go as were asked for, and the dead before any living one, whatever they score or is protected."""
    scores = {name: value.abs() for name, value in named(layers).items()}
    generator = torch.Generator().manual_seed(seed)
    alive = {name: torch.rand(s.shape, generator=generator) < 0.6 for name, s in scores.items() if name != "w0"}
    prune = PruneSettings(ratio=min(ratio, 0.99), layer_floor=floor, exempt_below=exempt)
    mask = keep_best(scores, ratio, prune, alive)
    total, dead = sum(map(len, layers)), sum(int((~flags).sum()) for flags in alive.values())
    assert sum(int((~flags).sum()) for flags in mask.values()) == round(ratio * total)
    revived = sum(int((mask[name] & ~flags).sum()) for name, flags in alive.items())
    assert revived == max(0, dead - round(ratio * total))
    if round(prune.ratio * total) < dead:
        with pytest.raises(UserError, match="pruned already, so the nearest possible is"):
            check_ratio(scores, prune, alive)


def test_floors_count_the_living() -> None:
    """The best half of four is two weights, of which one is dead: the third takes its place."""
    scores = {"a": torch.tensor([4.0, 3.0, 2.0, 1.0]), "b": torch.tensor([9.0, 9.0, 9.0, 9.0])}
    alive = {"a": torch.tensor([False, True, True, True])}
    mask = keep_best(scores, 0.5, PruneSettings(layer_floor=0.5), alive)
    assert mask["a"].tolist() == [False, True, True, False]


# Per layer and in groups ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    layers=LAYERS,
    ratio=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])),
    floor=st.sampled_from([0.0, 0.3]),
    exempt=st.sampled_from([0, 2]),
)
def test_every_layer_gives_up_the_same_share(
    layers: list[list[float]], ratio: float, floor: float, exempt: int
) -> None:
    """The count is exact; no layer gives up more than another but for rounding and what protects it."""
    weights = named(layers)
    how = PruneSettings(layer_floor=floor, exempt_below=exempt, scope="layer")
    mask = magnitude_mask(weights, ratio, how)
    gone = [int((~flags).sum()) for flags in mask.values()]
    total = sum(map(len, layers))
    assert sum(gone) == round(ratio * total)
    most = [0 if len(v) <= exempt else len(v) - math.ceil(floor * len(v)) for v in layers]
    if sum(gone) <= sum(most):
        assert all(g <= m for g, m in zip(gone, most, strict=True))
        free = [(g, len(v)) for g, v, m in zip(gone, layers, most, strict=True) if g < m]
        for (g, n), (h, k) in itertools.product(free, free):
            assert (g - 1) / n <= (h + 1) / k + 1e-9
    for flags, values, g in zip(mask.values(), layers, gone, strict=True):
        smallest = sorted(map(abs, values))[:g]
        assert sorted(abs(v) for v, f in zip(values, flags.flatten().tolist(), strict=True) if not f) == smallest


def test_layers_by_hand() -> None:
    """Globally the small layer would lose everything; per layer each loses half of its own."""
    weights = {"small": torch.tensor([0.1, 0.2, 0.3, 0.4]), "large": torch.tensor([9.0, 8.0, 7.0, 6.0])}
    mask = magnitude_mask(weights, 0.5, PruneSettings(scope="layer"))
    assert {n: f.tolist() for n, f in mask.items()} == {
        "small": [False, False, True, True],
        "large": [True, True, False, False],
    }


@pytest.mark.parametrize(
    ("count", "sizes", "least", "most", "shares"),
    [
        (5, [4, 6], [0, 0], [4, 6], [2, 3]),
        (5, [4, 6], [4, 0], [4, 6], [4, 1]),  # four are gone already
        (5, [4, 6], [0, 0], [0, 6], [0, 5]),  # an exempt layer: the other pays for it
        (1, [3, 3, 3], [0, 0, 0], [3, 3, 3], [1, 0, 0]),  # rounding: the first of equals
        (9, [4, 6], [0, 0], [2, 4], [4, 5]),  # more than may go: what is protected goes too, from 2 and 4 on
        (0, [], [], [], []),
    ],
)
def test_shares_by_hand(count: int, sizes: list[int], least: list[int], most: list[int], shares: list[int]) -> None:
    assert split_budget(count, sizes, least, most) == shares


def test_two_of_four_by_hand() -> None:
    """Neighbours along the input channels, at each place of the kernel; of equals the earlier goes."""
    weight = torch.tensor([[1.0, 4.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0], [-9.0, 1.0, -8.0, 2.0, 0.0, 1.0, 0.0, 0.0]])
    kernels = torch.stack((weight, weight.flip(1)), dim=-1).unsqueeze(-1)  # (2, 8, 2, 1)
    mask = magnitude_mask({"conv": kernels, "linear": weight}, 0.5, PruneSettings(scope="group"))
    wanted = [
        [False, True, False, True, False, False, True, True],
        [True, False, True, False, False, True, False, True],
    ]
    assert mask["linear"].tolist() == wanted
    assert mask["conv"][:, :, 0, 0].tolist() == wanted
    assert torch.equal(mask["conv"][0, :, 1, 0].view(2, 4).sum(1), torch.tensor([2, 2]))


@settings(deadline=None)
@given(inputs=st.integers(1, 19), group=st.sampled_from([2, 4, 8]), kept=st.integers(1, 7), seed=st.integers(0, 1000))
def test_no_group_has_more_than_n_of_m(inputs: int, group: int, kept: int, seed: int) -> None:
    """Against a plain loop; the last group is filled up with zeros, so it keeps up to N."""
    kept = min(kept, group - 1)
    weight = torch.randn(3, inputs, 2, 2, generator=torch.Generator().manual_seed(seed))
    how = PruneSettings(scope="group", group=group, ratio=1 - kept / group)
    check_ratio({"w": weight}, how)
    mask = magnitude_mask({"w": weight}, how.ratio, how)["w"]
    for out, y, x in itertools.product(range(3), range(2), range(2)):
        for start in range(0, inputs, group):
            values = weight[out, start : start + group, y, x].abs()
            flags = mask[out, start : start + group, y, x]
            assert int(flags.sum()) == min(kept, len(values))
            assert not (~flags).any() or values[flags].min() >= values[~flags].max()


def test_groups_spare_small_layers_and_what_is_pruned_stays_so() -> None:
    weight = torch.tensor([[5.0, 4.0, 3.0, 2.0]])
    alive = torch.tensor([[False, True, True, True]])
    mask = keep_best({"w": weight}, 0.5, PruneSettings(scope="group"), {"w": alive})
    assert mask["w"].tolist() == [[False, True, True, False]]
    mask = keep_best({"w": weight}, 0.5, PruneSettings(scope="group", exempt_below=4))
    assert mask["w"].all()


def test_groups_in_which_more_is_pruned_already_are_refused() -> None:
    alive = torch.ones(2, 4, dtype=torch.bool)
    alive[1, :3] = False
    how = PruneSettings(ratio=0.5, scope="group")
    with pytest.raises(UserError, match=r"0.5 is impossible in groups of 4: more than 2 weights of a group of w are"):
        check_ratio({"w": torch.ones(2, 4)}, how, {"w": alive})
    check_ratio({"w": torch.ones(2, 4)}, PruneSettings(ratio=0.75, scope="group"), {"w": alive})


@pytest.mark.parametrize(
    ("ratio", "group", "nearest"), [(0.9, 4, "0.75 (1:4)"), (0.6, 4, "0.5 (2:4)"), (0.2, 2, "0.5")]
)
def test_a_ratio_that_is_no_n_of_m(ratio: float, group: int, nearest: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"in groups of {group}; the nearest possible is {nearest}")):
        check_ratio({"w": torch.ones(4, 4)}, PruneSettings(ratio=ratio, scope="group", group=group))
