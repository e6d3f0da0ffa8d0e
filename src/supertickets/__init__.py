"""supertickets: small vision networks, searched and pruned in one training run."""

import importlib as _importlib
import os as _os
from typing import TYPE_CHECKING, Any

# Read once, when PyTorch loads its OpenMP library: threads that wait without spinning cost a tenth of the speed on an
# idle machine, and save several times the time where other programs want the same cores.
_os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from . import cost
    from .config.loading import load_recipe
    from .config.recipe import Recipe
    from .config.shipped import list_recipes
    from .errors import UserError
    from .models.factory import create_supernet, list_supernets
    from .runs.api import draw, load_or_run, prune, resume, retrain, search, train, transfer
    from .runs.derive import prune_recipe, retrain_recipe, transfer_recipe
    from .ticket import Ticket, load

    __version__: str

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
    "load_or_run",
    "load_recipe",
    "prune",
    "prune_recipe",
    "resume",
    "retrain",
    "retrain_recipe",
    "search",
    "train",
    "transfer",
    "transfer_recipe",
]

# Name -> the module that it comes from. Imported on first use (PEP 562), so that `import supertickets` is cheap.
_LAZY = {
    "list_recipes": "config.shipped",
    "load_recipe": "config.loading",
    **dict.fromkeys(("draw", "load_or_run", "prune", "resume", "retrain", "search", "train", "transfer"), "runs.api"),
    **dict.fromkeys(("prune_recipe", "retrain_recipe", "transfer_recipe"), "runs.derive"),
    **dict.fromkeys(("create_supernet", "list_supernets"), "models.factory"),
    **dict.fromkeys(("Ticket", "load"), "ticket"),
    "Recipe": "config.recipe",
    "UserError": "errors",
}


def __getattr__(name: str) -> Any:
    if name in ("cost", "deploy", "runtime"):
        return _importlib.import_module(f".{name}", __name__)
    if name == "__version__":
        value: Any = _importlib.import_module("importlib.metadata").version("supertickets")
    elif name in _LAZY:
        value = getattr(_importlib.import_module(f".{_LAZY[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
