"""Networks of a user's own: by name, through JSON, refused where they cannot work, imported only when built."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from supertickets import UserError
from supertickets.cost import count
from supertickets.models import ModuleSpec
from supertickets.models.factory import create_spec, spec_from_json

FITTED = {"num_classes": 3, "in_channels": 2, "image_size": (4, 6)}


class Linear(nn.Module):
    """A hidden layer and a classifier on all pixels."""

    def __init__(self, pixels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(pixels, hidden), nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden(images.flatten(1))))


def make_network(num_classes: int, in_channels: int, image_size: tuple[int, int], hidden: int = 5) -> nn.Module:
    return Linear(in_channels * image_size[0] * image_size[1], hidden, num_classes)


def make_text(**_: object) -> str:
    return "no module"


def make_maps(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    assert image_size == (4, 6)
    return nn.Conv2d(in_channels, num_classes, 1)


def test_it_is_made_counted_and_pruned() -> None:
    """48 x 7 + 7 and 7 x 3 + 3 parameters; the classifier, which is last, is not pruned."""
    spec = create_spec(f"{__name__}:make_network", hidden=7, **FITTED)
    module = spec.build()
    assert module(torch.zeros(2, 2, 4, 6)).shape == (2, 3)
    assert count(spec).params == 48 * 7 + 7 + 7 * 3 + 3
    assert count(spec).macs == 48 * 7 + 7 * 3
    assert module.maskable_weights() == ["network.hidden.weight"]
    assert module.maskable_weights(classifier=True) == ["network.hidden.weight", "network.last.weight"]


def test_json_and_back() -> None:
    spec = create_spec(f"{__name__}:make_network", hidden=7, **FITTED)
    data = json.loads(json.dumps(spec.to_json()))
    assert data["family"] == "module"
    assert data["settings"] == {"hidden": 7}
    assert spec_from_json(data) == spec


def test_only_building_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strangers_code.py").write_text("raise SystemExit('it ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    data = {"family": "module", "name": "strangers_code:make", "settings": {}, **FITTED}
    spec = spec_from_json(data)
    assert isinstance(spec, ModuleSpec)
    assert (spec.to_json()["name"], str(spec), spec.unit_groups()) == ("strangers_code:make", "strangers_code:make", ())
    assert "strangers_code" not in sys.modules
    with pytest.raises(SystemExit, match="it ran"):
        spec.build()


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("no_such_module:make", {}, "supernet.name no_such_module:make cannot be imported"),
        (f"{__name__}:make_nothing", {}, "cannot be imported"),
        (f"{__name__}:make_text", {}, "returns str; let it return a torch.nn.Module"),
        (f"{__name__}:make_maps", {}, "where two rows of 3 scores are needed"),
        (f"{__name__}:make_network", {"width": 3}, "cannot be made with supernet.settings {'width': 3}"),
        ("make_network", {}, "unknown supernet 'make_network'"),
    ],
)
def test_impossible_settings_are_refused(name: str, settings: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        create_spec(name, **settings, **FITTED)


def test_a_spec_from_elsewhere_names_a_function() -> None:
    with pytest.raises(UserError, match=r"write package\.module:make_network"):
        spec_from_json({"family": "module", "name": "os.system", "settings": {}, **FITTED})
    with pytest.raises(UserError, match="num_classes follows from the data"):
        spec_from_json({"family": "module", "name": "a:b", "settings": {"num_classes": 4}, **FITTED})
