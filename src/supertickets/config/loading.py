"""Load recipes: YAML in, typed settings out, and one clear line when something in them is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..errors import UserError, suggest
from .network_families import find_family
from .recipe import Recipe, flatten, setting_names
from .setting_types import convert, read_word, read_yaml, setting_types
from .shipped import read_shipped, shipped_names
from .stretch import stretch_recipe
from .validation import check_recipe

FORMAT_VERSION = 2
# Names of format 1, and what they are called since.
_RENAMED = {"search.reach": "search.target_shrinkage", "prune.meet": "prune.on_conflict"}
_NETWORK, _OF_NETWORK = "supernet.name", "supernet.settings"
_FACTOR = "supernet.width_factor"
_WIDTHS = {_OF_NETWORK, *(f"{_OF_NETWORK}.{name}" for name in ("width", "widths", "head_width"))}
_INSTEAD = {f"{_OF_NETWORK}.width": "widths", f"{_OF_NETWORK}.widths": "width"}  # that says the same otherwise
_BATCH, _FIT_BATCH = "data.batch", "data.fit_batch"
_SCHEDULE = "prune.schedule"
# Settings that one schedule of prunes alone reads, with its name.
_SCHEDULE_OF = {
    **dict.fromkeys(("prune.interval", "prune.progressive", "prune.reactivate", "prune.restore"), "interval"),
    **dict.fromkeys(("prune.steps", "prune.begin", "prune.end"), "cubic"),
}

Settings = TypeVar("Settings")


def load_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        source: A shipped name or the path of a YAML file.
        overrides: Command-line words such as ``["--prune.ratio", "0.8"]``; they win over the file. With another number
            of epochs, its intervals, warm-ups and milestones are stretched or shortened along. With a network of
            another family, or another one of timm or torchvision, the file's ``supernet.settings`` go. A setting that
            one schedule of prunes alone reads chooses that schedule. A batch and widths that are given are taken as
            they are, and one width for all stages takes the place of one for each, or the other way round.

    Raises:
        UserError: The recipe or a setting is unknown, or a value has the wrong type or is out of range.
    """
    values = flatten(_read_recipe(source))
    _check_names(values, f"recipe {source}: ")
    return _override(values, overrides)


def override_settings(recipe: Recipe, words: Sequence[str]) -> Recipe:
    """Return a recipe with settings replaced by command-line words, as in `load_recipe`."""
    return _override(flatten(recipe.to_json()), words)


def recipe_from_json(data: Mapping[str, Any]) -> Recipe:
    """Return the recipe that `Recipe.to_json` wrote.

    Raises:
        UserError: A setting is unknown, or a value has the wrong type.
    """
    values = flatten(data)
    _check_names(values, "")
    return _build(Recipe, values)


def settings_as_words(settings: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return settings of a file, nested or dotted, as command-line words.

    Args:
        settings: Plain values as YAML has them; texts are words already.
        where: Place of the settings, for messages.

    Raises:
        UserError: A setting is unknown, or takes no such value: what YAML reads as a number is no name.
    """
    flat = flatten(settings)
    _check_names(flat, f"{where}: ")
    for name, value in flat.items():
        if not isinstance(value, str) and not name.startswith(f"{_OF_NETWORK}."):
            convert(value, _type_of(name), f"{where}: {name}")
    values = (value if isinstance(value, str) else json.dumps(value, default=str) for value in flat.values())
    return tuple(word for name, text in zip(flat, values, strict=True) for word in (f"--{name}", text))


def _override(values: Mapping[str, Any], words: Sequence[str]) -> Recipe:
    """Return the recipe of settings by dotted name, some of them replaced by command-line words."""
    pairs = list(_pairs(words))
    _check_names([name for name, _ in pairs], "")
    names = [name for name, _ in pairs]
    pairs += _implied_schedule(names) + _implied_factor(names)
    base = _stretched(_build(Recipe, values), pairs)
    pairs += _implied_batch(names, base)
    network, replaced = base.supernet.name, flatten(base.to_json())
    chosen = next((text for name, text in reversed(pairs) if name == _NETWORK), network)
    if not _keeps_settings(network, chosen):
        replaced[_OF_NETWORK] = {}  # a family knows no settings of another, a library's network none of another's
    for name, text in pairs:
        if name.startswith(f"{_OF_NETWORK}."):
            replaced[_OF_NETWORK] = _with_entry(replaced.get(_OF_NETWORK, {}), name.split(".")[2:], _plain(text))
            replaced[_OF_NETWORK].pop(_INSTEAD.get(name), None)
        else:
            replaced[name] = read_word(text, _type_of(name), name)
    return check_recipe(_build(Recipe, replaced))


def _implied_schedule(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the schedule of prunes that given settings are for, if it is not given; so that none is without effect."""
    by_schedule = {schedule: name for name in names if (schedule := _SCHEDULE_OF.get(name)) is not None}
    if not by_schedule or _SCHEDULE in names:
        return []
    if len(by_schedule) > 1:
        one, other = sorted(by_schedule.values())
        raise UserError(f"{one} and {other} are for different schedules of prunes; say which by --{_SCHEDULE}")
    return [(_SCHEDULE, next(iter(by_schedule)))]


def _implied_factor(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return that widths which are given are taken as they are, if nothing is said of their factor."""
    return [(_FACTOR, "1")] if _FACTOR not in names and _WIDTHS & set(names) else []


def _implied_batch(names: Sequence[str], recipe: Recipe) -> list[tuple[str, str]]:
    """Return that a batch which is given is taken as it is, if a recipe fits it and nothing is said of that."""
    fits = recipe.data.fit_batch or recipe.epochs == 0
    return [(_FIT_BATCH, "false")] if fits and _BATCH in names and _FIT_BATCH not in names else []


def _stretched(recipe: Recipe, pairs: Sequence[tuple[str, str]]) -> Recipe:
    """Return the recipe over the number of epochs that words give, if any, as its intervals are for its own number."""
    given = [read_word(text, _type_of(name), name) for name, text in pairs if name == "epochs"]
    if not given or not recipe.epochs or given[-1] in (0, recipe.epochs):
        return recipe
    return stretch_recipe(recipe, given[-1])


def check_words(words: Iterable[str]) -> list[str]:
    """Return command-line words as a list.

    Raises:
        UserError: They are one text, which would be read letter by letter, or something among them is no text.
    """
    listed = [words] if isinstance(words, str) else list(words)
    if isinstance(words, str) or (wrong := [word for word in listed if not isinstance(word, str)]):
        shown = repr(words if isinstance(words, str) else wrong[0])
        raise UserError(f'settings are given as a list of texts, e.g. ["--epochs", "5"], not as {shown}')
    return listed


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield names and values of ``--name VALUE`` and ``--name=VALUE``."""
    queue = check_words(words)
    while queue:
        word = queue.pop(0)
        if not word.startswith("--"):
            how = f"a folder of data as --data {word}" if Path(word).is_dir() else "settings are given as --NAME VALUE"
            raise UserError(f"'{word}' is out of place; {how}")
        name, equals, text = word[2:].partition("=")
        if not equals:
            _check_names([name], "")
            if not queue or queue[0].startswith("--"):
                raise UserError(f"--{name} has no value; give one behind it: --{name} VALUE")
            text = queue.pop(0)
        yield name, text


def _build(settings: type[Settings], values: Mapping[str, Any], prefix: str = "") -> Settings:
    """Return typed settings.

    Args:
        settings: Dataclass of settings, with others inside.
        values: Plain values by dotted name; what is missing has its default.
        prefix: Dotted name in front of these settings.
    """
    given: dict[str, Any] = {}
    for entry, hint in setting_types(settings).items():
        name = f"{prefix}{entry}"
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            given[entry] = _build(hint, values, f"{name}.")
        elif name in values:
            given[entry] = convert(values[name], hint, name)
    return settings(**given)


def _type_of(name: str) -> Any:
    """Return the type of a setting by its dotted name."""
    hint: Any = Recipe
    for part in name.split("."):
        hint = setting_types(hint)[part]
    return hint


def _plain(text: str) -> Any:
    try:
        return read_yaml(text)
    except yaml.YAMLError:
        return text


def _with_entry(values: Any, path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a copy of nested values with one entry replaced."""
    first, *rest = path
    values = dict(values) if isinstance(values, Mapping) else {}
    return values | {first: _with_entry(values.get(first), rest, value) if rest else value}


def _keeps_settings(network: str, chosen: str) -> bool:
    """Return whether ``supernet.settings`` of one network are those of the chosen one too."""
    if network == chosen:
        return True
    family = find_family(network)
    return family.shares_settings and family is find_family(chosen)


def _read_recipe(source: str) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"recipe file {path} does not exist; check the path, or see: supertickets recipes")
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"recipe file {path} cannot be read or is not YAML ({_one_line(error)})") from None
    else:
        shipped = shipped_names()
        if source not in shipped and path.is_dir():
            raise UserError(f"{source} is a folder, not a recipe; give a recipe and the folder: images --data {source}")
        if source not in shipped:
            raise UserError(f"unknown recipe '{source}'{suggest(source, shipped)}; or give the path of a .yaml file")
        text = read_shipped(source)
    try:
        values = read_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {_one_line(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold settings as 'name: value' lines")
    version = values.pop("format_version", FORMAT_VERSION)
    if version not in range(1, FORMAT_VERSION + 1):  # what format 1 called otherwise is named where names are checked
        raise UserError(
            f"{path} has format_version {version}, this version of supertickets reads up to {FORMAT_VERSION}; "
            "update supertickets"
        )
    return {"name": path.stem, **values}


def _check_names(names: Iterable[str], where: str) -> None:
    known = setting_names()
    for name in names:
        if name in known or name.startswith(f"{_OF_NETWORK}."):
            continue
        if name in _RENAMED:
            raise UserError(f"{where}setting '{name}' is called '{_RENAMED[name]}' since format 2; rename it")
        if inside := [one for one in known if one.startswith(f"{name}.")]:
            rate = "; the learning rate is optimizer.lr" if name == "lr" else ""
            raise UserError(f"{where}'{name}' is a group of settings: {', '.join(inside)}; set one of them{rate}")
        raise UserError(f"{where}unknown setting '{name}'{suggest(name, known)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
