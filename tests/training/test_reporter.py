"""Progress is logged always, and shown only where it was asked for."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import supertickets as st
from supertickets.training import Reporter, is_progress_shown, show_progress


def test_progress_is_shown_within_and_not_after() -> None:
    assert not is_progress_shown()
    with show_progress():
        assert is_progress_shown()
        with show_progress(False):  # what is inside does not silence what is around it
            assert is_progress_shown()
    assert not is_progress_shown()


@pytest.mark.parametrize(
    ("quiet", "verbose", "shown", "logged"),
    [(False, True, "a line\n", ["a line"]), (False, False, "", ["a line"]), (True, True, "", [])],
)
def test_a_line_is_logged_and_if_asked_for_shown(
    quiet: bool,
    verbose: bool,
    shown: str,
    logged: list[str],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "supertickets"), Reporter(2, 3, quiet=quiet, verbose=verbose) as reporter:
        reporter.say("a line")
    assert capsys.readouterr().err == shown
    assert caplog.messages == logged


def test_a_run_from_python_prints_nothing(
    quick_words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "supertickets"):
        st.draw(st.load_recipe("digits", quick_words), tmp_path / "run")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    assert sum(message.startswith("epoch ") for message in caplog.messages) == 4


def test_a_verbose_run_shows_its_epochs(
    quick_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    st.draw(st.load_recipe("digits", quick_words), tmp_path / "run", verbose=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("epoch ") == 4
    assert not is_progress_shown()
