"""Training: one loop, optimizers, averaging, the distributed runtime, checkpoints."""

from .evaluate import evaluate, recalibrate
from .loop import Interrupted, Session, checkpoint, evaluated_module, fit
from .progress import Reporter
from .rundir import RunDir, read_events, write_json
from .runtime import Runtime, digest
from .state import Position, TrainState, initial_state, load_checkpoint, policy_of, restore_state

__all__ = [
    "Interrupted",
    "Position",
    "Reporter",
    "RunDir",
    "Runtime",
    "Session",
    "TrainState",
    "checkpoint",
    "digest",
    "evaluate",
    "evaluated_module",
    "fit",
    "initial_state",
    "load_checkpoint",
    "policy_of",
    "read_events",
    "recalibrate",
    "restore_state",
    "write_json",
]
