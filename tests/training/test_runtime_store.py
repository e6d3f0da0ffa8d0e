"""Processes that torchrun's agent starts again meet in a store without the addresses of those that are gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from supertickets.training.runtime import restart_store


@pytest.fixture(scope="module")
def agent() -> dist.TCPStore:
    """The store of an agent, whose first processes have met in it."""
    store = dist.TCPStore("localhost", 0, is_master=True)
    store.set("default_pg/0//cpu//0", "address of a process that is gone")
    return store


def environment(agent: dist.TCPStore, **more: str) -> dict[str, str]:
    start = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "1", "GROUP_WORLD_SIZE": "1"}
    return start | {"MASTER_ADDR": "localhost", "MASTER_PORT": str(agent.port)} | more


def test_every_restart_has_names_of_its_own(agent: dist.TCPStore) -> None:
    for count in ("1", "2"):
        one, other = (restart_store(environment(agent, TORCHELASTIC_RESTART_COUNT=count)) for _ in range(2))
        assert one is not None
        assert other is not None
        assert not one.check(["default_pg/0//cpu//0"])
        one.set("default_pg/0//cpu//0", f"address at start {count}")
        assert other.get("default_pg/0//cpu//0") == f"address at start {count}".encode()


@pytest.mark.parametrize(
    "more",
    [
        {"TORCHELASTIC_RESTART_COUNT": "0"},
        {"TORCHELASTIC_USE_AGENT_STORE": "False"},
        {"GROUP_WORLD_SIZE": "2"},  # agents of several nodes may count differently
    ],
)
def test_other_starts_meet_as_ever(more: dict[str, str], agent: dist.TCPStore) -> None:
    assert restart_store(environment(agent, **more)) is None


def test_a_process_without_an_agent_meets_as_ever() -> None:
    assert restart_store({}) is None


# The second process dies at the first start. At the next one it is late, so that the first looks for it before it is
# there.
_SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import torch
from supertickets.training.runtime import open_runtime

start, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
time.sleep(2 * rank * start)
with open_runtime("cpu", 1, False) as runtime:
    runtime.barrier()
    if (start, rank) == (0, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    total = runtime.sum(torch.tensor(float(10 * start + rank + 1)))
    if runtime.is_main:
        Path(sys.argv[1]).write_text(str(float(total)))
"""


@pytest.mark.long
def test_processes_that_are_started_again_find_each_other(tmp_path: Path) -> None:
    script, out = tmp_path / "script.py", tmp_path / "total"
    script.write_text(_SCRIPT)
    agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    done = subprocess.run(
        [sys.executable, *agent, str(script), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert float(out.read_text()) == 11 + 12
