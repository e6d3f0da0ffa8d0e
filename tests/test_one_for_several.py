"""One text where several are taken: it is one of them, or refused; it is never read letter by letter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import supertickets as st
from supertickets.data import list_images
from supertickets.plugins import check_trust
from supertickets.report import write_report
from supertickets.runs.derive import transfer_recipe


@pytest.mark.parametrize("words", ["--epochs 5", "--epochs=5", ["--epochs", 5], [5]])
@pytest.mark.parametrize(
    "derive",
    [
        lambda ticket, words: st.load_recipe("digits", words),
        lambda ticket, words: st.retrain_recipe(ticket, 1, words),
        lambda ticket, words: st.prune_recipe(ticket, 0.95, "magnitude", words),
        lambda ticket, words: transfer_recipe(ticket, "digits", words),
    ],
    ids=["load_recipe", "retrain", "prune", "transfer"],
)
def test_settings_are_a_list_of_texts(derive: Callable[..., Any], words: Any, ticket: st.Ticket) -> None:
    with pytest.raises(st.UserError, match=r'settings are given as a list of texts, e\.g\. \["--epochs", "5"\]'):
        derive(ticket, words)


def test_one_module_is_trusted() -> None:
    check_trust(["mine.networks:make"], "mine", "ticket x")
    check_trust(["mine.networks:make"], "mine.networks", "ticket x")
    with pytest.raises(st.UserError, match="names code to import"):
        check_trust(["mine.networks:make"], "min", "ticket x")


def test_one_folder_or_image_is_listed(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    for one in (tmp_path, str(tmp_path), tmp_path / "x.png", str(tmp_path / "x.png")):
        assert list_images(one) == list_images([one]) == [tmp_path / "x.png"]


def test_one_run_is_reported(quick_run: Path, tmp_path: Path) -> None:
    written = write_report(str(quick_run), tmp_path / "report")
    assert (written.runs, written.left_out) == (1, ())
    assert f"supertickets report {quick_run} --out" in written.markdown.read_text()
