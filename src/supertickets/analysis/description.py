"""Networks as they are described before anything is trained: architecture, costs, an estimate of training time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..config.loading import load_recipe
from ..config.shipped import list_recipes
from ..cost import Cost, count
from ..data import published_samples, published_shape
from ..errors import UserError
from ..models import Spec
from ..models.factory import create_spec
from ..runs.model_init import network_settings, supernet_for
from ..runs.pretrained import load_prepared_splits
from ..ticket import load

TERA_FLOPS = 10  # that a large GPU sustains in the training of small networks; assumed


@dataclass(frozen=True)
class Description:
    """A network, and for that of a recipe how long it is trained.

    Attributes:
        spec: Architecture.
        mask: Mask of a ticket's weights.
        cost: Parameters and MACs.
        epochs: Passes over the data.
        samples: Training samples, if they are known.
    """

    spec: Spec
    mask: Mapping[str, Tensor]
    cost: Cost
    epochs: int | None = None
    samples: int | None = None

    @property
    def gpu_hours(self) -> float | None:
        """An estimate: three passes over the full supernet per sample (the backward is two) at an assumed rate."""
        if self.epochs is None or self.samples is None:
            return None
        return 3 * 2 * self.cost.macs * self.samples * self.epochs / (TERA_FLOPS * 1e12) / 3600


def describe(what: str, data_dir: str | None = None, trust: Iterable[str] = ()) -> Description:
    """Describe a ticket, or the full supernet of a recipe.

    Args:
        what: Folder of a ticket, name or file of a recipe.
        data_dir: Folder of data whose size, channels and classes a recipe's supernet takes; None: published ones.
        trust: Modules that may be imported if the ticket names them.

    Raises:
        UserError: It is neither, or the ticket names code that is not trusted.
    """
    if Path(what).is_dir():
        ticket = load(what, trust)
        return Description(ticket.spec, ticket.mask, ticket.cost)
    if what not in list_recipes() and not what.endswith((".yaml", ".yml")):
        raise UserError(f"'{what}' is neither the folder of a ticket nor a recipe; see: supertickets recipes")
    recipe = load_recipe(what, ["--data.dir", data_dir] if data_dir else [])
    if data_dir:
        recipe, splits = load_prepared_splits(recipe)
        spec, samples = supernet_for(recipe, splits), len(splits.train) or None
    else:
        settings, samples = recipe.supernet, published_samples(recipe.name, recipe.data)
        spec = create_spec(
            settings.architecture,
            transformer=settings.transformer,
            **published_shape(recipe.data) | network_settings(recipe),
        )
    return Description(spec, {}, count(spec), recipe.epochs or None, samples)
