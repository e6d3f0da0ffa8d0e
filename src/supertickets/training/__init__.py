"""Training: one loop, optimizers, averaging, the distributed runtime, checkpoints."""

from .algorithm import Algorithm, Outcome, Session
from .batch_norm import recalibrate
from .evaluate import evaluate
from .loop import build_eval_model, checkpoint, fit
from .reporter import Reporter, is_progress_shown, show_progress
from .run_dir import RunDir, read_events
from .runtime import Runtime, digest
from .state import Position, TrainState, initial_state, load_checkpoint, restore_state
from .stop_requests import Interrupted

__all__ = [
    "Algorithm",
    "Interrupted",
    "Outcome",
    "Position",
    "Reporter",
    "RunDir",
    "Runtime",
    "Session",
    "TrainState",
    "build_eval_model",
    "checkpoint",
    "digest",
    "evaluate",
    "fit",
    "initial_state",
    "is_progress_shown",
    "load_checkpoint",
    "read_events",
    "recalibrate",
    "restore_state",
    "show_progress",
]
