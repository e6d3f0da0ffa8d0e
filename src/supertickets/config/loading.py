"""Load recipes: YAML in, typed settings out, and one clear line when something in them is wrong."""

from __future__ import annotations

import argparse
import functools
import re
import types
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jsonargparse
import yaml

from ..errors import UserError, suggest
from .recipe import Recipe, SupernetSettings, flatten, setting_names
from .validation import check_recipe


def list_recipes() -> dict[str, str]:
    """Shipped recipes: name -> one line on what it does."""
    return dict(_shipped(""))


def list_sweeps() -> dict[str, str]:
    """Shipped sweeps: name -> one line on what they compare."""
    return dict(_shipped("sweeps"))


@functools.cache
def _shipped(folder: str) -> dict[str, str]:
    files = sorted(resources.files("supertickets.recipes").joinpath(folder).iterdir(), key=lambda entry: entry.name)
    return {
        entry.name.removesuffix(".yaml"): yaml.safe_load(entry.read_text()).get("description", "")
        for entry in files
        if entry.name.endswith(".yaml")
    }


def load_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        source: A shipped name or the path of a YAML file.
        overrides: Command-line words such as ``["--prune.ratio", "0.8"]``; they win over the file. With a network of
            another family, or another one of timm or torchvision, the file's ``supernet.settings`` go.

    Raises:
        UserError: The recipe or a setting is unknown, or a value has the wrong type.
    """
    values = _read_recipe(source)
    _check_names(flatten(values), f"recipe {source}: ")
    return _parse_settings(values, overrides)


def override_settings(recipe: Recipe, words: Sequence[str]) -> Recipe:
    """Returns a recipe with settings replaced by command-line words, as in `load_recipe`."""
    return _parse_settings(recipe.to_json(), words)


def recipe_from_json(data: Mapping[str, Any]) -> Recipe:
    """Reads what `Recipe.to_json` wrote."""
    parser = settings_parser()
    return _instantiate(parser, parser.parse_object(dict(data)))


@functools.cache  # it takes longer to make than to use
def settings_parser() -> jsonargparse.ArgumentParser:
    """A parser with one option per setting; its help explains them all."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False, usage=argparse.SUPPRESS)
    parser.add_class_arguments(Recipe)
    return parser


def _parse_settings(values: Mapping[str, Any], overrides: Sequence[str]) -> Recipe:
    _check_names([word[2:].split("=")[0] for word in overrides if word.startswith("--")], "")
    parser = settings_parser()
    try:
        given = parser.parse_object(dict(values))
        network = given.supernet.name
        chosen = parser.parse_args(list(overrides), given)
        families = {SupernetSettings(name=name).family for name in (network, chosen.supernet.name)}
        if chosen.supernet.name != network and families not in ({"hrnet"}, {"mobile"}, {"resnet"}):
            given.supernet.settings = {}  # a family knows no settings of another, a library's network none of another's
            chosen = parser.parse_args(list(overrides), given)
        recipe = _instantiate(parser, chosen)
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(_error_line(error)) from None
    return check_recipe(recipe)


def _read_recipe(source: str) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"recipe file {path} does not exist; check the path, or see: supertickets recipes")
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"recipe file {path} cannot be read or is not YAML ({_error_line(error)})") from None
    else:
        shipped = list_recipes()
        if source not in shipped:
            raise UserError(f"unknown recipe '{source}'{suggest(source, shipped)}; or give the path of a .yaml file")
        text = resources.files("supertickets.recipes").joinpath(f"{source}.yaml").read_text()
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {_error_line(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold settings as 'name: value' lines")
    return {"name": path.stem, **values}


def _check_names(names: Iterable[str], where: str) -> None:
    known = setting_names()
    for name in names:
        if name not in known and not name.startswith("supernet.settings."):
            if inside := [one for one in known if one.startswith(f"{name}.")]:
                raise UserError(f"{where}'{name}' is a group of settings: {', '.join(inside)}; set one of them")
            raise UserError(f"{where}unknown setting '{name}'{suggest(name, known)}")


def _instantiate(parser: jsonargparse.ArgumentParser, values: jsonargparse.Namespace) -> Recipe:
    return Recipe(**vars(parser.instantiate(values)))


def _error_line(error: Exception) -> str:
    """jsonargparse names the setting as 'Parser key "x":', tells Python's types, and breaks lines."""
    text = " ".join(str(error).split())
    found = re.match(r'Parser key "([^"]+)":.* (?:Got|Given) value: (.*)$', text)
    if found is None or found[1] not in setting_names():
        return re.sub(r'Parser key "([^"]+)":', r"setting \1:", text)
    hint = functools.reduce(lambda settings, name: get_type_hints(settings)[name], found[1].split("."), Recipe)
    return f"{found[1]} is {found[2]}; it must be {_describe_type(hint)}"


def _describe_type(hint: Any) -> str:
    """What a type takes, in words."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(parts)}"
    if get_origin(hint) is tuple:
        unit = {int: "whole numbers", float: "numbers", str: "names"}[parts[0]]
        return f"a list of {unit}, [a, b, ...]" if parts[-1] is Ellipsis else f"{len(parts)} {unit}, [a, b]"
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_describe_type, parts))
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", types.NoneType: "null"}
    return plain.get(hint, "names and values, {name: value, ...}")
