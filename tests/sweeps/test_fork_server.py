"""The process that begins jobs: each is forked from it, ends alone, and nothing outlives whoever wanted it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supertickets import load_recipe
from supertickets.config.recipe import Recipe
from supertickets.sweeps import fork_server as rooms
from supertickets.sweeps.fork_server import ForkServer
from supertickets.sweeps.sweep import Job
from supertickets.sweeps.work import start_log

pytestmark = pytest.mark.long

# A process that wants a job.
MAKER = """
import json, sys
from pathlib import Path
from supertickets.sweeps.fork_server import ForkServer
from supertickets.sweeps.sweep import Job
server = ForkServer({})
server.start(Job.from_json(json.loads(sys.argv[1])), Path(sys.argv[2]), 1, {})
print(server._process.pid, flush=True)
server.wait()
"""


def job(*words: str) -> Job:
    recipe: Recipe = load_recipe("digits", ["--threads", "1", *words])
    return Job(command="train", recipe=recipe)


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    made = ForkServer({"OMP_NUM_THREADS": "1"})
    yield made
    made.close()


def begun(server: ForkServer, job: Job, root: Path, **environment: str) -> Path:
    """Begins a job, and returns its log once it is at work."""
    log, _ = start_log(root, job)
    server.start(job, root, 1, environment)
    return log


def process(log: Path) -> int:
    """The process of a job that has trained an epoch."""
    while not (log.exists() and "epoch   1/" in log.read_text()):
        time.sleep(0.01)
    return int(json.loads(log.with_name("worker.json").read_text())["pid"])


def gone(pid: int) -> bool:
    """Wait up to a minute for a process to end and return if it did: it may be importing on a busy machine."""
    for _ in range(6000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_jobs_end_one_by_one(server: ForkServer, tmp_path: Path) -> None:
    """One that is done already, one that cannot work, one that is killed; the log tells, and the next one works."""
    done = job()
    (tmp_path / done.key).mkdir()
    (tmp_path / done.key / "result.json").write_text("{}")
    begun(server, done, tmp_path)
    assert server.wait() == 0
    log = begun(server, job("--device", "cuda:99"), tmp_path)
    assert server.wait() == 2
    assert log.read_text().startswith("error: device cuda:99")
    log = begun(server, job("--epochs", "500"), tmp_path)
    os.kill(process(log), signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    assert server.is_alive
    begun(server, done, tmp_path)
    assert server.wait() == 0


def test_a_job_has_variables_of_its_own(server: ForkServer, tmp_path: Path) -> None:
    """Those of a request are not those of the next one: this job takes itself for one of two processes."""
    log = begun(server, job("--epochs", "500"), tmp_path, WORLD_SIZE="2")
    assert server.wait() in (1, 2)
    assert "RANK" in log.read_text()
    os.kill(process(begun(server, job("--epochs", "500"), tmp_path)), signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL


def test_a_stopped_job_saves_a_checkpoint(tmp_path: Path) -> None:
    server = ForkServer({})
    log = begun(server, job("--epochs", "500"), tmp_path)
    process(log)
    server.stop()
    assert server.wait() == 130
    assert log.with_name("checkpoint.safetensors").exists()
    assert not log.with_name("result.json").exists()
    assert "Traceback" not in log.read_text()
    begun(server, job(), tmp_path)  # none begins after that
    assert server.wait() == 130
    server.close()
    assert not server.is_alive


def test_a_starter_that_was_killed_alone(tmp_path: Path) -> None:
    """A waiting caller is notified at once, and the job saves a checkpoint and ends."""
    server = ForkServer({})
    log = begun(server, job("--epochs", "500"), tmp_path)
    pid = process(log)
    os.kill(os.getsid(pid), signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    assert not server.is_alive
    assert gone(pid)
    assert log.with_name("checkpoint.safetensors").exists()
    begun(server, job(), tmp_path)
    assert server.wait() == -signal.SIGKILL


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_starter_that_ends_before_its_first_job(end: int, tmp_path: Path) -> None:
    """While it imports: killed, the job is lost; stopped, it is not begun, without a word about it."""
    server = ForkServer({})
    log = begun(server, job("--epochs", "500"), tmp_path)
    os.kill(server._process.pid, end)
    assert server.wait() == (-end if end == signal.SIGKILL else 130)
    assert log.read_text() == ""
    assert not log.with_name("run.json").exists()


def test_nothing_begins_for_who_has_gone(tmp_path: Path) -> None:
    """The maker is killed while the server imports."""
    wanted = job("--epochs", "500")
    log, _ = start_log(tmp_path, wanted)
    maker = subprocess.Popen([sys.executable, "-c", MAKER, json.dumps(wanted.to_json()), str(tmp_path)], stdout=-1)
    assert maker.stdout is not None
    server = int(maker.stdout.readline())
    maker.kill()
    maker.wait()
    assert gone(server)
    assert not log.with_name("run.json").exists()


def test_a_job_ends_with_whoever_wanted_it(tmp_path: Path) -> None:
    wanted = job("--epochs", "500")
    log, _ = start_log(tmp_path, wanted)
    maker = subprocess.Popen([sys.executable, "-c", MAKER, json.dumps(wanted.to_json()), str(tmp_path)], stdout=-1)
    pid = process(log)
    maker.kill()
    maker.wait()
    assert gone(pid)
    assert log.with_name("checkpoint.safetensors").exists()


def test_without_forks(tmp_path: Path) -> None:
    """A job is a fresh process where none can be forked, and gets the same request."""
    wanted = job("--device", "cuda:99")
    log, _ = start_log(tmp_path, wanted)
    request = {"job": wanted.to_json(), "root": str(tmp_path), "directory": "none", "threads": 1, "environment": {}}
    ran = subprocess.run([sys.executable, "-m", rooms.__name__, "job", json.dumps(request)], check=False)
    assert ran.returncode == 2
    assert log.read_text().startswith("error: device cuda:99")
