"""Jobs in processes of this machine."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .fork_server import ForkServer
from .sweep import Job
from .work import WorkerLost, check_end, read_log_since, start_log


class LocalWorkers:
    """Processes on this machine, one per job, so that a killed one takes no other with it.

    Args:
        root: Directory of the sweep.
        workers: Number of jobs at once.
        threads: CPU threads of each job.
    """

    def __init__(self, root: Path, workers: int = 1, threads: int = 1) -> None:
        self.root, self.threads = root, threads
        self._pool = ThreadPoolExecutor(workers)
        self._idle: list[ForkServer] = []
        self._busy: set[ForkServer] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, job: Job) -> Future[None]:
        """Give a job to a process."""
        return self._pool.submit(self._run, job)

    def close(self) -> None:
        """Stop all processes; each saves a checkpoint first, as on Ctrl-C."""
        with self._lock:
            self._closed = True
            for server in self._busy:
                server.stop()
        self._pool.shutdown(cancel_futures=True)
        for server in self._idle:
            server.close()

    def _run(self, job: Job) -> None:
        log, begins = start_log(self.root, job)
        with self._lock:
            if self._closed:
                raise WorkerLost
            server = self._idle.pop() if self._idle else ForkServer({"OMP_NUM_THREADS": str(self.threads)})
            self._busy.add(server)
            server.start(job, self.root, self.threads, {})
        status = server.wait()
        with self._lock:
            self._busy.discard(server)
            if server.is_alive:
                self._idle.append(server)
        check_end(status, read_log_since(log, begins))
