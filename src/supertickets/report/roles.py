"""The making of a run, read off its record: steps, role, name of the method, and the command that makes it again."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..config.loading import load_recipe
from ..config.recipe import Recipe, flatten
from ..config.shipped import list_recipes
from ..runs.derive import PRUNE_PASSES_OVER, PRUNE_USES, PRUNE_WORDS

Record = Mapping[str, Any]
_REACTIVATIONS = {"search": " + IR-S", "prune": " + IR-P", "none": ""}
# Settings that make no other method: places, and what tables tell apart by themselves.
_ASIDE = ("name", "description", "seed", "threads", "device", "checkpoint_seconds", "prune.ratio")
_WHERE = ("data.dir", "data.workers", "data.keep_gb")
# Settings that some commands do not take: they follow from the ticket, or from the command.
_FIXED = ("search.interval", "search.last_epoch", "search.rho", "prune.ratio")
# By command: prefixes of settings that it does not take, and those of them that it takes all the same.
_NOT_TAKEN = {
    "draw": ((), ()),
    "shared_prefix": ((), ()),
    "search": (("search.", "prune."), ()),
    "train": (_FIXED, ()),
    "retrain": (("search.", "prune.", "supernet.", "epochs"), ()),
    "transfer": (("search.", "prune.", "supernet."), ("supernet.settings.",)),
    "prune": (PRUNE_PASSES_OVER, PRUNE_USES),
}
_BY_RECIPE = ("draw", "shared_prefix", "train", "search")  # commands that are given a recipe, not a ticket


@dataclass(frozen=True)
class Role:
    """The role of a method in comparisons, whatever its name.

    Attributes:
        way: Kind of training: "two-in-one", "search-then-prune", or anything else.
        progressive: Whether two-in-one training prunes step by step (PP).
        reactivate: Time at which weights come back: "search" (IR-S), "prune" (IR-P) or "none".
        restore: Values with which they come back.
        criterion: Criterion by which a finished network was pruned, if it was.
        retrained: Whether the ticket was trained further.
    """

    way: Literal["two-in-one", "search-then-prune", "other"]
    progressive: bool
    reactivate: str
    restore: str
    criterion: str | None
    retrained: bool


def list_steps(about: Record) -> list[Record]:
    """Return every command that led to a run's ticket, as its record has them, the oldest first, its own last."""
    made, recipe = about.get("metadata") or {}, about["recipe"]
    own = {"command": about["command"], "recipe": recipe["name"], "sparse": bool(recipe["prune"]["ratio"])}
    before = [{**step, "sparse": step.get("sparsity", 0) > 0} for step in made.get("lineage", ())]
    return [*before, own | {key: made[key] for key in ("criterion", "batches", "rounds", "head") if key in made}]


def recipe_name(about: Record) -> str:
    """Return the name of the recipe that a ticket is measured by, without what commands add to it."""
    steps = list_steps(about)
    last = max((i for i, step in enumerate(steps) if step["command"] == "transfer"), default=0)
    name = str(steps[last]["recipe"])
    return name.removesuffix(f"-from-{steps[last - 1]['recipe']}") if last else name


def role_of(about: Record) -> Role:
    """Return the role of a run in the comparisons of the paper (Sec. 4.2, 4.3)."""
    steps, prune = list_steps(about), about["recipe"]["prune"]
    commands = [step["command"] for step in steps]
    way: Literal["two-in-one", "search-then-prune", "other"] = "other"
    if commands[0] == "draw" and "transfer" not in commands:
        if steps[0]["sparse"] and "prune" not in commands:
            way = "two-in-one"
        elif not steps[0]["sparse"] and "prune" in commands:
            way = "search-then-prune"
    reactivate, restore = str(prune["reactivate"]), str(prune.get("restore", "stored"))
    criterion = next((str(step["criterion"]) for step in reversed(steps) if "criterion" in step), None)
    return Role(way, bool(prune["progressive"]), reactivate, restore, criterion, commands[-1] == "retrain")


def method_name(about: Record) -> str:
    """Return the method's name for a run that belongs to no sweep."""
    steps, prune = list_steps(about), about["recipe"]["prune"]
    name = ""
    for before, step in zip([None, *steps], steps, strict=False):
        command = step["command"]
        if command == "train":
            name = "dense"
        elif command == "draw" and not step["sparse"]:
            name = "search only"
        elif command == "search":
            name = "search"
        elif command == "draw":
            name = "two-in-one" + (" + PP" if prune["progressive"] else "") + _REACTIVATIONS[prune["reactivate"]]
        elif command == "prune":
            name = f"S+P ({step['criterion']})" if name == "search only" else f"{name} + prune ({step['criterion']})"
        elif command == "transfer" and before is not None:
            name = f"transfer from {before['recipe']}"
        elif command == "retrain":
            name += " + retrain"
    return name


def describe_method(about: Record) -> str:
    """Return the commands of a method in one line, e.g. "draw, then prune (magnitude), then retrain (10 epochs)"."""
    phrases = []
    for step in list_steps(about):
        searched = step["command"] == "draw" and not step["sparse"]
        phrases.append("draw without pruning" if searched else str(step["command"]))
        if "criterion" in step:
            phrases[-1] += f" ({step['criterion']})"
    if about["command"] in ("retrain", "transfer"):
        phrases[-1] += f" ({about['recipe']['epochs']} epochs)"
    return ", then ".join(phrases)


def settings_of(about: Record) -> dict[str, Any]:
    """Return all settings that make a method, by their dotted names; seed, ratio and places left out."""
    flat = flatten(about["recipe"])
    return {name: value for name, value in flat.items() if name not in _ASIDE + _WHERE}


def identity(about: Record) -> str:
    """Return a text that is equal for runs which differ in seed and ratio alone."""
    steps = [
        {key: step.get(key) for key in ("command", "criterion", "batches", "rounds")} for step in list_steps(about)
    ]
    samples = [step.get("samples") for step in (about.get("metadata") or {}).get("lineage", ())]
    return json.dumps([steps, samples, settings_of(about)], sort_keys=True)


def chosen_settings(about: Record, origin: Record | None) -> dict[str, Any]:
    """Return the settings of a method that someone chose, as far as they are known.

    Pruning and retraining switch off what they have no use for; what counts there is how the network was trained that
    they began with, and how it was pruned.

    Args:
        about: Record of the run.
        origin: Record of the training that it goes back to; None if that is not known.
    """
    if origin is None:
        return {}
    settings = settings_of(origin)
    if not origin["recipe"]["prune"]["ratio"]:
        settings = {name: value for name, value in settings.items() if not name.startswith("prune.")}
        if any(step["command"] == "prune" for step in list_steps(about)):
            settings |= {name: value for name, value in settings_of(about).items() if name in PRUNE_USES}
    return settings


def command_of(about: Record, out: str, ticket: str = "TICKET", alone: bool = True) -> str:
    """Return the command that makes a run again, of the settings that it recorded.

    Args:
        about: Record of the run.
        out: Directory of the run.
        ticket: Ticket that it began with, if that is known.
        alone: Whether settings may have been changed against the ticket's; a sweep changes none.
    """
    made, recipe, command = about.get("metadata") or {}, about["recipe"], str(about["command"])
    name = recipe_name(about)
    words = ["supertickets", "draw" if command == "shared_prefix" else command]
    if command in _BY_RECIPE:
        words.append(_recipe_word(name))
    else:
        words.append(ticket)
    if command == "search" and made.get("lineage"):
        words += ["--shared", "SHARED"]
    if command == "transfer":
        words.append(_recipe_word(name))
        if made.get("head", {}).get("kind") == "inherited":
            words += ["--head", "HEAD"]
    if command == "retrain":
        words += ["--epochs", str(recipe["epochs"])]
    if command == "prune":
        words += ["--ratio", f"{recipe['prune']['ratio']:g}", "--criterion", str(made["criterion"])]
        words += [word for key in ("batches", "rounds") if key in made for word in (f"--{key}", str(made[key]))]
    if alone or command in _BY_RECIPE:
        words += _setting_words(recipe, name, command)
    return shlex.join([*words, "--out", out])


def _setting_words(recipe: Record, name: str, command: str) -> list[str]:
    """Return, as words, the settings that differ from the shipped recipe of that name, or from the defaults."""
    plain, fixed, but = _plain(name), *_NOT_TAKEN[command]
    words = []
    for key, value in _spread(recipe).items():
        if key in ("name", "description") or (key in plain and plain[key] == value):
            continue
        if key.startswith(fixed) and not key.startswith(but):
            continue
        if command == "prune" and key in PRUNE_WORDS:  # the command's own words say them
            continue
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return words if "--seed" in words or command in ("retrain", "prune") else [*words, "--seed", str(recipe["seed"])]


@functools.lru_cache
def _plain(name: str) -> dict[str, Any]:
    """Return the settings of a shipped recipe; the defaults if there is none of that name."""
    recipe = load_recipe(name) if name in list_recipes() else Recipe()
    return _spread(json.loads(json.dumps(recipe.to_json())))


def _spread(recipe: Record) -> dict[str, Any]:
    """Return settings by dotted names, those of the supernet too."""
    flat = flatten(recipe)
    inner = flat.pop("supernet.settings", None) or {}
    return flat | {f"supernet.settings.{name}": value for name, value in inner.items()}


def _recipe_word(name: str) -> str:
    return name if name in list_recipes() else f"{name}.yaml"


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings that are not the same in all methods that have them."""
    names = dict.fromkeys(name for each in settings for name in each)
    values = {name: {json.dumps(each[name], sort_keys=True) for each in settings if name in each} for name in names}
    return [name for name in names if len(values[name]) > 1]
