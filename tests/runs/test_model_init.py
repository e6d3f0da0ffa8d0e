"""The network that a run begins with: what is wrong in its settings is named as it is."""

from __future__ import annotations

from typing import Any

import pytest

import supertickets as st
from supertickets import UserError
from supertickets.data import load_splits
from supertickets.models import Spec
from supertickets.runs.model_init import fitted_spec, supernet_for


def test_a_misspelt_setting_is_named_alone() -> None:
    recipe = st.load_recipe("digits", ["--supernet.name", "mobilenet_v2", "--supernet.settings.widht", "0.5"])
    with pytest.raises(UserError, match=r"^unknown supernet setting 'widht'; did you mean 'width'\?"):
        supernet_for(recipe, load_splits(recipe.data))


def test_any_other_error_is_shown_beside_the_settings() -> None:
    def make(**fitted: Any) -> Spec:
        raise IndexError("no fourth\nstage")

    recipe = st.load_recipe("digits", ["--supernet.settings.tokens", "3"])
    with pytest.raises(UserError) as error:
        fitted_spec(make, recipe, load_splits(recipe.data))
    assert str(error.value) == "the settings supernet.settings {'tokens': 3} make no network (no fourth stage)"
