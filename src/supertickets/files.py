"""Recipe files: YAML in, typed settings out, and one clear line when something in them is wrong."""

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

from .errors import UserError, nearest
from .recipe import AugmentSettings, Recipe, SupernetSettings, flatten, setting_names
from .schedule import check_schedule
from .training.optim import check_optimizer

# Sources of other tasks than classification, and what may vary in which task.
_TASKS = {
    **dict.fromkeys(("cityscapes", "ade20k", "voc", "masks"), "segmentation"),
    **{"coco": "pose", "coco_boxes": "detection", "shanghaitech": "counting"},
}
_VARIES = {
    "classification": {"crop", "flip", "jitter", "randaugment", "mixup", "cutmix", "shift", "rotate", "scale"},
    "segmentation": {"resize", "class_share", "photometric", "flip"},
    "pose": {"flip", "jitter", "rotate", "rotate_share", "scale", "half_body"},
    "detection": {"flip", "jitter", "scale"},
    "counting": {"resize", "photometric", "flip"},
}


def list_recipes() -> dict[str, str]:
    """Shipped recipes: name -> one line on what it does."""
    return dict(_shipped("recipes"))


def list_sweeps() -> dict[str, str]:
    """Shipped sweeps: name -> one line on what they compare."""
    return dict(_shipped("sweeps"))


@functools.cache
def _shipped(kind: str) -> dict[str, str]:
    files = sorted(resources.files(f"supertickets.{kind}").iterdir(), key=lambda entry: entry.name)
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
    values = _read(source)
    _check_names(flatten(values), f"recipe {source}: ")
    return _parse(values, overrides)


def override(recipe: Recipe, words: Sequence[str]) -> Recipe:
    """Returns a recipe with settings replaced by command-line words, as in `load_recipe`."""
    return _parse(recipe.to_json(), words)


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


def check_recipe(recipe: Recipe) -> Recipe:
    """Refuses settings that cannot work.

    Raises:
        UserError: Names the setting and the nearest value that can.
    """
    check_schedule(recipe)
    check_optimizer(recipe.optimizer, recipe.lr)
    _check_task(recipe)
    for name, value, least in (
        ("evaluate_every", recipe.evaluate_every, 1),
        ("recalibrate_batches", recipe.recalibrate_batches, 1),
        ("data.workers", recipe.data.workers, 0),
        ("accumulate", recipe.accumulate, 1),
        ("augment.randaugment", recipe.augment.randaugment, 0),
        ("augment.mixup", recipe.augment.mixup, 0),
        ("augment.cutmix", recipe.augment.cutmix, 0),
        ("augment.jitter", recipe.augment.jitter, 0),
        ("augment.shift", recipe.augment.shift, 0),
        ("augment.rotate", recipe.augment.rotate, 0),
        ("checkpoint_seconds", recipe.checkpoint_seconds, 0),
        ("data.batch", recipe.data.batch, 2),
        ("data.keep_gb", recipe.data.keep_gb, 0),
        ("optimizer.weight_decay", recipe.optimizer.weight_decay, 0),
        ("optimizer.initial_accumulator", recipe.optimizer.initial_accumulator, 0),
        ("prune.exempt_below", recipe.prune.exempt_below, 0),
        ("prune.group", recipe.prune.group, 2),
        ("search.threshold", recipe.search.threshold, 0),
        ("segmentation.balance", recipe.segmentation.balance, 0),
        ("search.warmup_epochs", recipe.search.warmup_epochs, 0),
        ("lr.warmup_epochs", recipe.lr.warmup_epochs, 0),
        ("threads", 1 if recipe.threads is None else recipe.threads, 1),
    ):
        if value < least:
            raise UserError(f"{name} is {value}; the nearest possible is {least}")
    for name, share in (
        ("prune.layer_floor", recipe.prune.layer_floor),
        ("augment.scale", recipe.augment.scale),
        ("augment.half_body", recipe.augment.half_body),
        ("label_smoothing", recipe.label_smoothing),
        ("ema_decay", recipe.ema_decay),
    ):
        if not 0 <= share < 1:
            raise UserError(f"{name} is {share:g}; it is a share: from 0 (off) to below 1")
    if recipe.augment.randaugment > 30:
        raise UserError(f"augment.randaugment is {recipe.augment.randaugment}; the nearest possible is 30")
    if recipe.search.rho is not None and recipe.search.rho < 0:
        raise UserError(f"search.rho is {recipe.search.rho:g}; the nearest possible is 0 (no penalty)")
    if recipe.search.reach <= 0:
        raise UserError(f"search.reach is {recipe.search.reach:g}; usual is 2.5, and search.rho 0 is no penalty")
    for name, above, usual in (
        ("pose.sigma", recipe.pose.sigma, 2),
        ("data.sigma", recipe.data.sigma, 4),
        ("counting.scale", recipe.counting.scale, 100),
    ):
        if above is not None and not above > 0:
            raise UserError(f"{name} is {above:g}; it must be above 0, e.g. {usual}")
    if not 0 < recipe.augment.crop <= 1:
        raise UserError(f"augment.crop is {recipe.augment.crop:g}; it is a share of the area, e.g. 0.35 (1 for none)")
    for name, share in (
        ("augment.rotate_share", recipe.augment.rotate_share),
        ("distill.share", recipe.distill.share),
    ):
        if not 0 <= share <= 1:
            raise UserError(f"{name} is {share:g}; it is a share: from 0 to 1")
    if recipe.distill.temperature <= 0:
        raise UserError(f"distill.temperature is {recipe.distill.temperature:g}; it must be above 0, e.g. 4")
    if recipe.distill.teacher == "ema" and not recipe.ema_decay:
        raise UserError("distill.teacher is 'ema' but ema_decay is 0: set it to, e.g., 0.99")
    _check_policy(recipe)
    _check_connect(recipe)
    if not 0 <= recipe.seed < 2**63:
        raise UserError(f"seed is {recipe.seed}; it must be from 0 to {2**63 - 1}")
    return recipe


def _check_policy(recipe: Recipe) -> None:
    """Refuses what cannot work in a policy search."""
    policy, budget = recipe.policy, recipe.budget
    if not policy.beta < 0:
        raise UserError(f"policy.beta is {policy.beta:g}; it must be below 0, e.g. -0.1")
    for name, value, least in (("images", policy.images, 1), ("growth", policy.growth, 1)):
        if value < least:
            raise UserError(f"policy.{name} is {value:g}; the nearest possible is {least}")
    for name, share in (
        ("delay", policy.delay),
        ("baseline_momentum", policy.baseline_momentum),
        ("beta2", policy.beta2),
    ):
        if not 0 <= share < 1:
            raise UserError(f"policy.{name} is {share:g}; it is a share: from 0 to below 1")
    for name, rate in (("lr", policy.lr), ("eps", policy.eps)):
        if rate is not None and rate <= 0:
            raise UserError(f"policy.{name} is {rate:g}; it must be above 0")
    if not 0 <= policy.warmup <= policy.delay:
        raise UserError(
            f"policy.warmup is {policy.warmup:g} and policy.delay {policy.delay:g}: the warm-up must end before the "
            f"controller learns; the nearest possible warm-up is {min(max(policy.warmup, 0), policy.delay):g}"
        )
    if len(budget.given) > 1:
        raise UserError(f"a budget limits one cost, here are {' and '.join(budget.given)}; leave all but one out")
    for name, target in budget.given.items():
        if target <= 0:
            raise UserError(f"budget.{name} is {target:g}; it must be above 0")
    if budget.threads < 1:
        raise UserError(f"budget.threads is {budget.threads}; the nearest possible is 1")
    if budget.latency_ms is None and (budget.table or budget.measured):
        raise UserError("budget.table and budget.measured are for budget.latency_ms, which is not given")
    if budget.measured and (budget.table or budget.runtime != "torch"):
        raise UserError("budget.measured times networks by PyTorch, without a table; leave those out")
    if budget.table and (budget.runtime != "torch" or budget.threads != 1):
        raise UserError(
            "budget.runtime and budget.threads are for a new table; budget.table has its own: leave them out"
        )
    if budget.given and recipe.compile:
        raise UserError("compile cannot serve a policy search, where every step has another network; set it to false")


def _check_connect(recipe: Recipe) -> None:
    """Refuses what cannot work in a search for connections."""
    connect = recipe.connect
    if not 0 <= connect.probability <= 1:
        raise UserError(f"connect.probability is {connect.probability:g}; it is from 0 to 1, e.g. 0.5")
    for name in ("steps", "samples", "epochs", "period", "each", "candidates"):
        if getattr(connect, name) < 1:
            raise UserError(f"connect.{name} is {getattr(connect, name)}; the nearest possible is 1")
    for ratio in connect.ratios:
        if not 0 <= ratio <= 1:
            raise UserError(f"connect.ratios has {ratio:g}; a ratio is from 0 to 1, e.g. 0.5")
    for name in ("lr", "temperature"):
        if not getattr(connect, name) > 0:
            raise UserError(f"connect.{name} is {getattr(connect, name):g}; it must be above 0")
    for name in ("sparsity", "accuracy", "curiosity"):
        if getattr(connect, name) < 0:
            raise UserError(f"connect.{name} is {getattr(connect, name):g}; the nearest possible is 0")
    if connect.baseline is not None and not 0 <= connect.baseline < 1:
        raise UserError(f"connect.baseline is {connect.baseline:g}; it is a share: from 0 to below 1, or null")


def _check_task(recipe: Recipe) -> None:
    """Refuses data of another task, and settings that would do nothing."""
    task = recipe.task
    if recipe.data.source == "digits" and recipe.data.dir is not None:
        raise UserError(
            "data.dir (--data) is not for the digits, which come with the package; for your own pictures: "
            "supertickets draw images --data DIR"
        )
    if (meant := _TASKS.get(recipe.data.source, "classification")) != task:
        raise UserError(f"data.source {recipe.data.source} is for {meant}, but task is {task}; set task to {meant}")
    plain = vars(AugmentSettings())
    for name, value in vars(recipe.augment).items():
        if value != plain[name] and name not in _VARIES[task]:
            raise UserError(
                f"augment.{name} is not for {task}; leave it out ({task} takes {', '.join(sorted(_VARIES[task]))})"
            )
    if task in ("pose", "detection", "counting") and recipe.distill.teacher is not None:
        raise UserError(f"distill.teacher needs classes of pictures or pixels, which {task} has not; leave it out")
    if task != "pose" and recipe.data.boxes != "truth":
        raise UserError(f"data.boxes is not for {task}; leave it out")


def _parse(values: Mapping[str, Any], overrides: Sequence[str]) -> Recipe:
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
        raise UserError(_one_line(error)) from None
    return check_recipe(recipe)


def _read(source: str) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"recipe file {path} does not exist; check the path, or see: supertickets recipes")
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"recipe file {path} cannot be read or is not YAML ({_one_line(error)})") from None
    else:
        shipped = list_recipes()
        if source not in shipped:
            raise UserError(f"unknown recipe '{source}'{nearest(source, shipped)}; or give the path of a .yaml file")
        text = resources.files("supertickets.recipes").joinpath(f"{source}.yaml").read_text()
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {_one_line(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold settings as 'name: value' lines")
    return {"name": path.stem, **values}


def _check_names(names: Iterable[str], where: str) -> None:
    known = setting_names()
    for name in names:
        if name not in known and not name.startswith("supernet.settings."):
            if inside := [one for one in known if one.startswith(f"{name}.")]:
                raise UserError(f"{where}'{name}' is a group of settings: {', '.join(inside)}; set one of them")
            raise UserError(f"{where}unknown setting '{name}'{nearest(name, known)}")


def _instantiate(parser: jsonargparse.ArgumentParser, values: jsonargparse.Namespace) -> Recipe:
    return Recipe(**vars(parser.instantiate(values)))


def _one_line(error: Exception) -> str:
    """jsonargparse names the setting as 'Parser key "x":', tells Python's types, and breaks lines."""
    text = " ".join(str(error).split())
    found = re.match(r'Parser key "([^"]+)":.* (?:Got|Given) value: (.*)$', text)
    if found is None or found[1] not in setting_names():
        return re.sub(r'Parser key "([^"]+)":', r"setting \1:", text)
    hint = functools.reduce(lambda settings, name: get_type_hints(settings)[name], found[1].split("."), Recipe)
    return f"{found[1]} is {found[2]}; it must be {_wanted(hint)}"


def _wanted(hint: Any) -> str:
    """What a type takes, in words."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(parts)}"
    if get_origin(hint) is tuple:
        unit = {int: "whole numbers", float: "numbers", str: "names"}[parts[0]]
        return f"a list of {unit}, [a, b, ...]" if parts[-1] is Ellipsis else f"{len(parts)} {unit}, [a, b]"
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_wanted, parts))
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", types.NoneType: "null"}
    return plain.get(hint, "names and values, {name: value, ...}")
