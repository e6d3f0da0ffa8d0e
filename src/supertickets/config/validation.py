"""Check that settings can work, before anything is read or trained."""

from __future__ import annotations

from ..errors import UserError, suggest
from ..plugins import is_plugin
from .data_sources import check_source, published_source
from .recipe import AugmentSettings, LrSettings, OptimizerSettings, Recipe
from .schedule import check_schedule
from .task_settings import TASK_RULES, TaskRules


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
        ("prune.batches", recipe.prune.batches, 1),
        ("prune.rounds", 1 if recipe.prune.rounds is None else recipe.prune.rounds, 1),
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
    if recipe.search.target_shrinkage <= 0:
        raise UserError(
            f"search.target_shrinkage is {recipe.search.target_shrinkage:g}; usual is 2.5, "
            "and search.rho 0 is no penalty"
        )
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
    if recipe.data.boxes != "truth" and not rules.boxes:
        raise UserError(f"data.boxes is not for {task}; leave it out")


def check_optimizer(optimizer: OptimizerSettings, lr: LrSettings) -> None:
    """Raises `UserError` for values that no optimizer takes."""
    if optimizer.lr <= 0:
        raise UserError(f"optimizer.lr is {optimizer.lr:g}; it must be above 0")
    if not 0 <= optimizer.momentum < 1:
        raise UserError(f"optimizer.momentum is {optimizer.momentum:g}; it must be from 0 to below 1")
    if any(not 0 <= beta < 1 for beta in optimizer.betas):
        raise UserError(f"optimizer.betas is {list(optimizer.betas)}; both must be from 0 to below 1")
    if not 0 <= optimizer.alpha < 1:
        raise UserError(f"optimizer.alpha is {optimizer.alpha:g}; it must be from 0 to below 1")
    for name, value in (
        ("optimizer.eps", optimizer.eps),
        ("optimizer.clip_norm", optimizer.clip_norm),
        ("lr.decay_epochs", lr.decay_epochs),
        ("lr.gamma", lr.gamma),
        ("lr.power", lr.power),
        ("lr.start_divisor", lr.start_divisor),
        ("lr.end_divisor", lr.end_divisor),
    ):
        if value is not None and value <= 0:
            raise UserError(f"{name} is {value:g}; it must be above 0")
    if not 0 < lr.rise < 1:
        raise UserError(f"lr.rise is {lr.rise:g}; it is a share between 0 and 1, e.g. 0.3")
    if lr.shape == "step" and not lr.milestones:
        raise UserError("lr.shape is 'step' but lr.milestones is empty; give the epochs, e.g. --lr.milestones [20,30]")
