"""A run directory that names code to import runs none of it unless its module is trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import supertickets as st
from simulate_powercut import cut_before_ticket
from supertickets.config.loading import load_recipe


@pytest.fixture
def unfinished(quick_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A draw by a user's own criterion that stopped before its ticket; its module marks that it was imported."""
    (tmp_path / "strangers.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(tmp_path / 'imported')!r}).touch()\n"
        "from supertickets.pruning.criteria import random as score\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = tmp_path / "run"
    with cut_before_ticket():
        st.draw(load_recipe("digits", quick_words), run)
    about = json.loads((run / "run.json").read_text())
    about["recipe"]["prune"]["criterion"] = "strangers:score"
    (run / "run.json").write_text(json.dumps(about))
    return run


def test_a_run_that_names_code_imports_nothing_without_trust(unfinished: Path) -> None:
    for trust in ((), ("stranger",), ("strangers.score",)):
        with pytest.raises(st.UserError, match=r"names code to import: strangers:score.*--trust strangers") as error:
            st.resume(unfinished, trust)
        assert "\n" not in str(error.value)
    assert not (unfinished.parent / "imported").exists()
    assert not (unfinished / "result.json").exists()


def test_a_trusted_module_is_used(unfinished: Path) -> None:
    st.resume(unfinished, trust=("strangers",))
    assert (unfinished / "result.json").exists()


@pytest.mark.parametrize("place", ["algorithm", "supernet"])
def test_names_count_wherever_a_run_may_hold_them(place: str, unfinished: Path) -> None:
    about = json.loads((unfinished / "run.json").read_text())
    about["recipe"]["prune"]["criterion"] = "magnitude"
    about[place]["extra"] = ["strangers:score"]
    (unfinished / "run.json").write_text(json.dumps(about))
    with pytest.raises(st.UserError, match="names code to import"):
        st.resume(unfinished)
    assert not (unfinished.parent / "imported").exists()
