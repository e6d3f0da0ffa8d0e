"""Machines without kernels: a warning names each cause with the way out of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supertickets.runtime import library
from supertickets.runtime.kernels import build


@pytest.fixture(autouse=True)
def no_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be compiled yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sources = tmp_path / "kernels"
    sources.mkdir()
    for path in (*build.SOURCES.glob("*.h"), *build.SOURCES.glob("*.cpp")):
        (sources / path.name).write_text(path.read_text())
    monkeypatch.setattr(build, "SOURCES", sources)


def warning() -> str:
    with pytest.warns(UserWarning, match="the sparse runtime computes with numpy") as caught:
        assert library.load_library.__wrapped__() is None
    text = str(caught[0].message)
    assert "\n" not in text
    return text


def test_without_a_compiler_one_is_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert warning().endswith("there is no C++ compiler; install one, e.g. g++")


def test_a_compiler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "ccache-of-mine g++")
    assert "CXX names ccache-of-mine, which is not there" in warning()


def test_the_error_of_a_compiler_is_shown_not_its_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "old"
    compiler.write_text(
        "#!/bin/sh\necho 'In file included from a.h:1,' >&2\necho 'a.h:7: error: too old' >&2\nexit 1\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", f"{compiler} -m64")
    assert re.search(r"old -m64 cannot compile the kernels \(a.h:7: error: too old\); set CXX", warning())


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "set XDG_CACHE_HOME to a folder that can be written" in warning()


def test_a_compiler_may_be_several_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "env -u NOTHING c++")
    assert build.find_compiler() == ["env", "-u", "NOTHING", "c++"]
