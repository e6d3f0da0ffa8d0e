"""From a latency to MACs, and the search for the slowest network within a budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertickets import UserError
from supertickets.cost import LatencyLine, meet_latency


def test_macs_follow_the_slope_from_the_nearest_point() -> None:
    """0.1 ms per million: from 2 M at 0.3 ms to 0.35 ms is half a million."""
    line = LatencyLine(((1e6, 0.2), (2e6, 0.3), (4e6, 0.5)))
    assert line.macs_at(0.3) == pytest.approx(2e6)
    assert line.macs_at(0.35) == pytest.approx(2.5e6)
    assert line.macs_at(0.1) == pytest.approx(0.0, abs=1e-3)


def test_a_network_that_is_measured_again_replaces_its_point() -> None:
    line = LatencyLine(((1e6, 0.2), (2e6, 0.3))).add(2e6, 0.4)
    assert line.points == ((1e6, 0.2), (2e6, 0.4))


@given(st.floats(0.01, 1), st.floats(0.05, 2), st.floats(0.3, 1.5), st.floats(0.2, 0.8))
def test_a_smooth_latency_is_met_within_two_percent(fixed: float, slope: float, power: float, place: float) -> None:
    def latency(macs: float) -> float:
        return fixed + slope * (macs / 1e6) ** power

    budget = latency(1e7 * place)
    line = LatencyLine(((1e7, latency(1e7)), (1e6, latency(1e6))))
    line, network, ms = meet_latency(line, budget, lambda limit: (max(limit, 1.0), max(limit, 1.0), latency(limit)))
    assert 0.98 * budget <= ms <= budget
    assert ms == latency(network)
    assert len(line.points) <= 8


def test_of_widths_in_steps_the_slowest_that_fits_is_taken() -> None:
    """Steps of 3 M MACs, 0.3 ms each: within 1.3 ms the widest has 12 M."""

    def attempt(limit: float) -> tuple[float, float, float]:
        macs = 3e6 * (limit // 3e6)
        return macs, macs, 1e-7 * macs

    _, network, ms = meet_latency(LatencyLine(((3e7, 3.0), (3e6, 0.3))), 1.3, attempt)
    assert (network, ms) == (1.2e7, pytest.approx(1.2))


def test_a_budget_below_the_smallest_network_is_refused_with_what_can_be_met() -> None:
    with pytest.raises(UserError, match=r"smallest network takes 0\.5 ms.*latency_ms to 0\.525"):
        meet_latency(LatencyLine(((2e6, 1.0), (1e6, 0.5))), 0.4, lambda limit: ("small", 1e6, 0.5))
