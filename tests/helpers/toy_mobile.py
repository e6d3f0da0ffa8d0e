"""A space of mobile networks small enough to be worked out by hand."""

from __future__ import annotations

import dataclasses

from supertickets.models import MobileSpec
from supertickets.models.mobile.layer_spec import Block, Layer

BOTTLENECK = Layer(kernels=(3, 5), expansions=(2, 4), se=(False, True), stride=2)
SPACE = MobileSpec(
    blocks=(
        Block(name="stem", filters=(8,), layers=(Layer(kind="conv", stride=2),)),
        Block(
            name="b1",
            filters=(8, 16),
            layers=(BOTTLENECK, Layer(expansions=(2,), skips=(False, True), residual=True)),
        ),
    ),
    last_filters=(8, 24),
    num_classes=3,
    image_size=(15, 12),
)
DETECTOR = dataclasses.replace(SPACE, head="detection", image_size=(64, 64), extra_filters=(16, 12, 8, 8))
