"""The run directory: lock, event log, files that are whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from supertickets import UserError
from supertickets.storage import write_json
from supertickets.training import RunDir, read_events


def test_a_run_in_use_is_refused_until_it_is_left(tmp_path: Path) -> None:
    with RunDir(tmp_path / "run"):
        with pytest.raises(UserError, match="in use") as error, RunDir(tmp_path / "run"):
            pass
        assert str(tmp_path / "run") in str(error.value)
    with RunDir(tmp_path / "run"):
        pass


def test_the_lock_is_left_behind_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunDir(tmp_path):
        raise KeyError
    with RunDir(tmp_path):
        pass


def test_the_lock_goes_with_its_process_though_children_live_on(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from supertickets.training.run_dir import RunDir\n"
        "run = RunDir(Path(sys.argv[1])).__enter__()\n"
        "if (child := os.fork()) == 0:\n    os.close(1); time.sleep(60)\n"
        "print(child, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        with pytest.raises(UserError, match="in use"), RunDir(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with RunDir(tmp_path):
            pass
        os.kill(child, signal.SIGKILL)


def test_a_process_that_only_reads_takes_no_lock_and_writes_nothing(tmp_path: Path) -> None:
    with RunDir(tmp_path / "run", writes=False) as run:
        run.append({"event": "x"})
        run.create({"command": "draw"})
        run.truncate_log(0)
        assert run.log_size() == 0
    assert not (tmp_path / "run").exists()


def test_a_path_below_a_file_cannot_be_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="cannot be written") as error, RunDir(path):
            pass
        assert str(path) in str(error.value)


def test_the_life_of_a_run(tmp_path: Path) -> None:
    with RunDir(tmp_path / "run") as run:
        run.check_free()
        assert not run.is_unfinished()
        with pytest.raises(UserError, match="not a run directory"):
            run.about()
        run.create({"command": "draw", "threads": 1})
        assert run.is_unfinished()
        assert run.about() == {"format_version": 2, "command": "draw", "threads": 1}
        with pytest.raises(UserError, match="supertickets resume"):
            run.check_free()
        write_json(run.result, {})
        assert not run.is_unfinished()
        with pytest.raises(UserError, match="finished run"):
            run.check_free()


def test_events_behind_a_checkpoint_are_forgotten(tmp_path: Path) -> None:
    with RunDir(tmp_path) as run:
        assert run.log_size() == 0
        run.append({"event": "epoch", "epoch": 1})
        size = run.log_size()
        assert size == run.events.stat().st_size > 0
        run.append({"event": "epoch", "epoch": 2})
        run.truncate_log(size)
        run.append({"event": "epoch", "epoch": 2, "again": True})
        events = list(read_events(run.events))
    assert events == [{"event": "epoch", "epoch": 1}, {"event": "epoch", "epoch": 2, "again": True}]


def test_written_json_is_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"b": [1, 2, object()]})
    assert json.loads(path.read_text()) == {"a": 1}

    def stopped(*names: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(OSError, match=r"^$"):
        write_json(path, {"c": 1})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("text", ['{"made": {}}', '{"format_version": 3}', "[]"])
def test_a_run_of_another_version_is_refused_in_a_line_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run.json has format [13].*begin anew with another --out") as error:
        RunDir(tmp_path).about()
    assert "\n" not in str(error.value)


def test_a_place_that_no_ticket_can_take_is_refused_at_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "ticket").mkdir()
    with RunDir(tmp_path) as run, pytest.raises(UserError, match=r"ticket is there and is no ticket; choose another"):
        run.check_free()
