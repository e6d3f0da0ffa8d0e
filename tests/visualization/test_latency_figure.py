"""The figure of a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from supertickets.sweeps.comparison import EQUAL_TIME, REFERENCES, TICKETS, Comparison, MemberResult, MemberRun
from supertickets.tasks import Metric
from supertickets.visualization.latency_figure import draw_comparison


def member(title: str, group: str, kind: str, ms: float, scores: list[float]) -> MemberResult:
    runs = [
        MemberRun(seed=i, run=title, validation=score, test=score, costs={"seconds": 1.0}, latency_ms=ms)
        for i, score in enumerate(scores)
    ]
    return MemberResult(
        title=title, group=group, kind=kind, epochs=1, runtime="torch", latencies={"torch": ms}, runs=tuple(runs)
    )


@pytest.mark.parametrize("metric", [Metric("top1", "accuracy"), Metric("mae", "error", is_error=True)])
def test_every_point_is_named(metric: Metric, tmp_path: Path) -> None:
    members = (
        member("ticket 1 M MACs", TICKETS, "ticket", 0.1, [40.0, 41.0]),
        member("ResNet-8 width 16", REFERENCES, "ResNet-8", 0.1, [40.5, 40.5]),  # at the same place
        member("ResNet-8 width 32", REFERENCES, "ResNet-8", 3.0, [44.0, 46.0]),
        member("MobileNetV2 x0.5", REFERENCES, "MobileNetV2", 1.0, [30.0, 31.0]),
        member("ResNet-8 width 16, equal time", EQUAL_TIME, "ResNet-8", 0.1, [43.0, 43.5]),
    )
    comparison = Comparison(recipe="digits", data="digits", metric=metric, device="a CPU", versions={}, members=members)
    drawn = draw_comparison(comparison, tmp_path / "figure.svg").read_text()
    for one in members[:-1]:
        assert f"<!-- {one.title} -->" in drawn
    assert drawn.count("<!-- ResNet-8 width 16 -->") == 2
    assert "equal training time" in drawn
    assert "2 seeds" in drawn
