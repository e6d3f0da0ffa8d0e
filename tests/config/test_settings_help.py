"""The help on settings: every one of them, with its type, default and meaning."""

from __future__ import annotations

import dataclasses

from supertickets import Recipe
from supertickets.config.recipe import setting_names
from supertickets.config.settings_help import attribute_docs, settings_help


def test_every_setting_is_explained() -> None:
    lines = settings_help().splitlines()
    assert [line.split(":")[0].strip(" -") for line in lines if line.startswith("  --")] == setting_names()
    at = lines.index("  --prune.ratio: a number from 0 to below 1 (default: 0.9)")
    assert lines[at + 1].strip().startswith("Share of the maskable weights that is zero in the ticket")
    assert max(map(len, lines)) <= 110


def test_every_docstring_names_its_settings_in_their_order() -> None:
    groups = [Recipe(), *(value for value in vars(Recipe()).values() if dataclasses.is_dataclass(value))]
    assert len(groups) > 10
    for group in groups:
        own = [name for name, value in vars(group).items() if not dataclasses.is_dataclass(value)]
        assert list(attribute_docs(type(group))) == own
