"""Mobile networks through the commands: pruned like any other; a space is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import supertickets as st
from cli_outcome import Cli, onnx_file
from supertickets.models import MobileSpec

pytestmark = pytest.mark.long

_SHORT = """
--supernet.name mobilenet_v2 --supernet.settings.width 0.25 --threads 1 --evaluate_every 2 --recalibrate_batches 1
--data.validation 0.5 --data.batch 128 --epochs 2 --search.interval 0 --prune.progressive false --prune.interval 1
--prune.ratio 0.5
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mobile") / "run"
    st.draw(st.load_recipe("digits", _SHORT.split()), folder)
    return folder


def test_a_draw_prunes(run: Path) -> None:
    ticket = st.load(run)
    assert isinstance(ticket.spec, MobileSpec)
    assert (ticket.spec.input_shape, ticket.spec.num_classes) == ((1, 8, 8), 10)
    assert ticket.cost.sparsity == pytest.approx(0.5, abs=1e-4)
    assert all(not ticket.weights[name][~flags].any() for name, flags in ticket.mask.items())
    assert "| network | mobilenet_v2 |" in ticket.card()
    assert "A small network, pruned in one training run." in ticket.card()


def test_a_ticket_is_retrained_shown_and_exported(run: Path, tmp_path: Path, cli: Cli) -> None:
    assert cli("retrain", run, "--epochs", "1", "--out", tmp_path / "r").status == 0
    assert st.load(tmp_path / "r").cost.sparsity == st.load(run).cost.sparsity
    assert cli("show", run).status == 0
    assert onnx_file(run, tmp_path).exists()
    refused = cli("transfer", run, "digits", "--out", tmp_path / "t")
    assert refused.status == 2
    assert "a mobile network of" in refused.err


def test_a_space_is_refused(cli: Cli, tmp_path: Path) -> None:
    refused = cli("draw", "digits", "--supernet.name", "tunas_proxyless", "--out", tmp_path / "run")
    assert refused.status == 2
    assert "tunas_proxyless is a space of networks: search it (supertickets search), or take one of its" in refused.err


def test_settings_of_other_families_go() -> None:
    """Widths of the multi-resolution supernet mean nothing to a mobile network; among mobile ones they stay."""
    assert st.load_recipe("mnist", ["--supernet.name", "mobilenet_v2"]).supernet.settings == {}
    words = ["--supernet.name", "mnasnet_b1", "--supernet.settings.width", "0.5"]
    assert st.load_recipe("mnist", words).supernet.settings == {"width": 0.5}
