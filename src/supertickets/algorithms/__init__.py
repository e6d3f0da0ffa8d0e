"""The papers' algorithms, one file each, and the table that makes them by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..training import Algorithm
from .connection_search import ConnectionSearch
from .one_shot import OneShotPruning
from .plain_training import PlainTraining
from .policy_search import PolicySearch
from .shared_prefix import SharedPrefix
from .two_in_one import TwoInOne

ALGORITHMS: Mapping[str, type[Algorithm]] = {
    kind.name: kind for kind in (ConnectionSearch, OneShotPruning, PlainTraining, PolicySearch, SharedPrefix, TwoInOne)
}


def algorithm_to_json(algorithm: Algorithm) -> dict[str, Any]:
    """Return name and options of an algorithm, for ``run.json``."""
    return {"name": algorithm.name, **algorithm.options()}


def algorithm_from_json(data: Mapping[str, Any]) -> Algorithm:
    """Make an algorithm again from what `algorithm_to_json` gave.

    Raises:
        KeyError: There is no such algorithm.
        TypeError: It has no such option.
    """
    return ALGORITHMS[data["name"]](**{name: value for name, value in data.items() if name != "name"})
