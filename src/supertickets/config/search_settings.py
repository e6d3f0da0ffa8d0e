"""Settings of searches: by shrinking, of a space to a budget (TuNAS), and of connection schemes (LTH4SA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from .ranges import (
    ClosedUnitInterval,
    NegativeFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    UnitIntervalAboveZero,
    UnitIntervalBelowOne,
)

ConnectBy = Literal["policy", "enas", "darts", "genetic", "random", "l1", "median", "every", "all", "ratios"]


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Search by shrinking (Sec. 3.1).

    Attributes:
        interval: Epochs between two removals, t_s; 0 switches the search off.
        threshold: BN scale at or below which a unit is removed (epsilon).
        rho: Strength of the L1 penalty on the scales, weighted by each unit's MACs; null chooses it by the length of
            the search (docs/short-runs.md).
        target_shrinkage: Distance by which the penalty that null chooses moves the scale of a unit of mean MACs, which
            starts at 1, by the end of the search if nothing pulls back; more removes more.
        warmup_epochs: Epochs in which the penalty grows linearly from 0.
        penalty: Kind of penalty: "subgradient" (the paper) adds rho * p * sign(scale) to the gradient; "proximal" is a
            soft threshold of lr * rho * p after the step: exact zeros, and the same strength under every optimizer.
        penalty_exponent: Power of a unit's MACs by which the penalty weighs it: 1 in the paper; less is flatter, and 0
            pulls at all scales alike.
        last_epoch: Last epoch with penalty, removal and reactivation; null for the whole run (the paper).
        floor: Share of the supernet's units that is never removed, so that no network comes out empty.
        importance: Importance of a unit: the magnitude of its BN "scale" (the paper; to a budget every group gives up
            the same share); that under a penalty, all groups "penalised" by ``rho`` and ranked together on the way to a
            budget; or the gradient of a virtual "gate" on what it emits, per cost (docs/budgets.md), which works
            without BN too.
        group_floor: Share of the units of each group that is never removed.
        multiple: Number of channels that widths are multiples of, since dense runtimes compute in blocks; null for that
            of this device (16 with AVX-512, else 8).
        begin: Share of the training at which removals to a budget begin.
        end: Share of the training at which they have reached it.
    """

    interval: NonNegativeInt = 10
    threshold: NonNegativeFloat = 1e-3
    rho: NonNegativeFloat | None = 0.0
    target_shrinkage: PositiveFloat = 2.5
    warmup_epochs: NonNegativeFloat = 0.0
    penalty: Literal["subgradient", "proximal"] = "subgradient"
    penalty_exponent: Annotated[float, Range(least=0, most=4)] = 1.0
    last_epoch: NonNegativeInt | None = None
    floor: UnitIntervalBelowOne = 0.01
    importance: Literal["scale", "penalised", "gate"] = "scale"
    group_floor: UnitIntervalBelowOne = 0.0
    multiple: PositiveInt | None = 1
    begin: UnitIntervalBelowOne = 0.1
    end: UnitIntervalAboveZero = 0.6


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """The controller of a policy search.

    Attributes:
        reward: Name of the reward: "absolute", which leads to the target, or another one of `nas.rewards.REWARDS`, e.g.
            "soft", which weighs quality by a power of the cost; or a user's own, ``package.module:name``
            (docs/adding-a-reward.md).
        beta: Exponent, or slope, of the cost in the reward; negative. For the absolute reward it must be steeper than
            what quality gains where the cost rises by one target, which every epoch reports.
        images: Number of held-out images that measure the quality of a sampled network, in every step.
        lr: Learning rate when the controller begins to learn; null chooses it by the number of steps.
        growth: Factor by which the learning rate grows until the end, exponentially; 1 keeps it constant. With a
            constant rate the distributions stay broad, so that the most probable network costs less than the target
            though the sampled ones meet it on average (Sec. 4.2).
        delay: Share of the steps in which only shared weights learn, and the controller does not.
        warmup: Share of the steps over which op and filter warm-up fade from 1 to 0; at most ``delay``.
        op_warmup: Whether decisions of kind "op" are replaced by the mean of all options.
        filter_warmup: Whether decisions of kind "filters" are replaced by the largest option.
        baseline_momentum: Momentum of the moving average of rewards.
        beta2: Decay of Adam's second moment; there is no first (beta1 = 0).
        eps: Constant in Adam's denominator.
    """

    reward: str = "absolute"
    beta: NegativeFloat = -0.1
    images: PositiveInt = 64
    lr: PositiveFloat | None = None
    growth: Annotated[float, Range(least=1)] = 10.0
    delay: UnitIntervalBelowOne = 0.25
    warmup: NonNegativeFloat = 0.25
    op_warmup: bool = True
    filter_warmup: bool = True
    baseline_momentum: UnitIntervalBelowOne = 0.95
    beta2: UnitIntervalBelowOne = 0.999
    eps: PositiveFloat = 1e-8


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """The largest cost of a draw's ticket, or of the network that a search finds.

    A policy search takes one of the first three. In ``draw`` one or several hold together (docs/budgets.md).

    Attributes:
        latency_ms: Latency of one image on this device, in ms.
        macs: MACs (multiply-accumulates) of one image, e.g. 5e6.
        params: Number of parameters.
        size_kb: Size of the parameters in float32, in kB (1000 bytes).
        table: File of ``supertickets latency-table`` that predicts latencies in a policy search; null measures one when
            the search begins.
        runtime: Runtime that the network is for, and that latencies are measured in: "torch" or "onnxruntime", which
            multiply zeros, so that costs are those of all weights and units go; or "sparse", this project's own, which
            skips them, so that costs are those of what is not zero, and weights go.
        threads: CPU threads of a network whose latency is limited.
        measured: Whether every sampled network is timed itself, instead of predicted; slow, with PyTorch.
    """

    latency_ms: PositiveFloat | None = None
    macs: PositiveFloat | None = None
    params: PositiveFloat | None = None
    size_kb: PositiveFloat | None = None
    table: str | None = None
    runtime: Literal["torch", "onnxruntime", "sparse"] = "torch"
    threads: PositiveInt = 1
    measured: bool = False

    @property
    def given(self) -> dict[str, float]:
        """Return the costs that are limited, by name."""
        costs = {name: getattr(self, name) for name in ("latency_ms", "macs", "params", "size_kb")}
        return {name: value for name, value in costs.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class ConnectSettings:
    """The search for a connection scheme of attention modules (LTH4SA, Algorithm 1).

    Attributes:
        by: Search algorithm: the "policy" with curiosity; or a baseline on the same shared weights: "enas", a recurrent
            controller that sees nothing but accuracy; "darts", connections as numbers that follow the gradient of the
            validation loss; "genetic" and "random" search with as many evaluations; "l1" and "median" keep the share
            ``probability`` of modules with the largest norms, or farthest from their geometric median; "every" connects
            every ``period``-th block; "all" judges every scheme, "ratios" some of each ratio of connections (Sec. III).
        probability: Probability of every connection in a step of the pre-training, and in "random" and "genetic"
            search; the share of modules that "l1" and "median" keep.
        statistics: Statistics of batch norms while schemes are judged: the running ones that all share (the paper),
            those measured anew for every scheme, or those of the batch.
        steps: Number of steps of the controller.
        samples: Number of schemes in a step.
        sparsity: Weight of the share of blocks without a module (lambda 1; released code: 2 per 100% of accuracy).
        accuracy: Weight of the quality on the validation split, from 0 to 1 (lambda 2).
        curiosity: Weight of the distance between the two networks of the random network distillation (lambda 3).
        optimizer: Optimizer of controller and distillation: "adam" (released code), or "sgd" with momentum 0.9 (paper).
        lr: Learning rate of both.
        temperature: Divisor of the controller's logits.
        baseline: Momentum of the moving average that is taken from rewards; null takes nothing (Eq. 6).
        reuse: Whether every step learns from an earlier one too: "none"; "paper" (Eq. 31); "clipped", a tenth of it
            with ratios from 0.9 to 1.1, and without the curiosity of then (released code).
        epochs: Passes of "darts" over the validation split.
        period: Period of "every"; all places to begin are judged.
        ratios: Ratios of "ratios": shares of the blocks that are connected, rounded down to whole ones.
        each: Number of different schemes of each ratio, at random; all where there are no more.
        candidates: Number of reported schemes, those with the highest rewards.
    """

    by: ConnectBy = "policy"
    probability: ClosedUnitInterval = 0.5
    statistics: Literal["running", "recalibrated", "batch"] = "running"
    steps: PositiveInt = 1000
    samples: PositiveInt = 3
    sparsity: NonNegativeFloat = 0.02
    accuracy: NonNegativeFloat = 1.0
    curiosity: NonNegativeFloat = 0.01
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: PositiveFloat = 0.05
    temperature: PositiveFloat = 5.0
    baseline: UnitIntervalBelowOne | None = 0.95
    reuse: Literal["none", "paper", "clipped"] = "clipped"
    epochs: PositiveInt = 20
    period: PositiveInt = 2
    ratios: tuple[ClosedUnitInterval, ...] = (0.2, 0.4, 0.6, 0.8)
    each: PositiveInt = 100
    candidates: PositiveInt = 3
