"""Real faults of the machine end a run in one line; its checkpoint is whole, and it goes on to the same end."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from rich.table import Table

import machine_faults
from supertickets import UserError
from supertickets.cli.output import print_table, print_text
from supertickets.errors import Fault, explain_fault, printable
from supertickets.training import Reporter

_RESUME = "; then go on with: supertickets resume .*/run"


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Outcomes of a draw under every fault."""
    done = subprocess.run(
        [sys.executable, machine_faults.__file__, str(tmp_path_factory.mktemp("faults"))],
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("file size", 2, r"checkpoint.safetensors cannot be written: the file is larger than .*ulimit -f\)" + _RESUME),
        ("memory", 2, "the memory is used up; lower data.batch, .*" + _RESUME),
        ("worker", 1, "a loader process has ended .*" + _RESUME),
        ("vanished", 2, "the directory of the run is gone: .*/run; begin anew.*"),
        ("full disk", 2, "checkpoint.safetensors cannot be written: the disk is full; free some space" + _RESUME),
        ("read-only disk", 2, r"/run cannot be written \(Read-only file system\).*"),
    ],
)
def test_a_fault_of_the_machine_is_one_line(name: str, status: int, message: str, faults: Any) -> None:
    if name not in faults:
        pytest.skip("this process may not mount file systems")
    ended = faults[name]["ended"]
    assert (ended["status"], ended["traceback"]) == (status, False), ended["last"]
    assert re.search(f"^error: .*{message}$", ended["last"])
    assert faults[name].get("checkpoint is the old one", True)
    assert faults[name]["resumed"]["status"] == 0
    assert faults[name]["differences"] == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), UserError),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), UserError),
        (MemoryError(), UserError),
        (torch.OutOfMemoryError("CUDA out of memory"), UserError),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. Its status"), Fault),
        (RuntimeError("could not create a primitive"), UserError),  # what oneDNN says
    ],
)
def test_faults_of_the_machine_are_known(error: Exception, kind: type[Exception]) -> None:
    explained = explain_fault(error)
    assert type(explained) is kind
    assert "\n" not in str(explained)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "No such file", "x"), KeyError("x"), RuntimeError("x")]
)
def test_a_defect_keeps_its_traceback(error: Exception) -> None:
    assert explain_fault(error) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x9b31m", "\\x9b31m"),
        ("back\b\r", "back\\x08\\r"),
        ("turned\u202e", "turned\\u202e"),
        ("Möwe 鳥\u00a0\n", "Möwe 鳥\u00a0\n"),
        ("\udcff", "\\udcff"),
    ],
)
def test_names_that_steer_a_terminal_are_spelt_out(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert str(UserError(name)) == shown.replace("\n", "\\n")


def test_an_error_is_one_line_whatever_a_name_holds() -> None:
    assert str(UserError("x\nerror: all is well")) == "x\\nerror: all is well"


def test_no_line_of_the_command_line_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_text("class \x1b[31mred")
    print_table(Table("name", "\x1b[2J"))
    with Reporter(1, 1, quiet=False) as reporter:
        reporter.say("class \x1b[31mred")
    shown = capsys.readouterr()
    assert shown.out.startswith("class \\x1b[31mred\n")
    assert "\x1b" not in shown.out
    assert "\\x1b[2J" in shown.out
    assert shown.err == "class \\x1b[31mred\n"
