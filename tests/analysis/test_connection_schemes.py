"""Statistics of the schemes of a search for connections: by hand, and against networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from supertickets import UserError
from supertickets.analysis import connection_schemes as room
from supertickets.analysis.scheme_trial import TrainedScheme, choose_schemes, ticket_verdict
from supertickets.cost import count
from supertickets.cost.latency import TimeIncrement
from supertickets.models import ResNetSpec, create_resnet
from supertickets.nas import every_scheme

NARROW: dict[str, Any] = {"widths": (4, 4, 4), "ratio": 4, "num_classes": 10, "image_size": (8, 8)}


def spec_of(sharing: str = "none", scheme: str | None = None) -> ResNetSpec:
    return create_resnet("resnet38", attention="se", sharing=sharing, scheme=scheme, **NARROW)


def seen(quality: Tensor) -> room.JudgedSchemes:
    """All schemes of a network with these qualities, by binary number."""
    return room.sort_schemes(spec_of(), every_scheme(12), quality.double())


@pytest.mark.parametrize("sharing", ["none", "stage"])
def test_parameters_are_those_of_the_networks(sharing: str) -> None:
    flags = every_scheme(12)[torch.randperm(4096, generator=torch.Generator().manual_seed(0))[:6]]
    flags = torch.cat([flags, torch.tensor([[False], [True]]).expand(-1, 12)])
    spec = spec_of(sharing)
    networks = [room.with_connections(spec, row).build() for row in flags.tolist()]
    known = [sum(weight.numel() for weight in network.parameters()) for network in networks]
    assert room.count_parameters(spec, flags).tolist() == known
    assert known[0] == count(room.with_connections(spec, flags[0].tolist())).params


def test_the_study_by_hand() -> None:
    """Quality is the share of the first two blocks that are connected."""
    summary = room.summarize_schemes(seen(every_scheme(12)[:, :2].double().mean(1)), {})
    assert (summary["full"], summary["plain"]) == (1.0, 0.0)
    one = summary["ratios"][1]
    assert (one["connections"], one["schemes"]) == (1, 12)
    assert one["quality"] == [0.0, pytest.approx(1 / 12), 0.5]
    assert (one["above_full"], one["below_plain"]) == (0.0, 0.0)
    assert one["params"][0] == one["params"][1]  # widths, and so modules, are all the same
    good, bad = summary["scores"]["tickets"], summary["scores"]["bad"]
    assert good["schemes"] == 2**10 - 1  # but for all connected
    assert good["by_block"][:2] == [1.0, 1.0]
    assert good["by_block"][2:] == pytest.approx([(2**9 - 1) / (2**10 - 1)] * 10)
    assert good["slope"] < 0
    assert bad == {"schemes": 0}
    assert summary["quality_per_connection"]["slope"] == pytest.approx(1 / 12)


def test_times_stand_beside_ratios() -> None:
    what = seen(every_scheme(12).double().mean(1))
    places = (what.connections == 3).nonzero()[:3, 0].tolist()
    times = {
        place: TimeIncrement(percent, 0.0, 0.0, 1.0) for place, percent in zip(places, (3.0, 1.0, 7.0), strict=True)
    }
    rows = {row["connections"]: row["percent"] for row in room.summarize_schemes(what, times)["ratios"]}
    assert rows[3] == [1.0, 3.0, 7.0]
    assert rows[4] == []


def test_schemes_of_every_ratio_are_timed() -> None:
    what = seen(every_scheme(12).double().mean(1))
    times = room.time_schemes(what, 1, batch=1, repeats=3)
    assert sorted(what.connections[list(times)].tolist()) == [*range(1, 13)]
    assert all(one.low <= one.percent <= one.high and one.ms > 0 for one in times.values())


def test_periodicity_by_hand() -> None:
    def of(text: str) -> tuple[int, float]:
        return room.periodicity([digit == "1" for digit in text])

    assert of("001001001001") == (3, 1.0)
    assert of("111111111111") == (1, 1.0)
    assert of("011001100110") == (4, 1.0)
    assert of("110100") == (3, pytest.approx(2 / 3))


def test_a_level_line_has_no_trend() -> None:
    fit = room.fit_line(torch.arange(4.0), torch.full((4,), 0.5))
    assert (fit.slope, fit.error, fit.p) == (0.0, 0.0, 1.0)


def test_ends_must_have_been_judged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no schemes\.csv"):
        room.read_scheme_search(tmp_path)


def test_a_scheme_is_a_ticket_if_faster_and_as_accurate() -> None:
    full = TrainedScheme("11|11", 60.0, 61.0, 120, 20.0)
    good = TrainedScheme("10|01", 59.0, 61.0, 110, 10.0)
    assert all(ticket_verdict(good, full, shared=False).values())
    worse = TrainedScheme("10|00", 63.0, 60.9, 105, 21.0)
    verdict = ticket_verdict(worse, full, shared=False)
    assert (verdict["faster"], verdict["as_accurate"], verdict["ticket"]) == (False, False, False)
    assert choose_schemes([good, worse]) is worse  # the validation split chooses
    assert not ticket_verdict(full, full, shared=True)["ticket"]
    level = TrainedScheme("10|01", 59.0, 61.0, 120, 10.0)  # stages share modules, and each still has its own
    assert [ticket_verdict(level, full, shared=shared)["ticket"] for shared in (False, True)] == [False, True]
