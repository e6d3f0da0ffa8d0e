"""Plain training: no search, no pruning. Dense baselines, trainings of a ticket, and transfers are made by it."""

from __future__ import annotations

from ..training import Algorithm


class PlainTraining(Algorithm):
    """The training of a network as it is."""

    name = "plain_training"
