"""Statistics of the study of connections, by hand."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import pearsonr

import connection_statistics as statistics

ALONE = {
    "00": {"validation": 20.0, "test": 21.0, "params": 10},
    "01": {"validation": 25.0, "test": 24.0, "params": 12},
    "10": {"validation": 25.0, "test": 30.0, "params": 11},
    "11": {"validation": 24.0, "test": 24.0, "params": 13},
}


def test_correlations_tell_random_schemes_from_all() -> None:
    tables = statistics.correlations({"a": {"00": 0.1, "01": 0.2, "10": 0.4, "11": 0.3}}, ALONE, ["00", "01", "11"])
    assert tables["random"]["schemes"] == 3
    assert tables["all"]["schemes"] == 4
    assert tables["random"]["a"]["pearson"] == pytest.approx(pearsonr([0.1, 0.2, 0.3], [21, 24, 24]).statistic)
    assert tables["all"]["a"]["spearman"] == pytest.approx(0.9486833)  # ranks 1 2 4 3 and 1 2.5 4 2.5
    assert (tables["random"]["lowest"], tables["random"]["highest"]) == (21.0, 24.0)


def test_progress_by_hand() -> None:
    """Of schemes with rewards 0, 1, 2 the mean is 1: the best of the first ten samples, and of twenty."""
    one = torch.tensor([0.0] * 9 + [1.0] + [2.0] + [0.0] * 9)
    other = torch.tensor([2.0] + [0.0] * 19)
    assert statistics.progress([one, other], torch.tensor([0.0, 1.0, 2.0])) == pytest.approx([0.5, 1.0])


def test_the_level_of_the_top_share() -> None:
    assert statistics.level_of_top([*range(100)], 0.05) == 95
    assert statistics.level_of_top([3.0, 1.0, 2.0], 0.05) == 3.0
