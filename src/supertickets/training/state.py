"""Everything of a run that must survive a crash, as one object (`TrainState`) and one file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from ..config.recipe import Recipe
from ..errors import UserError
from ..models import MobileSpec, Network, Spec, slice_state_dict
from ..models.factory import spec_from_json
from ..nas import Policy, Space
from ..pruning import SparseState
from .ema import Ema
from .optimizers import load_optimizer_tensors, make_optimizer, optimizer_tensors

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Position:
    """How far a run is.

    Attributes:
        epoch: Epochs that are complete, events and evaluation included.
        step: Steps taken in the epoch under way; the data order goes on behind them.
        total_steps: Steps taken in all.
        samples: Samples seen in all (image-passes).
        loss_sum: Sum of the losses of the epoch under way.
        seconds: Training time so far.
        log_size: Bytes of the event log that belong to this position.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    log_size: int = 0


class DeployableModel(NamedTuple):
    """The network that a training has come to: what is evaluated and emitted.

    Attributes:
        spec: Its architecture.
        weights: Averaged weights if there are any, with the mask applied, and buffers.
        mask: Where weights live.
    """

    spec: Spec
    weights: Tensors
    mask: Tensors


class SampledEval(NamedTuple):
    """A network that a policy sampled, with shared weights.

    Attributes:
        quality: From 0 to 1.
        cost: Of its answers.
        reward: Of both.
        is_plain: Whether warm-up put nothing in the place of an answer.
    """

    quality: float
    cost: float
    reward: float
    is_plain: bool


@dataclass
class TrainState:
    """A network in training; with a policy, the one whose weights all networks of a space share.

    Random numbers are functions of (seed, epoch, step or sample), so there is no generator to keep.

    Attributes:
        policy: What a policy search has learned.
        judged: The networks that it sampled in the epoch under way.
    """

    spec: Spec
    module: Network
    optimizer: Optimizer
    ema: Ema | None
    sparse: SparseState = field(default_factory=SparseState)
    position: Position = field(default_factory=Position)
    policy: Policy | None = None
    judged: list[SampledEval] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensors]:
        """All tensors, by room and name; but for the policy's, named and shaped like the network's own."""
        rooms = {"weights": dict(self.module.state_dict()), "mask": self.sparse.mask}
        if self.ema is not None:
            rooms["ema"] = self.ema.tensors
        if self.policy is not None:
            rooms["policy"] = self.policy.tensors()
        for prefix, values in (
            ("optimizer", optimizer_tensors(self.optimizer, self.module)),
            ("stored", self.sparse.stored),
        ):
            for key_name, value in values.items():
                key, _, name = key_name.rpartition("/")
                rooms.setdefault(f"{prefix}:{key}", {})[name] = value
        return rooms

    def meta(self) -> dict[str, Any]:
        """All that is not a tensor, as plain JSON."""
        return {
            "spec": self.spec.to_json(),
            "position": asdict(self.position),
            "ratio": self.sparse.ratio,
        } | ({} if self.policy is None else {"policy": self.policy.to_json(), "judged": self.judged})

    def parameters(self) -> Tensors:
        """Parameters by name."""
        return dict(self.module.named_parameters())

    def deployable(self) -> DeployableModel:
        """The network as it would be evaluated and emitted now; of a policy search, the most probable one."""
        weights = dict(self.module.state_dict())
        if self.ema is not None:
            weights |= self.ema.tensors
        for name, flags in self.sparse.mask.items():
            weights[name] = weights[name] * flags
        if self.policy is None:
            return DeployableModel(self.spec, weights, self.sparse.mask)
        assert isinstance(self.spec, MobileSpec)
        best = self.policy.best()
        return DeployableModel(self.spec.select(best), slice_state_dict(self.spec, best, weights), {})


def build_module(spec: Spec, recipe: Recipe, device: torch.device) -> Network:
    """Builds a network in the recipe's memory format; the one way in which modules come to be."""
    module = spec.build().to(device)
    return module.to(memory_format=torch.channels_last) if recipe.channels_last else module


def initial_state(spec: Spec, recipe: Recipe, device: torch.device) -> TrainState:
    """A network before its first step; its weights are a function of ``recipe.seed``."""
    torch.manual_seed(recipe.seed)
    module = build_module(spec, recipe, device)
    if recipe.compile:
        torch.compiler.reset()  # programs of networks that are gone count towards the limit of recompilations
    ema = None
    if recipe.ema_decay:
        ema = Ema({k: p.detach().clone() for k, p in module.named_parameters()}, recipe.ema_decay)
    return TrainState(spec, module, make_optimizer(module, recipe.optimizer), ema)


def policy_of(spec: Spec, recipe: Recipe) -> Policy:
    """A policy that knows nothing yet of the networks of a space."""
    assert isinstance(spec, MobileSpec)
    return Policy(Space(spec.decisions()), recipe.policy)


def restore_state(
    recipe: Recipe, device: torch.device, meta: Mapping[str, Any], rooms: Mapping[str, Mapping[str, Tensor]]
) -> TrainState:
    """Rebuilds a network in training from what `TrainState.tensors` and `TrainState.meta` gave.

    Serves resuming, shrinking and loading a ticket alike: parameter order, memory formats and optimizer groups are
    always those of a fresh build.
    """
    spec = spec_from_json(meta["spec"])
    state = initial_state(spec, recipe, device)
    if "policy" in meta:
        state.policy, state.judged = policy_of(spec, recipe), [SampledEval(*row) for row in meta["judged"]]
        state.policy.restore(rooms["policy"], meta["policy"])
    state.module.load_state_dict(rooms["weights"])
    if state.ema is not None:
        averages = rooms.get("ema", {})
        with torch.no_grad():
            for name, value in state.ema.tensors.items():
                value.copy_(averages.get(name, rooms["weights"][name]))
    moments, stored = {}, {}
    for room, values in rooms.items():
        kind, _, key = room.partition(":")
        for name, value in values.items():
            if kind == "optimizer":
                moments[f"{key}/{name}"] = value.to(device) if value.ndim else value  # step counts stay on the CPU
            elif kind == "stored":
                stored[f"{key}/{name}" if key else name] = value.to(device)
    load_optimizer_tensors(state.optimizer, state.module, moments)
    mask = {name: flags.to(device) for name, flags in rooms.get("mask", {}).items()}
    state.sparse = SparseState(mask, stored, meta["ratio"])
    state.position = Position(**meta["position"])
    return state


def save_checkpoint(path: Path, state: TrainState) -> None:
    """Writes a state so that a kill at any instant leaves the last file whole."""
    flat = {
        f"{room}|{name}": value.detach().cpu().contiguous()
        for room, values in state.tensors().items()
        for name, value in values.items()
    }
    scratch = path.with_suffix(".tmp")
    save_file(flat, scratch, {"state": json.dumps(state.meta())})
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(scratch, path)
    sync_folder(path.parent)


def load_checkpoint(path: Path, recipe: Recipe, device: torch.device) -> TrainState:
    """Reads what `save_checkpoint` wrote.

    Raises:
        UserError: The file is missing or damaged.
    """
    rooms: dict[str, Tensors] = {}
    try:
        with safe_open(path, "pt") as file:
            meta = json.loads(file.metadata()["state"])
            for key in file.keys():  # noqa: SIM118 (not a dict)
                room, name = key.split("|", 1)
                rooms.setdefault(room, {})[name] = file.get_tensor(key)
        return restore_state(recipe, device, meta, rooms)
    except (OSError, SafetensorError, TypeError, KeyError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"checkpoint {path} is missing or damaged ({why}); begin anew with another --out") from None


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
