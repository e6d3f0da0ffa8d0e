"""Everything of a run that must survive a crash, as one object (`TrainState`) and one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.optim import Optimizer

from ..config.recipe import Recipe
from ..errors import UserError
from ..models import Network, Spec
from ..models.factory import spec_from_json
from ..models.tensor_file import load_tensors, save_tensors
from ..pruning import SparseState
from .ema import Ema
from .optimizers import load_optimizer_tensors, make_optimizer, optimizer_tensors
from .runtime import digest

Tensors = dict[str, Tensor]
_MEMORY = "algorithm"  # group of a checkpoint that holds what the algorithm keeps


@dataclass(frozen=True)
class Position:
    """The position in a run.

    Attributes:
        epoch: Epochs that are complete, events and evaluation included.
        step: Steps taken in the epoch under way; the data order goes on behind them.
        total_steps: Steps taken in all.
        samples: Samples seen in all (image-passes).
        loss_sum: Sum of the losses of the epoch under way.
        seconds: Training time so far.
        log_size: Bytes of the event log that belong to this position.
        retries: Times that the run went back to a checkpoint, since its loss was not a number any more.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    log_size: int = 0
    retries: int = 0


class DeployableModel(NamedTuple):
    """The network as it would be evaluated and saved.

    Attributes:
        spec: Its architecture.
        weights: Averaged weights if there are any, with the mask applied, and buffers.
        mask: Flags of the weights that live.
    """

    spec: Spec
    weights: Tensors
    mask: Tensors


class Durable(Protocol):
    """An object beside the network that must survive a crash: the algorithm of a run."""

    def tensors(self) -> Tensors:
        """Return its tensors by name."""

    def to_json(self) -> dict[str, Any]:
        """Return everything else, as plain JSON."""

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Take back what `tensors` and `to_json` gave."""


@dataclass
class TrainState:
    """A network in training.

    Random numbers are functions of (seed, epoch, step or sample), so there is no generator to keep.
    """

    spec: Spec
    module: Network
    optimizer: Optimizer
    ema: Ema | None
    sparse: SparseState = field(default_factory=SparseState)
    position: Position = field(default_factory=Position)

    def tensors(self) -> dict[str, Tensors]:
        """Return all tensors by group and name; they are named and shaped like the network's own."""
        groups = {"weights": dict(self.module.state_dict()), "mask": self.sparse.mask}
        if self.ema is not None:
            groups["ema"] = self.ema.tensors
        for prefix, values in (
            ("optimizer", optimizer_tensors(self.optimizer, self.module)),
            ("stored", self.sparse.stored),
        ):
            for key_name, value in values.items():
                key, _, name = key_name.rpartition("/")
                groups.setdefault(f"{prefix}:{key}", {})[name] = value
        return groups

    def meta(self) -> dict[str, Any]:
        """Return everything that is not a tensor, as plain JSON."""
        return {
            "spec": self.spec.to_json(),
            "position": asdict(self.position),
            "ratio": self.sparse.ratio,
        }

    def parameters(self) -> Tensors:
        """Return the parameters by name."""
        return dict(self.module.named_parameters())

    def deployable(self) -> DeployableModel:
        """Return the network as it would be evaluated and saved now."""
        weights = dict(self.module.state_dict())
        if self.ema is not None:
            weights |= self.ema.tensors
        for name, flags in self.sparse.mask.items():
            weights[name] = weights[name] * flags
        weights |= {name: weights[kept] for name, kept in self.module.shared_names().items()}
        return DeployableModel(self.spec, weights, self.sparse.mask)


def build_module(spec: Spec, recipe: Recipe, device: torch.device) -> Network:
    """Build a network in the recipe's memory format; the one way in which modules come to be."""
    module = spec.build().to(device)
    return module.to(memory_format=torch.channels_last) if recipe.channels_last else module


def initial_state(spec: Spec, recipe: Recipe, device: torch.device) -> TrainState:
    """Return a network before its first step; its weights are a function of ``recipe.seed``."""
    torch.manual_seed(recipe.seed)
    module = build_module(spec, recipe, device)
    if recipe.supernet.init == "small":
        for part in module.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.reset_parameters()
    if recipe.compile:
        torch.compiler.reset()  # programs of networks that are gone count towards the limit of recompilations
    ema = None
    if recipe.ema_decay:
        ema = Ema({k: p.detach().clone() for k, p in module.named_parameters()}, recipe.ema_decay)
    return TrainState(spec, module, make_optimizer(module, recipe.optimizer), ema)


def restore_state(
    recipe: Recipe, device: torch.device, meta: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]
) -> TrainState:
    """Rebuild a network in training from what `TrainState.tensors` and `TrainState.meta` gave.

    Serves resuming, shrinking and loading a ticket alike: parameter order, memory formats and optimizer groups are
    always those of a fresh build.
    """
    spec = spec_from_json(meta["spec"])
    state = initial_state(spec, recipe, device)
    state.module.load_state_dict(groups["weights"])
    if state.ema is not None:
        averages = groups.get("ema", {})
        with torch.no_grad():
            for name, value in state.ema.tensors.items():
                value.copy_(averages.get(name, groups["weights"][name]))
    moments, stored = {}, {}
    for group, values in groups.items():
        kind, _, key = group.partition(":")
        for name, value in values.items():
            if kind == "optimizer":
                moments[f"{key}/{name}"] = value.to(device) if value.ndim else value  # step counts find their place
            elif kind == "stored":
                stored[f"{key}/{name}" if key else name] = value.to(device)
    load_optimizer_tensors(state.optimizer, state.module, moments)
    mask = {name: flags.to(device) for name, flags in groups.get("mask", {}).items()}
    state.sparse = SparseState(mask, stored, meta["ratio"])
    state.position = Position(**meta["position"])
    return state


def all_tensors(state: TrainState, memory: Durable | None = None) -> dict[str, Tensor]:
    """Return the tensors of a state and its algorithm, by ``"<group>|<name>"``."""
    groups = state.tensors() if memory is None else {**state.tensors(), _MEMORY: memory.tensors()}
    return {f"{group}|{name}": value for group, values in groups.items() for name, value in values.items()}


def save_checkpoint(path: Path, state: TrainState, memory: Durable | None = None) -> None:
    """Write a state, and what its algorithm keeps, so that a kill at any instant leaves the last file whole."""
    tensors = all_tensors(state, memory)
    meta = json.dumps(state.meta() if memory is None else {**state.meta(), _MEMORY: memory.to_json()})
    save_tensors(path, tensors, {"state": meta, "sha256": _checksum(meta, tensors)})


def load_checkpoint(path: Path, recipe: Recipe, device: torch.device, memory: Durable | None = None) -> TrainState:
    """Read what `save_checkpoint` wrote.

    Args:
        path: The checkpoint.
        recipe: The settings.
        device: Device of the network.
        memory: Object to restore beside the network, if any.

    Raises:
        UserError: The file is missing or damaged.
    """
    groups: dict[str, Tensors] = {}
    try:
        tensors, texts = load_tensors(path)
        checksum = _checksum(texts["state"], tensors)
        if texts.get("sha256", checksum) != checksum:  # older ones have none
            raise ValueError("its checksum differs")
        meta = json.loads(texts["state"])
        for key, value in tensors.items():
            group, name = key.split("|", 1)
            groups.setdefault(group, {})[name] = value
        if memory is not None:
            memory.restore(groups.pop(_MEMORY, {}), meta[_MEMORY])
        return restore_state(recipe, device, meta, groups)
    except (OSError, SafetensorError, TypeError, KeyError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"checkpoint {path} is missing or damaged ({why}); begin anew with another --out") from None


def _checksum(meta: str, tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of all that a checkpoint holds."""
    return hashlib.sha256(f"{meta}\n{digest(tensors.items())}".encode()).hexdigest()
