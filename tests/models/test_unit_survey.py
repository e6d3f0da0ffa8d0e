"""The survey of search units: its table is the one in the docs, and shares are counted right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from supertickets.models.units import Axis, UnitGroup

survey = pytest.importorskip("unit_survey", reason="needs timm")
ROOT = Path(__file__).parents[2]


def test_the_table_in_the_docs_is_that_of_the_results() -> None:
    rows = json.loads((ROOT / "benchmarks/results/unit_survey.json").read_text())["rows"]
    assert [row["network"] for row in rows] == [name for names in survey.NETWORKS.values() for name in names]
    assert survey.table(rows) in (ROOT / "docs/units.md").read_text()


def test_what_was_found_is_exact() -> None:
    rows = json.loads((ROOT / "benchmarks/results/unit_survey.json").read_text())["rows"]
    assert max(row["error"] for row in rows) < 1e-4
    assert sum(row["groups"] > 0 for row in rows) >= 40


def test_entries_that_belong_to_units() -> None:
    """Of 4 x 6 entries, all are a unit's but those in the 3 rows and 4 columns that stay."""
    module = nn.Linear(6, 4)
    rows = Axis("weight", 0, (-1, 0, -1, -1))
    columns = Axis("weight", 1, (0, 1, -1, -1, -1, -1))
    groups = [
        UnitGroup("a", "channel", 1, (rows, Axis("bias", 0, rows.owners))),
        UnitGroup("b", "channel", 2, (columns,)),
    ]
    assert survey.owned_entries(module, groups) == {"weight": 4 * 6 - 3 * 4, "bias": 1}


def test_a_wrong_group_has_an_error() -> None:
    """The removed unit is not silent: its gate is another layer's."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten()).eval()
    every = (0, 1, 2, 3)
    axes = (Axis("0.weight", 0, every), Axis("0.bias", 0, every), Axis("2.weight", 1, every))
    right = UnitGroup("0", "channel", 4, axes, axes[:2])
    wrong = UnitGroup("0", "channel", 4, axes, axes[1:2])
    assert survey.removal_error(module, [right], 4, 0) < 1e-6
    assert survey.removal_error(module, [wrong], 4, 0) > 1e-2
