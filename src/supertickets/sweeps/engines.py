"""The choice of the engine that does a sweep's jobs: local processes, Ray or Slurm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .local_engine import LocalWorkers
from .ray_engine import RayWorkers
from .slurm_engine import SlurmWorkers
from .work import Engine


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Options of engines, as on the command line.

    Attributes:
        workers: Jobs at once.
        threads: CPU threads of each job.
        cpus: CPUs that each job takes; None for as many as it has threads.
        gpus: GPUs that each job takes: 0, 1, or for Ray a share.
        slurm: Parameters for sbatch.
    """

    workers: int | None = None
    threads: int = 1
    cpus: int | None = None
    gpus: float | None = None
    slurm: str | None = None


def open_engine(name: str, root: Path, options: EngineOptions) -> Engine:
    """Open an engine.

    Args:
        name: "local", "ray" or "slurm".
        root: Directory of the sweep.
        options: Options as on the command line.

    Raises:
        UserError: An option cannot work, or the engine is not there.
    """
    workers, threads, cpus, gpus = options.workers, options.threads, options.cpus, options.gpus
    for option, value in (("workers", workers), ("threads", threads), ("cpus", cpus)):
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}; the nearest possible is 1")
    if gpus is not None and not 0 <= gpus <= 1:
        raise UserError(f"--gpus is {gpus:g}; a job takes 0, 1, or with --engine ray a share of one, e.g. 0.5")
    if name == "local" and (cpus is not None or gpus is not None):
        raise UserError(f"--{'gpus' if cpus is None else 'cpus'} is for --engine ray or slurm; leave it out")
    if name != "slurm" and options.slurm is not None:
        raise UserError("--slurm is for --engine slurm; leave it out")
    if name == "local":
        return LocalWorkers(root, workers or 1, threads)
    if name == "ray":
        return RayWorkers(root, workers, threads, cpus or threads, gpus or 0)
    if gpus not in (None, 0, 1):
        raise UserError(f"--gpus is {gpus:g}, but shares are for --engine ray; the nearest possible is 1")
    return SlurmWorkers(root, threads, cpus or threads, int(gpus or 0), options.slurm or "")
