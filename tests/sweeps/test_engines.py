"""Engines of sweeps: workers that are killed, machines that go, and results that are equal all the same."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import ray
import submitit
from ray.cluster_utils import Cluster
from rich.console import Console

from cli_outcome import Cli
from supertickets import UserError
from supertickets.sweeps.engines import EngineOptions, open_engine
from supertickets.sweeps.local_engine import LocalWorkers
from supertickets.sweeps.ray_engine import RayWorkers, find_cluster
from supertickets.sweeps.results import result_rows
from supertickets.sweeps.slurm_engine import SlurmWorkers, read_parameters
from supertickets.sweeps.sweep import Plan, read_sweep
from supertickets.sweeps.work import Engine, WorkerLost, mark_directory, run_job, run_sweep
from supertickets.sweeps.worker import attempt_job
from sweep_engines import ancestors

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def plan(sweep_file: Path) -> Plan:
    """One job of the sweep: a draw."""
    whole = read_sweep(sweep_file)
    points = tuple(point for point in whole.points if point.method == "two-in-one")
    return Plan(points, tuple(job for job in whole.jobs if job.key == points[0].key))


@pytest.fixture(scope="module")
def expected(plan: Plan, finished_sweep: Path) -> list[dict[str, Any]]:
    """Its results when nothing disturbs it."""
    return without_clock(result_rows(plan.points, finished_sweep))


def without_clock(rows_of_sweep: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows_of_sweep]


def run(plan: Plan, root: Path, engine: Engine) -> tuple[list[dict[str, Any]], str]:
    """Results without the clock, and what was said of progress."""
    console = Console(file=io.StringIO(), width=200)
    results = run_sweep(plan, root, engine, None, console)
    return without_clock(results), console.file.getvalue()  # type: ignore[attr-defined]


def in_mid_run(root: Path, act: Callable[[Path, int], None]) -> threading.Thread:
    """Acts once, with the directory and the process of a job that has trained an epoch and is not done."""

    def watch() -> None:
        while True:
            for events in root.glob("*/events.jsonl"):
                if '"event": "epoch"' in events.read_text() and not (events.parent / "result.json").exists():
                    act(events.parent, json.loads((events.parent / "worker.json").read_text())["pid"])
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def kill(folder: Path, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def went_on(root: Path) -> list[str]:
    """Jobs that were taken up from a checkpoint, once per time."""
    return [log.parent.name for log in root.glob("*/log.txt") for _ in range(log.read_text().count("resuming"))]


# One worker at a time -------------------------------------------------------------------------------------------------


def test_a_worker_waits_for_one_that_was_given_up(plan: Plan, tmp_path: Path) -> None:
    """It leaves the directory alone until the other has gone, and then has nothing left to do."""
    (job,) = plan.jobs
    folder = tmp_path / job.key
    folder.mkdir()
    with (folder / ".worker").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        second = threading.Thread(target=run_job, args=(job, tmp_path), daemon=True)
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert [path.name for path in folder.iterdir()] == [".worker"]
        (folder / "result.json").write_text("{}")
    second.join(10)
    assert not second.is_alive()
    assert sorted(path.name for path in folder.iterdir()) == [".worker", "result.json"]


def test_an_attempt_is_a_worker_process_as_a_call(
    plan: Plan, expected: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has what it says, nothing is printed; a second attempt finds it done; an error is its last line."""
    monkeypatch.chdir(tmp_path)
    (job,) = plan.jobs
    root, data = tmp_path / "sweep", job.to_json()
    known = mark_directory(root)
    status, said = attempt_job(data, str(root), known, str(tmp_path), 1)
    assert (status, "epoch   4/4" in said) == (0, True)
    assert (root / job.key / "log.txt").read_text().endswith(said)
    assert without_clock(result_rows(plan.points, root)) == expected
    assert attempt_job(data, str(root), known, str(tmp_path), 1) == (0, "")
    wrong = {**data, "recipe": {**data["recipe"], "device": "cuda:99"}}
    status, said = attempt_job(wrong, str(root), known, str(tmp_path), 1)
    assert status == 2
    assert said.startswith("error: device cuda:99")


def test_a_machine_that_does_not_see_the_directory(plan: Plan, tmp_path: Path) -> None:
    (job,) = plan.jobs
    for root in (tmp_path / "none", tmp_path / "other"):
        status, said = attempt_job(job.to_json(), str(root), "mark", str(tmp_path), 1)
        assert status == 2
        assert said.endswith(f"does not see {root}; put --out on storage that all machines share")
        assert (
            mark_directory(tmp_path / "other")
            == mark_directory(tmp_path / "other")
            != mark_directory(tmp_path / "third")
        )
    assert not (tmp_path / "none").exists()


# Engines --------------------------------------------------------------------------------------------------------------


def assert_a_killed_worker_is_taken_up(plan: Plan, root: Path, engine: Engine, expected: list[dict[str, Any]]) -> None:
    """Once, from its checkpoint, with the results of a run that nothing disturbed."""
    killer = in_mid_run(root, kill)
    results, said = run(plan, root, engine)
    killer.join(1)
    assert results == expected
    assert went_on(root) == [plan.jobs[0].key]
    assert said.strip().splitlines()[-1] == "1 of 1 jobs done, 0 running, 1 resumed"


def test_local_a_killed_worker(plan: Plan, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    assert_a_killed_worker_is_taken_up(plan, tmp_path, LocalWorkers(tmp_path, workers=2), expected)


_SBATCH = """
id=$$
export SLURM_JOB_ID=$id SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
setsid bash "$1" > /dev/null 2>&1 &
echo $! > "$(dirname "$0")/$id"
echo "Submitted batch job $id"
"""
_SRUN = """
while [[ $1 == -* ]]; do case $1 in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""
_SACCT = 'echo "JobID|State|NodeList"'
_SCANCEL = 'kill -TERM -- -$(cat "$(dirname "$0")/$1")'


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for Slurm's commands that run a job as a process of this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", _SBATCH), ("srun", _SRUN), ("sacct", _SACCT), ("scancel", _SCANCEL)):
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("slurm")
def test_slurm_cancels_with_a_checkpoint(plan: Plan, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    """Options of sbatch; closing in mid-run makes the job save a checkpoint and end; the next engine goes on."""

    def close(folder: Path, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)  # it must not end meanwhile
        engine.close()
        os.kill(pid, signal.SIGCONT)

    root, (job,) = tmp_path / "sweep", plan.jobs
    engine = SlurmWorkers(root, threads=2, cpus=3, gpus=1, words="time=120,partition=gpu")
    future = engine.submit(job)
    in_mid_run(root, close).join(120)
    assert not future.done()
    with (root / job.key / ".worker").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the worker has gone
    assert not (root / job.key / "result.json").exists()
    assert "Traceback" not in (root / job.key / "log.txt").read_text()
    (batch,) = (root / "slurm").glob("*_submission.sh")
    text = batch.read_text()
    for line in ("time=120", "partition=gpu", "cpus-per-task=3", "gpus-per-node=1", "no-requeue"):
        assert f"#SBATCH --{line}\n" in text
    assert "export OMP_NUM_THREADS=2" in text
    results, said = run(plan, root, SlurmWorkers(root, words="time=5"))
    assert results == expected
    assert went_on(root) == [job.key]
    assert said.strip().splitlines()[-1] == "1 of 1 jobs done, 0 running"


@pytest.mark.usefixtures("slurm")
def test_ends_of_slurm_jobs(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was killed, or whose node went, leaves no result; one that cannot begin has another error."""
    lost = submitit.core.utils.UncompletedJobError("no result")
    ends: list[tuple[Any, type[Exception] | None, str]] = [
        ((0, ""), None, ""),
        ((2, "error: no such data\n"), UserError, "^no such data$"),
        ((130, ""), WorkerLost, "told to stop"),
        (lost, WorkerLost, r"^its Slurm job 7 ended without a result \(NODE_FAIL\)$"),
        (ModuleNotFoundError("x"), UserError, "^its Slurm job 7 could not begin; see it.err$"),
    ]
    engine = SlurmWorkers(tmp_path, words="time=5")
    futures = []
    for end, _, _ in ends:
        given = Mock(job_id=7, state="NODE_FAIL", result=Mock(side_effect=[end]), paths=Mock(stderr="it.err"))
        monkeypatch.setattr(engine._executor, "submit", Mock(return_value=given))
        futures.append(engine.submit(plan.jobs[0]))
    for future, (_, kind, said) in zip(futures, ends, strict=True):
        if kind is None:
            assert future.result(10) is None
            continue
        with pytest.raises(kind, match=said):
            future.result(10)
    engine.close()


def test_parameters_of_slurm() -> None:
    known = {"time", "partition", "mem", "exclusive"}
    words = "time=120,partition=gpu, mem=8GB,exclusive=true"
    assert read_parameters(words, known) == {"time": 120, "partition": "gpu", "mem": "8GB", "exclusive": True}
    for words, named in (
        ("", "needs the minutes"),
        ("partition=gpu", "needs the minutes"),
        ("time=2h", "needs the minutes"),
        ("time=0", "needs the minutes"),
        ("time", "'time' must be NAME=VALUE"),
        ("time=1,partion=gpu", "unknown 'partion'; did you mean 'partition'"),
        ("time=1,cpus_per_task=2", "cpus_per_task is set by --cpus"),
        ("time=1,setup=x", "setup is set by the sweep itself"),
    ):
        with pytest.raises(UserError, match=named):
            read_parameters(words, known)


@pytest.fixture
def own_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give Ray a folder of its own, so that no other cluster of this machine is seen; its sockets need a short path."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("own_ray")
def test_ray_on_this_machine(plan: Plan, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    """A cluster is started for the sweep, and stopped after it."""
    assert_a_killed_worker_is_taken_up(plan, tmp_path, RayWorkers(tmp_path, workers=1), expected)
    assert not ray.is_initialized()


class FakeRay:
    """The part of Ray that the engine needs, for options and ends that a real one shows only with effort."""

    exceptions = ray.exceptions

    def __init__(self, **resources: float) -> None:
        self.resources, self.asked, self.options = resources, [], {}  # type: ignore[var-annotated]
        self.ended: Future[tuple[int, str]] = Future()

    def init(self, address: str, **asked: Any) -> None:
        self.asked.append((address, asked.get("num_cpus")))

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": self.resources}, {"Alive": False, "Resources": {"CPU": 99, "GPU": 9}}]

    def remote(self, **options: Any) -> Callable[..., Any]:
        self.options = options
        ref = Mock(future=lambda: self.ended)
        return lambda function: Mock(remote=lambda *arguments: ref)

    def shutdown(self) -> None:
        self.asked.append(("shutdown", None))


@pytest.mark.usefixtures("own_ray")
def test_ray_is_asked_for_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that take no GPU see none; Ray takes nothing up again by itself."""
    monkeypatch.setitem(sys.modules, "ray", fake := FakeRay(CPU=4, GPU=1))
    RayWorkers(tmp_path, workers=3, threads=2, cpus=4, gpus=0.5)
    assert fake.asked == [("local", 12)]
    assert fake.options.pop("runtime_env") == {"env_vars": {"OMP_NUM_THREADS": "2"}}
    assert fake.options == {"num_cpus": 4, "num_gpus": 0.5, "max_retries": 0}
    RayWorkers(tmp_path)
    assert fake.options["runtime_env"] == {"env_vars": {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}}
    monkeypatch.setitem(sys.modules, "ray", FakeRay(CPU=2))
    with pytest.raises(UserError, match=r"no machine .* has 1 CPUs and 1 GPUs for a job; there are: 2 CPUs and 0 GPUs"):
        RayWorkers(tmp_path, gpus=1)


def test_the_cluster_that_there_is(own_ray: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that has gone is not waited for: if it was of this machine, another one is started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert find_cluster() is None
        (own_ray / "ray").mkdir()
        (own_ray / "ray" / "ray_current_cluster").write_text(address)
        assert find_cluster() == address
        monkeypatch.setenv("RAY_ADDRESS", "local")
        assert find_cluster() is None
        monkeypatch.setenv("RAY_ADDRESS", f"ray://{address}")
        assert find_cluster() == f"ray://{address}"
    for gone in (address, "nonsense"):
        monkeypatch.setenv("RAY_ADDRESS", gone)
        with pytest.raises(UserError, match=f"no Ray cluster answers at RAY_ADDRESS {gone}; start it"):
            find_cluster()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert find_cluster() is None


@pytest.mark.usefixtures("own_ray")
@pytest.mark.parametrize(
    ("end", "kind", "message"),
    [
        ((0, ""), None, ""),
        ((2, "so far so good\nerror: no such data\n"), UserError, "^no such data$"),
        ((1, "Traceback\nValueError: three\n"), UserError, "^ValueError: three$"),
        ((130, ""), WorkerLost, "told to stop"),
        (ray.exceptions.WorkerCrashedError(), WorkerLost, "died unexpectedly"),
        (ray.exceptions.NodeDiedError("the node is dead\nmore"), WorkerLost, "^the node is dead$"),
        (ray.exceptions.OutOfMemoryError("killed for memory"), WorkerLost, "for memory"),
        (ray.exceptions.TaskCancelledError(), WorkerLost, "^TaskCancelledError$"),
        (ray.exceptions.RuntimeEnvSetupError("no agent"), UserError, "no agent"),
        (ray.exceptions.RayTaskError("attempt", "Trace\nModuleNotFoundError: x", ValueError()), UserError, "^Module"),
    ],
)
def test_ends_of_ray_tasks(
    plan: Plan, end: Any, kind: type[Exception] | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", fake := FakeRay(CPU=1))
    future = RayWorkers(tmp_path).submit(plan.jobs[0])
    assert not future.done()
    fake.ended.set_exception(end) if isinstance(end, Exception) else fake.ended.set_result(end)
    if kind is None:
        assert future.result() is None
        return
    with pytest.raises(kind, match=message):
        future.result()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("own_ray")
def test_ray_on_two_nodes(
    sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker is killed, then a node goes with the job that it does; then a closed engine leaves checkpoints."""
    plan = read_sweep(sweep_file, {"ratios": [0.5, 0.8], "seeds": [0, 1]}, ["--epochs", "8"])
    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    raylet = second.all_processes["raylet"][0].process.pid
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    try:
        with pytest.raises(UserError, match=r"no machine of the Ray cluster has 2 CPUs and 0 GPUs for a job.*1 CPUs"):
            RayWorkers(tmp_path / "none", cpus=2)
        root, killed = tmp_path / "ray", []

        def disturb() -> None:
            in_mid_run(root, lambda folder, pid: killed.append(folder.name) or kill(folder, pid)).join()  # type: ignore[func-returns-value]
            while True:  # until the second node has a job in mid-run that was not killed
                for worker in root.glob("*/worker.json"):
                    folder, pid = worker.parent, json.loads(worker.read_text())["pid"]
                    done = (folder / "result.json").exists()
                    if not done and (folder / "events.jsonl").exists() and raylet in ancestors(pid):
                        cluster.remove_node(second, allow_graceful=False)
                        killed.append(folder.name)
                        return
                time.sleep(0.01)

        disturber = threading.Thread(target=disturb, daemon=True)
        disturber.start()
        results, said = run(plan, root, RayWorkers(root))
        disturber.join(1)
        assert len(killed) == 2
        for job in plan.jobs:
            run_job(job, tmp_path / "undisturbed")
        assert results == without_clock(result_rows(plan.points, tmp_path / "undisturbed"))
        assert len(results) == 12
        assert sorted(went_on(root)) == sorted(killed)
        assert said.strip().splitlines()[-1] == "14 of 14 jobs done, 0 running, 2 resumed"

        engine, (job, *_) = RayWorkers(tmp_path / "stopped"), plan.jobs
        engine.submit(job)
        in_mid_run(tmp_path / "stopped", lambda folder, pid: engine.close()).join(120)
        assert not (tmp_path / "stopped" / job.key / "result.json").exists()
        capsys.readouterr()
        run_job(job, tmp_path / "stopped")
        assert "resuming" in capsys.readouterr().err
    finally:
        cluster.shutdown()


# What cannot work is told before anything begins ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "local", "workers": 0}, "--workers is 0; the nearest possible is 1"),
        ({"name": "ray", "threads": 0}, "--threads is 0"),
        ({"name": "ray", "cpus": 0}, "--cpus is 0"),
        ({"name": "ray", "gpus": 2}, "--gpus is 2; a job takes 0, 1, or"),
        ({"name": "local", "gpus": 0.5}, "--gpus is for --engine ray or slurm"),
        ({"name": "local", "cpus": 2}, "--cpus is for --engine ray or slurm"),
        ({"name": "ray", "slurm": "time=1"}, "--slurm is for --engine slurm"),
        ({"name": "slurm", "gpus": 0.5}, "shares are for --engine ray; the nearest possible is 1"),
    ],
)
def test_wrong_options(options: dict[str, Any], named: str, tmp_path: Path) -> None:
    name, rest = options["name"], {key: value for key, value in options.items() if key != "name"}
    with pytest.raises(UserError, match=named):
        open_engine(name, tmp_path / "out", EngineOptions(**rest))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("engine", "library", "extra"), [("ray", "ray", "cluster"), ("slurm", "submitit", "slurm")])
def test_a_library_that_is_missing(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / "sweep.yaml"
    path.write_text("{recipe: digits, ratios: [0.9], methods: {a: {}}}")
    broken = cli("sweep", path, "--engine", engine, "--out", tmp_path / "out")
    assert broken.status == 2
    assert f"pip install 'supertickets[{extra}]'" in broken.err
    assert broken.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_directory_that_cannot_be_written(plan: Plan) -> None:
    with pytest.raises(UserError, match=r"^/proc/sweep cannot be written \(.*\); choose another --out$"):
        run(plan, Path("/proc/sweep"), LocalWorkers(Path("/proc/sweep")))


def test_slurm_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="finds no Slurm"):
        SlurmWorkers(tmp_path / "out", words="time=5")
    assert not (tmp_path / "out").exists()
