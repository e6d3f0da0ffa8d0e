"""Costs of what a mask leaves: those of the full count, by hand, and of several budgets."""

from __future__ import annotations

import pytest
import torch

from supertickets.cost import MaskCosts, count
from supertickets.models.factory import create_spec


def test_costs_under_a_mask_are_those_of_the_full_count() -> None:
    spec = create_spec("resnet8", num_classes=7, image_size=(16, 16))
    generator = torch.Generator().manual_seed(0)
    weights = {name: p for name, p in spec.build().named_parameters() if p.ndim == 4}
    mask = {name: torch.rand(p.shape, generator=generator) < 0.3 for name, p in weights.items()}
    costs, full = MaskCosts(spec), count(spec, mask=mask)
    assert costs.measure("macs", mask) == full.masked_macs < count(spec).macs
    assert costs.measure("params", mask) == full.nonzero_params
    assert costs.measure("macs", {}) == count(spec).macs


def test_a_size_counts_a_bit_for_each_weight_of_a_pruned_layer() -> None:
    spec = create_spec("resnet8", num_classes=7, image_size=(16, 16))
    name, weight = next((n, p) for n, p in spec.build().named_parameters() if p.ndim == 4)
    mask = {name: torch.zeros(weight.shape, dtype=torch.bool)}
    left = count(spec).params - weight.numel()
    assert MaskCosts(spec).measure("size_kb", mask) == pytest.approx(left * 4 / 1000 + weight.numel() / 8000)
