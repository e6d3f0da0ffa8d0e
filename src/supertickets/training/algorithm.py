"""The interface between the training loop and an algorithm: what stays the same in a run, and what it brings along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from ..config.recipe import Recipe
from ..config.search_settings import BudgetSettings
from ..data import Batch, Batches
from ..models import Spec
from ..tasks import Task
from .reporter import Reporter
from .run_dir import RunDir
from .runtime import Runtime
from .state import DeployableModel, Tensors, TrainState
from .teacher import Teacher

# Takes a step: batch, epochs that are complete, steps of this epoch that are done; returns the loss on the device.
Step = Callable[[Batch, int, int], Tensor]


# Times a network in the runtime that a budget is for; returns ms.
MeasureNetwork = Callable[[DeployableModel, BudgetSettings], float]


class NetworkStep(Protocol):
    """A training step of a network: as `Step`, and the subnets that the parts of the batch go through, if any."""

    def __call__(self, batch: Batch, epoch: int, step: int, choices: Any = None) -> Tensor:
        """Take the step."""

    def remask(self) -> None:
        """Take over the mask of the state, which may have changed between two steps."""


@dataclass(frozen=True)
class Session:
    """Everything that stays the same during a run.

    Attributes:
        recipe: The settings.
        supernet: The network that the run began with.
        batches: The data.
        task: The task: loss and metrics.
        runtime: Device and processes.
        run: The run's directory.
        reporter: Display of the progress.
        teacher: A trained network to learn from; the running average is made anew in every epoch instead.
    """

    recipe: Recipe
    supernet: Spec
    batches: Batches
    task: Task
    runtime: Runtime
    run: RunDir
    reporter: Reporter
    teacher: Teacher | None = None

    @property
    def parts(self) -> int:
        """Return the number of parts in which this process's share of a batch goes through the network.

        The parts of the whole batch are shared by the processes, so that a recipe means the same on any number.
        """
        return max(1, self.recipe.accumulate // self.runtime.world)

    @property
    def total_steps(self) -> int:
        """Return the number of steps of the whole training."""
        return self.recipe.epochs * self.batches.steps_per_epoch


class Outcome(NamedTuple):
    """The end of a run that makes a ticket.

    Attributes:
        state: The network in training, after the last change.
        summary: Entries for the ticket's record, as plain JSON.
    """

    state: TrainState
    summary: dict[str, Any]


class Algorithm:
    """The part of a run that differs between algorithms; as it stands, it trains the network and changes nothing.

    The loop calls it at the boundaries of steps and epochs, and knows no algorithm by name. What an algorithm has to
    keep across a crash is its own: `tensors` and `to_json` give it, `restore` takes it back.

    Attributes:
        name: Its name in ``run.json``.
    """

    name: ClassVar[str] = ""

    def options(self) -> dict[str, Any]:
        """Return the arguments that make it again for a resumed run, beside the recipe, as plain JSON."""
        return {}

    def use_measure(self, measure: MeasureNetwork) -> None:
        """Take a function that times networks; only what has a budget of latency needs it.

        Args:
            measure: Function of a network and of the settings of the budget; returns ms.
        """

    def check(self, recipe: Recipe) -> None:
        """Check the settings, before anything is read.

        Raises:
            UserError: The algorithm cannot work with them.
        """

    def metadata(self, recipe: Recipe) -> dict[str, Any]:
        """Return entries for the record of the run and of its ticket, as plain JSON."""
        return {}

    def supernet(self, session: Session) -> Spec:
        """Return the network that a run begins with: the session's, with all that the algorithm needs of it.

        Args:
            session: What stays the same.
        """
        return session.supernet

    def init(self, session: Session, state: TrainState) -> TrainState:
        """Prepare a run that begins.

        Args:
            session: What stays the same.
            state: The network before the first step.

        Returns:
            The state to begin with.

        Raises:
            UserError: The algorithm cannot work with the settings, the network or the data.
        """
        self.reopen(session)
        return state

    def reopen(self, session: Session) -> None:
        """Make what `restore` fills, in a run that begins or goes on."""

    def last_epoch(self, recipe: Recipe) -> int:
        """Return the number of epochs to train."""
        return recipe.epochs

    def make_step(self, session: Session, state: TrainState, take: NetworkStep) -> Step:
        """Return the function that takes the steps of an epoch.

        Args:
            session: What stays the same.
            state: The network, which keeps its shape during the epoch.
            take: A training step of that network.
        """
        return take

    def on_gradients(self, session: Session, state: TrainState) -> None:
        """Look at the gradients of a step: averaged over processes, before clipping, penalty and optimizer.

        Args:
            session: What stays the same.
            state: The network, whose parameters hold the gradients.
        """

    def on_epoch_end(self, session: Session, state: TrainState, epoch: int) -> TrainState:
        """Return the state to go on with after an epoch.

        Args:
            session: What stays the same.
            state: The network after the steps of the epoch, before its evaluation.
            epoch: Number of the epoch, from 1.
        """
        return state

    def deployable(self, state: TrainState) -> DeployableModel:
        """Return the network as it would be evaluated and saved now."""
        return state.deployable()

    def epoch_record(self, session: Session, epoch: int) -> dict[str, Any]:
        """Return entries for the event log of an epoch, as plain JSON; called once per epoch."""
        return {}

    def progress(self, record: Mapping[str, Any]) -> str:
        """Return the figures of an epoch's record that a person sees."""
        return f"sparsity {record['sparsity']:.0%}"

    def finalize(self, session: Session, state: TrainState) -> Outcome | None:
        """Do what is left behind the last epoch.

        Returns:
            The network and its summary; None if the run makes no ticket.
        """
        return Outcome(state, {})

    def tensors(self) -> Tensors:
        """Return the tensors that must survive a crash, by name."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return everything else that must survive a crash, as plain JSON."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Take back what `tensors` and `to_json` gave."""
