"""Check that settings can work together, before anything is read or trained."""

from __future__ import annotations

from ..errors import UserError, suggest
from ..plugins import is_plugin
from .data_sources import check_source, published_source
from .optimizer_settings import LrSettings, OptimizerSettings
from .ranges import check_ranges
from .recipe import AugmentSettings, PruneSettings, Recipe
from .schedule import check_schedule
from .search_settings import PolicySettings
from .task_settings import TASK_RULES, TaskRules
from .zero_patterns import pattern_block


def check_recipe(recipe: Recipe) -> Recipe:
    """Check that the settings of a recipe can work, each alone and together.

    Returns:
        The recipe itself.

    Raises:
        UserError: Names the setting and the values that can work.
    """
    check_ranges(recipe)
    check_schedule(recipe)
    if recipe.augment.resize[0] > recipe.augment.resize[1]:
        raise UserError(f"augment.resize is {list(recipe.augment.resize)}; give the smaller factor first")
    _check_lr(recipe.lr)
    _check_optimizer(recipe.optimizer)
    _check_task(recipe)
    _check_pattern(recipe.prune)
    _check_policy(recipe.policy)
    _check_budget(recipe)
    _check_pretrained(recipe)
    if recipe.distill.teacher == "ema" and not recipe.ema_decay:
        raise UserError("distill.teacher is 'ema' but ema_decay is 0: set it to, e.g., 0.99")
    if recipe.budget.given and not recipe.draws_to_budget and recipe.compile:
        raise UserError("compile cannot serve a policy search, where every step has another network; set it to false")
    return recipe


def _check_lr(lr: LrSettings) -> None:
    if lr.shape == "step" and not lr.milestones:
        raise UserError("lr.shape is 'step' but lr.milestones is empty; give the epochs, e.g. --lr.milestones [20,30]")


def _check_optimizer(optimizer: OptimizerSettings) -> None:
    if optimizer.nesterov and not (optimizer.name == "sgd" and optimizer.momentum):
        raise UserError(
            f"optimizer.nesterov is for SGD with momentum, not for {optimizer.name} with momentum "
            f"{optimizer.momentum:g}; set it to false"
        )


def _check_pattern(prune: PruneSettings) -> None:
    if pattern_block(prune.pattern) > 1 and prune.scope == "group":
        raise UserError(f"prune.pattern={prune.pattern} has no place in prune.scope=group; set one of them to another")


def _check_policy(policy: PolicySettings) -> None:
    if policy.warmup > policy.delay:
        raise UserError(
            f"policy.warmup is {policy.warmup:g} and policy.delay {policy.delay:g}: the warm-up must end before the "
            f"controller learns; the nearest possible warm-up is {policy.delay:g}"
        )


def _check_budget(recipe: Recipe) -> None:
    budget = recipe.budget
    if len(budget.given) > 1 and not recipe.draws_to_budget:
        raise UserError(
            f"a policy search limits one cost, here are {' and '.join(budget.given)}; leave all but one out"
        )
    if budget.size_kb is not None and not recipe.draws_to_budget:
        raise UserError("budget.size_kb is for draw; a policy search takes budget.latency_ms, .macs or .params")
    if budget.given and budget.runtime == "sparse" and not recipe.draws_to_budget:
        raise UserError("budget.runtime=sparse is for draw, which prunes; a policy search takes torch or onnxruntime")
    if recipe.draws_to_budget and (budget.table or budget.measured):
        raise UserError("budget.table and budget.measured are for search; draw measures whole networks: leave them out")
    if budget.latency_ms is None and (budget.table or budget.measured):
        raise UserError("budget.table and budget.measured are for budget.latency_ms, which is not given")
    if budget.measured and (budget.table or budget.runtime != "torch"):
        raise UserError("budget.measured times networks by PyTorch, without a table; leave those out")
    if budget.table and (budget.runtime != "torch" or budget.threads != 1):
        raise UserError(
            "budget.runtime and budget.threads are for a new table; budget.table has its own: leave them out"
        )


def _check_pretrained(recipe: Recipe) -> None:
    supernet, data = recipe.supernet, recipe.data
    if supernet.pretrained is True and not supernet.family.publishes_weights:
        raise UserError(
            f"supernet.pretrained true is for timm:NAME and torchvision:NAME, not for {supernet.name}; "
            "give a file of weights, --supernet.pretrained FILE"
        )
    if supernet.pretrained == "":
        raise UserError("supernet.pretrained is empty; use true, false, or a file of weights")
    if (data.mean is None) != (data.std is None) or len(data.mean or ()) != len(data.std or ()):
        raise UserError(f"data.mean is {data.mean} and data.std {data.std}; give both, with a value per channel each")


def _check_task(recipe: Recipe) -> None:
    """Refuse data of another task, and settings that would do nothing."""
    if recipe.task in TASK_RULES:
        check_task_settings(recipe, TASK_RULES[recipe.task])
    elif not is_plugin(recipe.task):  # the rules of a user's own task are known when a run begins
        hint = suggest(recipe.task, TASK_RULES)
        raise UserError(f"unknown task '{recipe.task}'{hint}; or give package.module:Name of your own")


def check_task_settings(recipe: Recipe, rules: TaskRules) -> None:
    """Check that the data and the settings of a recipe are for its task.

    Args:
        recipe: The recipe.
        rules: The rules of its task.

    Raises:
        UserError: Names the first setting that is not.
    """
    task = recipe.task
    if not is_plugin(recipe.data.source):  # the task of a user's own dataset is known when a run begins
        check_source(published_source(recipe.data.source), recipe.data, rules.samples, task)
    plain = vars(AugmentSettings())
    for name, value in vars(recipe.augment).items():
        if value != plain[name] and name not in rules.augmentations:
            takes = f"takes {', '.join(sorted(rules.augmentations)) or 'none'}"
            raise UserError(f"augment.{name} is not for {task}; leave it out ({task} {takes})")
    if recipe.distill.teacher is not None and not rules.distillation:
        raise UserError(f"distill.teacher needs classes of images or pixels, which {task} has not; leave it out")
    if recipe.label_smoothing and not rules.label_smoothing:
        raise UserError(f"label_smoothing={recipe.label_smoothing:g} is not for {task}; set it to 0")
    if recipe.data.boxes != "truth" and not rules.boxes:
        raise UserError(f"data.boxes is not for {task}; leave it out")
