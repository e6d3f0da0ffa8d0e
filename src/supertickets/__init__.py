"""supertickets: small vision networks, searched and pruned in one training run."""

import os as _os
from importlib.metadata import version as _version

# Read once, when PyTorch loads its OpenMP library: threads that wait without spinning cost a tenth of the speed on an
# idle machine, and save several times the time where other programs want the same cores.
_os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = _version("supertickets")

from . import cost, restate, runs
from .errors import UserError
from .files import list_recipes, load_recipe
from .recipe import Recipe
from .runs import draw, prune, resume, retrain, train, transfer
from .supernets import create_supernet, list_supernets
from .ticket import Ticket, load

__all__ = [
    "Recipe",
    "Ticket",
    "UserError",
    "__version__",
    "cost",
    "create_supernet",
    "draw",
    "list_recipes",
    "list_supernets",
    "load",
    "load_recipe",
    "prune",
    "restate",
    "resume",
    "retrain",
    "runs",
    "train",
    "transfer",
]
