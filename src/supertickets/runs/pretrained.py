"""Begin a run with weights that others trained: images as these want them, and the tensors that fit the network."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config.recipe import Recipe
from ..data import Preprocessing, Splits, load_splits
from ..data.preprocessing import CROP_SHARE, override_preprocessing
from ..data.sources import find_source
from ..errors import UserError
from ..models import Spec
from ..models.weights_file import WeightMatch, match_weights, read_weights, shorten
from ..plugins import recipe_trust
from ..ticket import Ticket
from ..training import Session, TrainState, digest
from ..training.published import published_network, published_preprocessing

_SETTING = "supernet.pretrained"
_COUNTER = "num_batches_tracked"  # of batch norms, which older files lack and nothing here reads


def load_prepared_splits(recipe: Recipe) -> tuple[Recipe, Splits]:
    """Read the data of a recipe, prepared as the weights that it begins with want it, where the recipe leaves it open.

    Returns:
        The recipe, with what was chosen in ``data``, so that a resumed run needs no file; and the data.

    Raises:
        UserError: The data or the weights' configuration cannot be read.
    """
    data = recipe.data
    if (known := _preprocessing_of_weights(recipe)) is None:
        return _show_middle(recipe, load_splits(data, recipe.task))
    wanted, origin = known
    if data.size is None and find_source(data.source).chooses_size:
        data = dataclasses.replace(data, size=min(wanted.size))
    splits = load_splits(data, recipe.task)
    plain, used = splits.preprocessing, wanted
    if plain.channels == wanted.channels:
        mean, std = ([round(value, 3) for value in values] for values in (wanted.mean, wanted.std))
        notes = [f"normalised by {origin}: mean {mean}, deviation {std} (--data.mean, --data.std)"]
    else:
        used = plain
        notes = [f"{origin} is for images of {wanted.channels} channels, these have {plain.channels}: normalised anew"]
    chosen: dict[str, Any] = {"mean": used.mean, "std": used.std, "resample": used.resample}
    if plain.share < 1:  # images in memory are whole, unless random crops are learned from
        chosen["crop_share"] = used.share
    given = {name: value for name in chosen if (value := getattr(data, name)) is not None}
    data = dataclasses.replace(data, **{**chosen, **given})
    if plain.size != wanted.size:
        sizes = "images have {} x {} pixels, by {} they would have {} x {} (--data.size)"
        notes.append(sizes.format(*plain.size, origin, *wanted.size))
    prepared = override_preprocessing(plain, data)
    splits = dataclasses.replace(splits, preprocessing=prepared, notes=(*splits.notes, *notes))
    return _show_middle(dataclasses.replace(recipe, data=data), splits)


def _show_middle(recipe: Recipe, splits: Splits) -> tuple[Recipe, Splits]:
    """Evaluate the middle of photographs in memory if random crops are learned from, in which things look larger.

    Images in files are shown so in any case (Touvron et al., 2019, Sec. 3, on the size that things seem to have).
    """
    plain = splits.preprocessing
    if recipe.data.crop_share is not None or recipe.augment.crop == 1 or plain.fit != "crop" or plain.share < 1:
        return recipe, splits
    data = dataclasses.replace(recipe.data, crop_share=CROP_SHARE)
    prepared = override_preprocessing(plain, data)
    return dataclasses.replace(recipe, data=data), dataclasses.replace(splits, preprocessing=prepared)


def load_pretrained(state: TrainState, session: Session) -> dict[str, Any]:
    """Load the weights that a recipe begins with into a network before its first step.

    What belongs to the features has to fit; what does not fit of the head stays fresh, and is named.

    Args:
        state: The network, with fresh weights.
        session: The recipe, and where to say what was loaded.

    Returns:
        Name and hash of the weights and the names of what is fresh, for the record of the run and of its ticket.

    Raises:
        UserError: The weights cannot be read or downloaded, or the features do not fit.
    """
    source, sha256, tensors = _read_weights(session.recipe, state.spec)
    weights = dict(state.module.state_dict())
    match = match_weights(weights, tensors)
    fresh = [name for name in weights if name not in match.tensors and not name.endswith(_COUNTER)]
    if unfit := [name for name in fresh if state.module.is_feature(name)]:
        raise UserError(
            f"{_SETTING} {source} does not fit {session.recipe.supernet.name}: {match.describe(unfit)}; "
            "take weights of the same network and settings, or false"
        )
    if left := _features_beyond(state, match):
        raise UserError(
            f"{_SETTING} {source} is of a larger network than {session.recipe.supernet.name}, which has no "
            f"{shorten(left)}; take weights of the same network and settings, or false"
        )
    weights |= match.tensors
    state.module.load_state_dict(weights)
    if state.ema is not None:
        for name, value in state.ema.tensors.items():
            value.copy_(weights[name])
    line = f"begun with {len(match.tensors)} tensors of {source} (sha256 {sha256[:12]})"
    line += f"; fresh: {match.describe(fresh)}" if fresh else ""
    session.reporter.say(line + (f"; not used: {shorten(match.unused)}" if match.unused else ""))
    return {"source": source, "sha256": sha256, "fresh": fresh}


def _features_beyond(state: TrainState, match: WeightMatch) -> list[str]:
    """Return names in a file of weights that belong to parts of the features, but that the network has not."""

    def part(name: str) -> str:
        return ".".join(name.split(".")[:2])

    is_feature = state.module.is_feature
    parts = {part(name) for name in match.tensors if is_feature(name)}
    pairs = zip(match.unused, match.would_be, strict=True)
    return [n for n, ours in pairs if is_feature(ours) and part(ours) in parts and not n.endswith(_COUNTER)]


def _preprocessing_of_weights(recipe: Recipe) -> tuple[Preprocessing, str] | None:
    """Return how images are prepared for the weights, and who says so; None if that is unknown, or chosen already."""
    supernet = recipe.supernet
    if supernet.pretrained is False or recipe.data.mean is not None:
        return None
    if isinstance(supernet.pretrained, str) and Path(supernet.pretrained).is_dir():
        return _read_ticket(recipe).preprocessing, f"the preprocessing of {supernet.pretrained}"
    if not supernet.family.publishes_weights:
        return None
    library, _, name = supernet.name.partition(":")
    return published_preprocessing(library, name), f"{library}'s configuration of {name}"


def _read_weights(recipe: Recipe, spec: Spec) -> tuple[str, str, Mapping[str, Tensor]]:
    """Return name, hash and tensors of the weights that a recipe begins with."""
    supernet = recipe.supernet
    if not isinstance(supernet.pretrained, str):
        library, _, name = supernet.name.partition(":")
        of_head = ("head", *(spec.head_settings or ()))
        settings = {key: value for key, value in supernet.settings.items() if key not in of_head}
        channels = {"in_chans": spec.in_channels} if library == "timm" else {}
        instead = f"give a file of them, --{_SETTING} FILE"
        tensors = published_network(library, name, instead, **channels, **settings).state_dict()
        return supernet.name, digest(tensors.items()), tensors
    path = Path(supernet.pretrained)
    if path.is_dir():
        ticket = _read_ticket(recipe)
        return path.name, digest(ticket.weights.items()), ticket.weights
    tensors = read_weights(path, _SETTING)
    return path.name, hashlib.sha256(path.read_bytes()).hexdigest(), tensors


def _read_ticket(recipe: Recipe) -> Ticket:
    return Ticket.from_pretrained(str(recipe.supernet.pretrained), recipe_trust(recipe.to_json()))
