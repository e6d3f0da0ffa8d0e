"""Jobs on the machines of a Ray cluster."""

from __future__ import annotations

import functools
import logging
import math
import os
import socket
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ..errors import UserError
from .fork_server import ForkServer
from .sweep import Job
from .work import WorkerLost, check_end, mark_directory
from .worker import attempt_job

_GRACE = 60  # seconds that stopped jobs have for their checkpoints
_STARTS = 3  # Ray gives its processes 15 seconds, which is short on a busy machine
_STORE = 100_000_000  # bytes; results go through files, so that Ray's own store stays empty


class RayWorkers:
    """Tasks of a Ray cluster, a process per job: that of ``ray start`` or RAY_ADDRESS, else one that lives as long.

    Ray itself repeats nothing: a lost job is reported, so that attempts are counted in one place.

    Args:
        root: Directory of the sweep, on storage that all machines share.
        workers: Jobs at once, if a cluster must be started here; None for as many as this machine has CPUs.
        threads: CPU threads of each.
        cpus: CPUs that each takes of its machine.
        gpus: Share of a GPU that each takes; none is seen at 0.

    Raises:
        UserError: There is no Ray, no cluster, or no machine in it that is large enough.
    """

    def __init__(
        self, root: Path, workers: int | None = None, threads: int = 1, cpus: int = 1, gpus: float = 0
    ) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("--engine ray needs Ray: pip install 'supertickets[cluster]'") from None
        self._ray: Any = ray
        self._arguments = (str(root.resolve()), mark_directory(root), os.getcwd(), threads)
        _connect(ray, None if workers is None else workers * cpus)
        _check_room(ray, cpus, gpus)
        environment = {"OMP_NUM_THREADS": str(threads)} | ({} if gpus else {"CUDA_VISIBLE_DEVICES": ""})
        self._attempt: Any = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_retries=0, runtime_env={"env_vars": environment}
        )(run_in_subprocess)
        self._open: set[Any] = set()

    def submit(self, job: Job) -> Future[None]:
        """Give a job to Ray, which begins it when a machine has room."""
        ref = self._attempt.remote(job.to_json(), *self._arguments)
        self._open.add(ref)
        future: Future[None] = Future()

        def finish(ended: Future[tuple[int, str]]) -> None:
            self._open.discard(ref)
            try:
                self._check(ended)
                future.set_result(None)
            except (UserError, WorkerLost) as error:
                future.set_exception(error)

        ref.future().add_done_callback(finish)
        return future

    def close(self) -> None:
        """Stop all jobs; each saves a checkpoint first, as on Ctrl-C. A cluster that was started here ends."""
        left = list(self._open)
        for ref in left:
            self._ray.cancel(ref)
        if left:
            self._ray.wait(left, num_returns=len(left), timeout=_GRACE)
        self._ray.shutdown()

    def _check(self, ended: Future[tuple[int, str]]) -> None:
        errors, error = self._ray.exceptions, ended.exception()
        if error is None:
            check_end(*ended.result())
            return
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        if isinstance(error, errors.RayTaskError):  # it could not begin, e.g. without this package
            raise UserError(lines[-1].strip())
        if isinstance(error, errors.RuntimeEnvSetupError):
            raise UserError(" ".join(lines))
        raise WorkerLost(lines[0].strip())


def run_in_subprocess(job: Mapping[str, Any], root: str, mark: str, directory: str, threads: int) -> tuple[int, str]:
    """Call `attempt_job` with a process of its own for the job, which Ray's process may outlive."""
    return attempt_job(job, root, mark, directory, threads, _run_subprocess)


def _run_subprocess(job: Job, root: Path, threads: int) -> int:
    server = _fork_server()
    gpus = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
    server.start(job, root, threads, gpus)
    try:
        status = server.wait()
    except KeyboardInterrupt:
        server.stop()
        status = server.wait()
    if not server.is_alive or status == 130:
        _fork_server.cache_clear()
    return status


@functools.cache
def _fork_server() -> ForkServer:
    """Return the fork server of this process of Ray, which does one job after the other."""
    return ForkServer({})


def _connect(ray: Any, cpus: int | None) -> None:
    """Join the cluster that there is, else start one on this machine."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = find_cluster()
    own = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _STORE} if address is None else {}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports nothing to anyone
    why = ""
    for _ in range(_STARTS):
        try:
            ray.init(address=address or "local", **own, **quiet)
            return
        except Exception as error:  # Ray raises many kinds, plain ones among them
            why = " ".join(str(error).split())
            ray.shutdown()
    raise UserError(f"Ray cannot be started here ({why})" if own else f"the Ray cluster {address} refuses ({why})")


def find_cluster() -> str | None:
    """Return the address of a running Ray cluster: RAY_ADDRESS, else that of ``ray start`` on this machine.

    Ray would look in the same places, but ask one that has gone for minutes.

    Raises:
        UserError: There is none at RAY_ADDRESS.
    """
    asked = os.environ.get("RAY_ADDRESS", "")
    if asked == "local":
        return None
    last = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    address = asked if asked not in ("", "auto") else last.read_text().strip() if last.exists() else None
    if address is None or _is_responding(address):
        return address
    if address == asked:
        raise UserError(f"no Ray cluster answers at RAY_ADDRESS {asked}; start it, or unset it")
    return None


def _is_responding(address: str) -> bool:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


def _check_room(ray: Any, cpus: int, gpus: float) -> None:
    """Refuse what no machine of the cluster can hold, which would wait for ever."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(machine.get("CPU", 0) >= cpus and machine.get("GPU", 0) >= gpus for machine in machines):
        return
    most = ", ".join(f"{math.floor(m.get('CPU', 0))} CPUs and {m.get('GPU', 0):g} GPUs" for m in machines)
    ray.shutdown()
    raise UserError(f"no machine of the Ray cluster has {cpus} CPUs and {gpus:g} GPUs for a job; there are: {most}")
