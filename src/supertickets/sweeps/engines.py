"""Which engine does a sweep's jobs."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from .local_engine import LocalWorkers
from .ray_engine import RayWorkers
from .slurm_engine import SlurmWorkers
from .work import Engine


def open_engine(
    name: str,
    root: Path,
    *,
    workers: int | None = None,
    threads: int = 1,
    cpus: int | None = None,
    gpus: float | None = None,
    slurm: str | None = None,
) -> Engine:
    """Opens an engine; options are as on the command line.

    Args:
        name: "local", "ray" or "slurm".
        root: Directory of the sweep.
        workers: Jobs at once.
        threads: CPU threads of each.
        cpus: CPUs that each takes; default: as many as it has threads.
        gpus: GPUs that each takes: 0, 1, or for Ray a share.
        slurm: Parameters for sbatch.

    Raises:
        UserError: An option cannot work, or the engine is not there.
    """
    for option, value in (("workers", workers), ("threads", threads), ("cpus", cpus)):
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}; the nearest possible is 1")
    if gpus is not None and not 0 <= gpus <= 1:
        raise UserError(f"--gpus is {gpus:g}; a job takes 0, 1, or with --engine ray a share of one, e.g. 0.5")
    if name == "local" and (cpus is not None or gpus is not None):
        raise UserError(f"--{'gpus' if cpus is None else 'cpus'} is for --engine ray or slurm; leave it out")
    if name != "slurm" and slurm is not None:
        raise UserError("--slurm is for --engine slurm; leave it out")
    if name == "local":
        return LocalWorkers(root, workers or 1, threads)
    if name == "ray":
        return RayWorkers(root, workers, threads, cpus or threads, gpus or 0)
    if gpus not in (None, 0, 1):
        raise UserError(f"--gpus is {gpus:g}, but shares are for --engine ray; the nearest possible is 1")
    return SlurmWorkers(root, threads, cpus or threads, int(gpus or 0), slurm or "")
