"""The events of every epoch: tables written by hand from Algorithm 1 and its variants."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertickets import UserError, list_recipes, load_recipe
from supertickets.config.recipe import PruneSettings, Recipe, SearchSettings
from supertickets.config.schedule import (
    Event,
    Prune,
    Reactivate,
    Recalibrate,
    Shrink,
    check_schedule,
    events,
    is_search_epoch,
    last_search_epoch,
    late_prune_warning,
    path_line,
    plan_lines,
    ratio_at,
)

SHRINK, BACK, CALIBRATE = Shrink(), Reactivate(), Recalibrate()


def recipe(epochs: int, search: dict[str, Any] | None = None, **prune: Any) -> Recipe:
    return Recipe(epochs=epochs, search=SearchSettings(**search or {}), prune=PruneSettings(**prune))


# ImageNet: t_s = 10, t_p = 25, p = 0.9, 350 epochs. Prunes and their ratios, by hand:
PRUNES = {25: 0.1, 50: 0.2, 75: 0.3, 100: 0.4, 125: 0.5, 150: 0.6, 175: 0.7, 200: 0.8,
          225: 0.9, 250: 0.9, 275: 0.9, 300: 0.9, 325: 0.9, 350: 0.9}  # fmt: skip
SEARCHES = [*range(10, 351, 10)]


def paper(**changes: Any) -> Recipe:
    return recipe(350, {"interval": 10}, ratio=0.9, interval=25, **changes)


def test_algorithm_1() -> None:
    """Search, reactivate (IR-S), then prune where both are due; the last epoch brings nothing back."""
    table: dict[int, list[Event]] = {t: [SHRINK, BACK, CALIBRATE] for t in SEARCHES}
    table |= {t: [Prune(r), CALIBRATE] for t, r in PRUNES.items() if t % 50}
    table |= {t: [SHRINK, BACK, Prune(PRUNES[t]), CALIBRATE] for t in (50, 100, 150, 200, 250, 300)}
    table[350] = [SHRINK, Prune(0.9), CALIBRATE]
    assert dict(plan_lines(paper())) == table
    assert [t for t, _ in plan_lines(paper())] == sorted(table)
    assert last_search_epoch(paper()) == 350


def test_phases_in_which_the_paper_is_sparse() -> None:
    """25-30, 50-60, 75-80, 100-110 ...: as measured on the released code (facts 3)."""
    sparse, since, phases = False, 0, []
    for t, row in plan_lines(paper()):
        for event in row:
            if isinstance(event, Prune):
                sparse, since = True, t
            elif event == BACK and sparse:
                phases.append((since, t))
                sparse = False
    assert phases[:6] == [(25, 30), (50, 60), (75, 80), (100, 110), (125, 130), (150, 160)]
    assert (sparse, since) == (True, 350)


def test_reactivation_after_each_prune() -> None:
    """IR-P: dense between prunes, but not after the last epoch."""
    table: dict[int, list[Event]] = {t: [SHRINK, CALIBRATE] for t in SEARCHES}
    table |= {t: [Prune(r), BACK, CALIBRATE] for t, r in PRUNES.items() if t % 50}
    table |= {t: [SHRINK, Prune(PRUNES[t]), BACK, CALIBRATE] for t in (50, 100, 150, 200, 250, 300)}
    table[350] = [SHRINK, Prune(0.9), CALIBRATE]
    assert dict(plan_lines(paper(reactivate="prune"))) == table


def test_no_reactivation() -> None:
    table: dict[int, list[Event]] = {t: [SHRINK, CALIBRATE] for t in SEARCHES}
    table |= {t: [Prune(r), CALIBRATE] for t, r in PRUNES.items() if t % 50}
    table |= {t: [SHRINK, Prune(PRUNES[t]), CALIBRATE] for t in (50, 100, 150, 200, 250, 300, 350)}
    assert dict(plan_lines(paper(reactivate="none"))) == table


def test_one_shot_ratio() -> None:
    """Not progressive: the whole ratio from the first prune on, at the same epochs."""
    plan = dict(plan_lines(paper(progressive=False)))
    prunes = {t: e.ratio for t, row in plan.items() for e in row if isinstance(e, Prune)}
    assert prunes == dict.fromkeys(PRUNES, 0.9)
    assert plan[50] == [SHRINK, BACK, Prune(0.9), CALIBRATE]


def test_literal_else_if() -> None:
    """Only the search happens where both are due; the last epoch prunes all the same."""
    plan = dict(plan_lines(paper(on_conflict="search_only")))
    assert all(plan[t] == [SHRINK, BACK, CALIBRATE] for t in (50, 100, 150, 200, 250, 300))
    assert plan[225] == [Prune(0.9), CALIBRATE]
    assert plan[350] == [SHRINK, Prune(0.9), CALIBRATE]
    untouched = {t for t in plan if t not in (50, 100, 150, 200, 250, 300)}
    full = dict(plan_lines(paper()))
    assert {t: plan[t] for t in untouched} == {t: full[t] for t in untouched}


def test_search_that_ends_early() -> None:
    """After last_epoch: no removal and no reactivation; a prune goes on from the ratio that is due."""
    table: dict[int, list[Event]] = {
        2: [SHRINK, BACK, CALIBRATE],
        3: [Prune(0.1), CALIBRATE],
        4: [SHRINK, BACK, CALIBRATE],
        6: [Prune(0.2), CALIBRATE],
        9: [Prune(0.3), CALIBRATE],
        10: [Prune(0.3), CALIBRATE],
    }
    early = recipe(10, {"interval": 2, "last_epoch": 5}, ratio=0.3, interval=3)
    assert dict(plan_lines(early)) == table
    assert last_search_epoch(early) == 4
    assert [is_search_epoch(t, early) for t in (1, 2, 4, 6)] == [False, True, True, False]


def test_reactivation_after_prunes_ends_with_the_search() -> None:
    early = recipe(10, {"interval": 2, "last_epoch": 5}, ratio=0.3, interval=3, reactivate="prune")
    assert dict(plan_lines(early)) == {
        2: [SHRINK, CALIBRATE],
        3: [Prune(0.1), BACK, CALIBRATE],
        4: [SHRINK, CALIBRATE],
        6: [Prune(0.2), CALIBRATE],
        9: [Prune(0.3), CALIBRATE],
        10: [Prune(0.3), CALIBRATE],
    }


def test_search_at_last_epoch_is_the_last() -> None:
    inclusive = recipe(10, {"interval": 2, "last_epoch": 4}, ratio=0.0)
    assert dict(plan_lines(inclusive)) == {2: [SHRINK, CALIBRATE], 4: [SHRINK, CALIBRATE]}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (recipe(40, {"interval": 0}, ratio=0.0), {}),
        (recipe(3, {"interval": 0, "last_epoch": 0}, ratio=0.5, progressive=False), {3: [Prune(0.5), CALIBRATE]}),
        (recipe(4, {"interval": 0}, ratio=0.1, interval=2), {2: [Prune(0.1), CALIBRATE], 4: [Prune(0.1), CALIBRATE]}),
        (recipe(4, {"interval": 2}, ratio=0.0), {2: [SHRINK, CALIBRATE], 4: [SHRINK, CALIBRATE]}),
        (recipe(4, {"interval": 5}, ratio=0.0), {}),
    ],
)
def test_parts_alone(made: Recipe, expected: dict[int, list[Event]]) -> None:
    assert dict(plan_lines(made)) == expected


@pytest.mark.parametrize(
    ("epoch", "interval", "ratio", "due"),
    [(24, 25, 0.9, 0.0), (25, 25, 0.9, 0.1), (74, 25, 0.9, 0.2), (75, 25, 0.25, 0.25), (500, 25, 0.95, 0.95)],
)
def test_ratio_by_hand(epoch: int, interval: int, ratio: float, due: float) -> None:
    """min(p, 10% * floor(t / t_p))."""
    assert ratio_at(epoch, PruneSettings(ratio=ratio, interval=interval)) == due
    assert ratio_at(epoch, PruneSettings(ratio=ratio, interval=interval, progressive=False)) == ratio


RECIPES = st.builds(
    lambda epochs, search, last, prune: Recipe(
        epochs=epochs,
        search=SearchSettings(interval=search, last_epoch=None if last is None else min(last, epochs)),
        prune=prune,
    ),
    epochs=st.integers(1, 60),
    search=st.integers(0, 12),
    last=st.one_of(st.none(), st.integers(0, 60)),
    prune=st.builds(
        PruneSettings,
        ratio=st.sampled_from([0.0, 0.1, 0.3, 0.35, 0.5, 0.9, 0.95]),
        interval=st.integers(1, 12),
        progressive=st.booleans(),
        reactivate=st.sampled_from(["search", "prune", "none"]),
        on_conflict=st.sampled_from(["search_then_prune", "search_only"]),
    ),
)


@pytest.mark.parametrize(
    ("made", "jump"),
    [
        (recipe(20, {"interval": 0}, ratio=0.85, interval=25, progressive=False), "from 0% to 85%"),
        (recipe(20, {"interval": 0}, ratio=0.85, interval=20, progressive=False), "from 0% to 85%"),
        (recipe(20, {"interval": 0}, ratio=0.85, interval=5, progressive=False), None),
        (recipe(4, {"interval": 0}, ratio=0.4, interval=1), None),  # 10% at a time, the last of them at the end
        (recipe(6, {"interval": 0}, ratio=0.4, interval=2), "from 20% to 40%"),
        (recipe(20, {"interval": 0}, ratio=0.85, interval=25, schedule="cubic"), None),
        (recipe(20, {"interval": 0}, ratio=0.0), None),
    ],
)
def test_a_prune_that_no_training_follows_is_warned_of(made: Recipe, jump: str | None) -> None:
    warning = late_prune_warning(made)
    assert (warning is None) == (jump is None)
    assert (jump or "") in (warning or "")


@pytest.mark.parametrize(
    ("steps", "total", "jump"),
    [
        (20, 1000, None),
        (20, 21, None),  # the last prune is behind the end of the path, at 60%
        (350, 1000, None),  # the last at 700
        (500, 1000, None),  # at 500: u = 0.8, so 0.85 (1 - 0.2^3) = 84%
        (26, 50, None),  # at 26 of 50: u = 0.84
        (700, 2000, None),  # at 1400
        (20, 20, "from 0% to 85%"),  # the only one is at the first step
        (5000, 3000, "from 0% to 85%"),
        (300, 599, None),  # at 300 of 599: u = 0.80
        (300, 1501, None),
    ],
)
def test_a_cubic_path_that_a_training_hardly_begins_is_warned_of(steps: int, total: int, jump: str | None) -> None:
    made = recipe(20, {"interval": 0}, ratio=0.85, schedule="cubic", steps=steps)
    warning = late_prune_warning(made, total)
    assert (warning is None) == (jump is None)
    assert (jump or "") in (warning or "")


@settings(deadline=None)
@given(RECIPES)
def test_every_plan_ends_at_exactly_p(made: Recipe) -> None:
    """Whatever the settings: the last prune is to p, comes in the last epoch, and nothing is undone behind it."""
    table = plan_lines(made)
    assert all(1 <= t <= made.epochs and row == events(t, made) for t, row in table)
    sequence = [(t, e) for t, row in table for e in row]
    ratios = [e.ratio for _, e in sequence if isinstance(e, Prune)]
    assert all(0 < ratio <= made.prune.ratio for ratio in ratios)
    if made.prune.ratio:
        last = max(i for i, (_, e) in enumerate(sequence) if isinstance(e, Prune))
        assert sequence[last:] == [(made.epochs, Prune(made.prune.ratio)), (made.epochs, CALIBRATE)]
        try:
            check_schedule(made)
        except UserError:
            return
        assert ratios == sorted(ratios)
    else:
        assert not ratios
        assert BACK not in [e for _, e in sequence]
    for _, row in table:
        assert row.count(CALIBRATE) == 1
        assert row[-1] == CALIBRATE
        assert SHRINK not in row or row[0] == SHRINK
    end = made.search.last_epoch
    assert all(end is None or t <= end for t, e in sequence if e in (SHRINK, BACK))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (recipe(8, ratio=0.9, interval=1), "the fewest are 9; set epochs to 9, or prune.progressive to false"),
        (
            recipe(100, ratio=0.9, interval=25),
            "100 epochs cannot reach prune.ratio=0.9: at 10% per 25 epochs the fewest are 225; "
            "set epochs to 225, or prune.interval to 11, or prune.progressive to false",
        ),
        (recipe(29, ratio=0.25, interval=10), "the fewest are 30"),
        (
            recipe(40, {"last_epoch": 41}, ratio=0.0),
            "search.last_epoch=41 lies behind the run's 40 epochs; use a value of at most 40",
        ),
    ],
)
def test_impossible_schedules_name_the_nearest(made: Recipe, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_schedule(made)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "made",
    [
        paper(),
        recipe(9, ratio=0.9, interval=1),
        recipe(30, ratio=0.1 + 0.2, interval=10),  # ten times that is above 3 in floating point
        recipe(70, ratio=0.7, interval=10),
        recipe(1, ratio=0.9, interval=25, progressive=False),
        recipe(40, {"interval": 0, "last_epoch": 0, "floor": 0.0}, ratio=0.0),
        recipe(40, {"last_epoch": 40}, ratio=0.0),
    ],
)
def test_possible_schedules_pass(made: Recipe) -> None:
    check_schedule(made)


@settings(deadline=None)
@given(
    epochs=st.integers(1, 100),
    interval=st.integers(1, 30),
    tenths=st.integers(1, 9),
    remedy=st.sampled_from(["epochs", "interval"]),
)
def test_the_remedies_work(epochs: int, interval: int, tenths: int, remedy: Literal["epochs", "interval"]) -> None:
    """Refused exactly when the last progressive ratio falls short of p; what is offered passes."""
    made = recipe(epochs, ratio=tenths / 10, interval=interval)
    if epochs // interval >= tenths:
        check_schedule(made)
        return
    with pytest.raises(UserError) as caught:
        check_schedule(made)
    words = str(caught.value).replace(",", "").replace(";", "").split()
    if remedy == "epochs":
        offered = int(words[words.index("set") + 3])
        assert offered == interval * tenths
        check_schedule(recipe(offered, ratio=tenths / 10, interval=interval))
    elif "prune.interval" in words:
        offered = int(words[words.index("prune.interval") + 2])
        assert offered == math.floor(epochs / tenths)
        check_schedule(recipe(epochs, ratio=tenths / 10, interval=offered))
    else:
        assert epochs < tenths


def test_the_plan_tells_the_cubic_path() -> None:
    """Begin and end are shares of the training: a tenth and 60% of 40 epochs."""
    words = ["--prune.schedule", "cubic", "--prune.ratio", "0.8", "--prune.steps", "5", "--epochs", "40"]
    digits = load_recipe("digits", [*words, "--prune.begin", "0.1", "--prune.end", "0.6"])
    assert path_line(digits) == "from epoch 4 to 24: prune along a cubic path to 80%, every 5 steps"
    assert path_line(load_recipe("digits", ["--prune.schedule", "interval"])) is None
    assert path_line(load_recipe("digits", ["--prune.ratio", "0"])) is None


@pytest.mark.parametrize("name", list_recipes())
def test_no_recipe_prunes_much_at_once(name: str) -> None:
    """A jump to 80 or 90% at the highest rate throws the loss back to chance (seen with the digits)."""
    shipped = load_recipe(name)
    if shipped.prune.schedule == "cubic" or not shipped.epochs:
        return  # small steps by themselves
    ratios = [0.0]
    for _, row in plan_lines(shipped):
        ratios += [event.ratio for event in row if isinstance(event, Prune) and event.ratio is not None]
    assert max((later - before for before, later in itertools.pairwise(ratios)), default=0) <= 0.1 + 1e-9
