"""Files and folders are whole or not there, have the umask's mode, and are never written through a link."""

from __future__ import annotations

import os
import resource
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supertickets import UserError
from supertickets.storage import (
    check_writable,
    make_folder,
    refuse_links,
    remove_leftovers,
    replace_file,
    replace_folder,
    write_json,
    write_text,
)

DEAD = 2**22 + 1  # no process has such a number


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], indirect=True)
def test_files_have_the_mode_of_the_umask_whoever_writes_them(umask: int, tmp_path: Path) -> None:
    with replace_file(tmp_path / "weights.bin") as scratch:
        handle, other = tempfile.mkstemp(dir=tmp_path)  # as safetensors does: 0600, then renamed
        os.close(handle)
        os.replace(other, scratch)
    write_json(tmp_path / "config.json", {})
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("weights.bin", "config.json")]
    assert modes == [0o666 & ~umask] * 2


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(TypeError), replace_file(tmp_path / "a.json") as scratch:
        scratch.write_text(7)  # type: ignore[arg-type]
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new"


def test_a_file_beyond_the_limit_of_sizes_leaves_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            write_text(tmp_path / "a", "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["a.json", f".a.{os.getpid()}.tmp.json"], ids=["its own", "of what is not whole"])
def test_a_link_is_replaced_and_not_followed(name: str, tmp_path: Path) -> None:
    """Also where the scratch file will be."""
    (tmp_path / "run").mkdir()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
    write_text(tmp_path / "run" / "a.json", "theirs")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "run" / "a.json").read_text() == "theirs"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a.json"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with replace_folder(tmp_path / "deep" / "ticket") as scratch:
            (scratch / content).write_text(content)
    assert [path.name for path in (tmp_path / "deep").rglob("*")] == ["ticket", "new"]
    with pytest.raises(KeyError), replace_folder(tmp_path / "deep" / "ticket") as scratch:
        raise KeyError
    assert [path.name for path in (tmp_path / "deep").rglob("*")] == ["ticket", "new"]


def test_a_link_at_the_place_of_a_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    (tmp_path / "ticket").symlink_to(tmp_path / "mine")
    with replace_folder(tmp_path / "ticket") as scratch:
        (scratch / "theirs").write_text("")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
    assert [path.name for path in (tmp_path / "ticket").iterdir()] == ["theirs"]


def test_leftovers_of_killed_processes_go_and_those_of_others_stay(tmp_path: Path) -> None:
    for name in (f".checkpoint.{DEAD}.tmp.safetensors", f".run.{os.getppid()}.tmp.json", ".lock", "a.tmp"):
        (tmp_path / name).write_text("")
    (tmp_path / f".ticket.{DEAD}.old").mkdir()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f".run.{os.getppid()}.tmp.json", ".lock", "a.tmp"}


def test_writing_a_file_again_removes_its_own_leftovers_alone(tmp_path: Path) -> None:
    for name in ("model", "other"):
        (tmp_path / f".{name}.{DEAD}.tmp.onnx").write_text("half")
    write_text(tmp_path / "model.onnx", "")
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", f".other.{DEAD}.tmp.onnx"}


@pytest.mark.parametrize("place", ["/proc/model.onnx", "/proc/sub/report", "FILE/model.onnx"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = Path(place.replace("FILE", str(tmp_path / "file")))
    with pytest.raises(UserError, match=r"cannot be written.*choose another --save") as error:
        check_writable(path, "--save")
    assert str(path) in str(error.value)


def test_a_place_that_can_be_written_stays_as_it_is(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_links_in_a_folder_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "deep" / "run")
    refuse_links(tmp_path / "deep" / "run")
    (tmp_path / "deep" / "run" / "events.jsonl").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match=r"run/events.jsonl is a link"):
        refuse_links(tmp_path / "deep" / "run")
