"""Jobs on the machines of a Slurm cluster."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import UserError, suggest
from .sweep import Job
from .work import WorkerLost, check_end, mark_directory
from .worker import attempt_job

# What is Slurm's word for a setting of the command line, or for something that must be as it is.
_OURS = {
    "cpus_per_task": "--cpus",
    "gpus_per_node": "--gpus",
    "num_gpus": "--gpus",
    "gpus_per_task": "--gpus",
    "cpus_per_gpu": "--cpus",
    **dict.fromkeys(("nodes", "ntasks_per_node", "job_name", "array_parallelism", "stderr_to_stdout"), ""),
    **dict.fromkeys(("setup", "teardown", "additional_parameters", "srun_args", "use_srun"), ""),
}


class SlurmWorkers:
    """Jobs of Slurm, submitted by submitit.

    A job that Slurm ends (time limit, preemption, ``scancel``) saves a checkpoint first and is submitted anew, which is
    counted here: Slurm itself takes nothing up again.

    Args:
        root: Directory of the sweep, on storage that all machines share.
        threads: CPU threads of each job.
        cpus: CPUs of each job.
        gpus: GPUs of each job.
        words: Parameters for sbatch by submitit's names, e.g. "time=120,partition=gpu".

    Raises:
        UserError: There is no submitit, no Slurm, or a parameter is wrong.
    """

    def __init__(self, root: Path, threads: int = 1, cpus: int = 1, gpus: int = 0, words: str = "") -> None:
        try:
            import submitit
        except ImportError:
            raise UserError("--engine slurm needs submitit: pip install 'supertickets[slurm]'") from None
        parameters = read_parameters(words, submitit.SlurmExecutor._valid_parameters() - set(_OURS))
        if shutil.which("srun") is None:
            raise UserError("--engine slurm finds no Slurm (srun) here; start the sweep where jobs are submitted")
        self._submitit: Any = submitit
        self._arguments = (str(root.resolve()), mark_directory(root), os.getcwd(), threads)
        self._executor: Any = submitit.AutoExecutor(root.resolve() / "slurm", cluster="slurm")
        self._executor.update_parameters(
            name="supertickets",
            timeout_min=parameters["time"],
            cpus_per_task=cpus,
            gpus_per_node=gpus,
            slurm_setup=[f"export OMP_NUM_THREADS={threads}"],
            slurm_additional_parameters={"no-requeue": True},
            **{f"slurm_{name}": value for name, value in parameters.items()},
        )
        self._open: dict[Any, Future[None]] = {}
        self._pool = ThreadPoolExecutor(8)  # a lost job's result is waited for, so that no other shall wait behind it
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, job: Job) -> Future[None]:
        """Give a job to Slurm.

        Raises:
            UserError: Slurm does not take it.
        """
        try:
            given = self._executor.submit(_attempt, job.to_json(), *self._arguments)
        except Exception as error:  # submitit's own, with sbatch's words
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise UserError(f"Slurm does not take the job ({lines[-1].strip()})") from None
        future: Future[None] = Future()
        self._open[given] = future
        return future

    def close(self) -> None:
        """Cancel all jobs; each saves a checkpoint first, as on Ctrl-C."""
        self._closed.set()
        self._watcher.join()
        for given in self._open:
            given.cancel(check=False)
        self._pool.shutdown()

    def _watch(self) -> None:
        while not self._closed.wait(1):
            for given in [given for given in list(self._open) if self._has_ended(given)]:
                self._pool.submit(self._finish, given, self._open.pop(given))

    def _has_ended(self, given: Any) -> bool:
        # submitit takes preempted jobs for such as Slurm begins again, which was switched off.
        preempted = isinstance(given, self._submitit.SlurmJob) and "PREEMPTED" in given.watcher.get_state(
            given.job_id, mode="cache"
        )
        return bool(given.done() or preempted)

    def _finish(self, given: Any, future: Future[None]) -> None:
        errors = self._submitit.core.utils
        try:
            check_end(*given.result())
            future.set_result(None)
        except (UserError, WorkerLost) as error:
            future.set_exception(error)
        except errors.UncompletedJobError:
            future.set_exception(WorkerLost(f"its Slurm job {given.job_id} ended without a result ({given.state})"))
        except Exception:  # it could not begin, e.g. without this package
            future.set_exception(UserError(f"its Slurm job {given.job_id} could not begin; see {given.paths.stderr}"))


def _attempt(*arguments: Any) -> tuple[int, str]:
    """Call `attempt_job` in a job of Slurm, whose signals to end become a Ctrl-C: the run saves a checkpoint."""
    ends = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

    def stop(*_: Any) -> None:
        for number in ends:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would not wait for the checkpoint
        signal.raise_signal(signal.SIGINT)

    for number in ends:
        signal.signal(number, stop)
    return attempt_job(*arguments)


def read_parameters(words: str, known: set[str]) -> Mapping[str, Any]:
    """Read "time=120,partition=gpu".

    Args:
        words: Names and values.
        known: Allowed names.

    Raises:
        UserError: A name is unknown or belongs to an option, a value is missing, or the time is.
    """
    parameters: dict[str, Any] = {}
    for word in words.split(",") if words else []:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not value:
            raise UserError(f"--slurm: '{word}' must be NAME=VALUE, e.g. time=120,partition=gpu")
        if name in _OURS:
            raise UserError(f"--slurm: {name} is set by {_OURS[name] or 'the sweep itself'}; leave it out")
        if name not in known:
            raise UserError(f"--slurm: unknown '{name}'{suggest(name, known)}")
        parameters[name] = int(value) if value.isdigit() else True if value == "true" else value
    if type(parameters.get("time")) is not int or parameters["time"] < 1:
        raise UserError("--slurm needs the minutes that a job may take, e.g. --slurm time=120")
    return parameters
