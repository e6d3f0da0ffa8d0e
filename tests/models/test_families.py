"""The table of families agrees with the specs that it names."""

from __future__ import annotations

import pytest
import torch

from supertickets import UserError
from supertickets.config.network_families import FAMILIES, find_family
from supertickets.models import Spec, create_spec, list_supernets
from supertickets.models.hrnet.presets import _SUPERNETS
from supertickets.models.mobile.spaces import MOBILE
from supertickets.models.plain.presets import PLAIN
from supertickets.models.resnet.presets import RESNETS
from supertickets.plugins import LIBRARIES


def test_the_table_names_every_network_once() -> None:
    assert list_supernets() == sorted((*_SUPERNETS, *MOBILE, *RESNETS, *PLAIN))


@pytest.mark.parametrize("name", list_supernets())
def test_declarations_hold(name: str) -> None:
    spec, family = create_spec(name), find_family(name)
    assert isinstance(spec, Spec)
    assert spec.family == family.name
    assert family.has_units
    assert bool(spec.unit_groups()) == (spec.unit_table() is not None) == (family.name == "hrnet")  # others are traced
    assert spec.search == family.search
    assert spec.head in spec.heads


def test_prefixes_of_the_table_are_no_modules() -> None:
    prefixes = {name for name, family in FAMILIES.items() if not family.networks and name != "module"}
    assert prefixes == set(LIBRARIES)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("hrnet_tiny", "hrnet"),
        ("mnasnet_b1", "mobile"),
        ("resnet38", "resnet"),
        ("resnet18", "plain"),
        ("timm:resnet18", "timm"),
        ("torchvision:resnet18.x", "torchvision"),
        ("ticket:runs/x", "ticket"),
        ("a.b:c", "module"),
        ("module:make", "module"),
    ],
)
def test_names_tell_the_family(name: str, family: str) -> None:
    assert find_family(name).name == family


@pytest.mark.parametrize("name", ["hrnet_small", "resnet", "resnet19", "a/b:c", ""])
def test_nothing_is_guessed_by_prefix(name: str) -> None:
    with pytest.raises(UserError, match=f"unknown supernet '{name}'"):
        find_family(name)


def test_a_unit_table_counts_what_is_left() -> None:
    full = create_spec("hrnet_tiny")
    group = full.unit_groups()[0]
    flags = torch.ones(len(group), dtype=torch.bool)
    flags[0] = False
    before, after = full.unit_table(), full.keep({group.name: flags}).unit_table()
    assert before is not None
    assert after is not None
    assert [row.most for row in after.rows] == [row.most for row in before.rows]
    assert sum(sum(row.left) for row in after.rows) == sum(sum(row.left) for row in before.rows) - 1
    assert before.kinds == ("3x3", "5x5", "7x7", "tokens")
