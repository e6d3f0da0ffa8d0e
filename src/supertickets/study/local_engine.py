"""Jobs in processes of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .sweep import Job
from .work import WorkerLost, check_end, log_since


class LocalWorkers:
    """Processes on this machine, one per job, so that a killed one takes no other with it.

    Args:
        root: Directory of the sweep.
        workers: How many at once.
        threads: CPU threads of each.
    """

    def __init__(self, root: Path, workers: int = 1, threads: int = 1) -> None:
        self.root, self.threads = root, threads
        self._pool = ThreadPoolExecutor(workers)
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, job: Job) -> Future[None]:
        """Gives a job to a process."""
        return self._pool.submit(self._run, job)

    def close(self) -> None:
        """Stops all processes; each saves a checkpoint first, as on Ctrl-C."""
        with self._lock:
            self._closed = True
            for child in self._children:
                child.send_signal(signal.SIGINT)
        self._pool.shutdown(cancel_futures=True)

    def _run(self, job: Job) -> None:
        words = [sys.executable, "-m", "supertickets.study.worker", str(self.root), json.dumps(job.to_json())]
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        path = self.root / job.key / "log.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            begins = log.tell()
            with self._lock:
                if self._closed:
                    raise WorkerLost
                child = subprocess.Popen(
                    words, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
                )
                self._children.add(child)
            child.wait()
        with self._lock:
            self._children.discard(child)
        check_end(child.returncode, log_since(path, begins))
