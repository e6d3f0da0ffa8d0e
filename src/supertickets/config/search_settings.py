"""Settings of policy searches: of a space to a budget (TuNAS), and of connection schemes (LTH4SA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ConnectBy = Literal["policy", "enas", "darts", "genetic", "random", "l1", "median", "every", "all", "ratios"]


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """How the controller of a policy search learns.

    Attributes:
        reward: Name of the reward: "absolute" leads to the target; "soft" and "hard" weigh quality by a power of the
            cost; or a user's own, ``package.module:name``.
        beta: Exponent, or slope, of the cost in the reward; negative. For the absolute reward it must be steeper than
            what quality gains where the cost rises by one target, which every epoch tells.
        images: Held-out images that the quality of a sampled network is measured on, in every step.
        lr: Learning rate when the controller begins to learn; null chooses it by the number of steps.
        growth: What the learning rate grows to by the end, as a multiple, exponentially; 1 keeps it constant. With a
            constant rate the distributions stay broad, so that the most probable network costs less than the target
            though the sampled ones meet it on average (Sec. 4.2).
        delay: Share of the steps in which only shared weights learn, and the controller does not.
        warmup: Share of the steps over which op and filter warm-up fade from 1 to 0; at most ``delay``.
        op_warmup: Whether decisions of kind "op" are replaced by the mean of all options.
        filter_warmup: Whether decisions of kind "filters" are replaced by the largest option.
        baseline_momentum: Of the moving average of rewards.
        beta2: Of Adam's second moment; there is no first (beta1 = 0).
        eps: Of Adam.
    """

    reward: str = "absolute"
    beta: float = -0.1
    images: int = 64
    lr: float | None = None
    growth: float = 10.0
    delay: float = 0.25
    warmup: float = 0.25
    op_warmup: bool = True
    filter_warmup: bool = True
    baseline_momentum: float = 0.95
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """What the network that a policy search finds may cost: one of the first three.

    Attributes:
        latency_ms: Time of one image on this device.
        macs: Multiply-accumulates of one image, e.g. 5e6.
        params: Parameters.
        table: A file of ``supertickets latency-table`` that predicts latencies; null measures one when the search
            begins.
        runtime: "torch" or "onnxruntime", for a table that is measured.
        threads: CPU threads of a network whose latency counts.
        measured: Whether every sampled network is timed itself, instead of predicted; slow, with PyTorch.
    """

    latency_ms: float | None = None
    macs: float | None = None
    params: float | None = None
    table: str | None = None
    runtime: Literal["torch", "onnxruntime"] = "torch"
    threads: int = 1
    measured: bool = False

    @property
    def given(self) -> dict[str, float]:
        """The costs that are limited, by name."""
        costs = {"latency_ms": self.latency_ms, "macs": self.macs, "params": self.params}
        return {name: value for name, value in costs.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class ConnectSettings:
    """How a connection scheme of attention modules is found (LTH4SA, Algorithm 1).

    Attributes:
        by: The "policy" with curiosity; or what it is compared with, on the same shared weights: "enas", a recurrent
            controller that sees nothing but accuracy; "darts", connections as numbers that follow the gradient of the
            validation loss; "genetic" and "random" search with as many evaluations; "l1" and "median" keep the share
            ``probability`` of modules with the largest norms, or farthest from their geometric median; "every" connects
            every ``period``-th block; "all" judges every scheme, "ratios" some of each ratio of connections (Sec. III).
        probability: Of every connection in a step of the pre-training, and in "random" and "genetic" search; the share
            of modules that "l1" and "median" keep.
        statistics: What batch norms use while schemes are judged: the running ones that all share (the paper), those
            measured anew for every scheme, or those of the batch.
        steps: Of the controller.
        samples: Schemes of a step.
        sparsity: Weight of the share of blocks without a module (lambda 1; released code: 2 per 100% of accuracy).
        accuracy: Weight of the quality on the validation split, from 0 to 1 (lambda 2).
        curiosity: Weight of the distance between the two networks of the random network distillation (lambda 3).
        optimizer: Of controller and distillation: "adam" (released code), or "sgd" with momentum 0.9 (paper).
        lr: Of both.
        temperature: What the controller's logits are divided by.
        baseline: Momentum of the moving average that is taken from rewards; null takes nothing (Eq. 6).
        reuse: Whether every step learns from an earlier one too: "none"; "paper" (Eq. 31); "clipped", a tenth of it
            with ratios from 0.9 to 1.1, and without the curiosity of then (released code).
        epochs: Passes of "darts" over the validation split.
        period: Of "every"; all places to begin are judged.
        ratios: Of "ratios": shares of the blocks that are connected, rounded down to whole ones.
        each: Different schemes of each of them, at random; all where there are no more.
        candidates: Schemes with the highest rewards that are told.
    """

    by: ConnectBy = "policy"
    probability: float = 0.5
    statistics: Literal["running", "recalibrated", "batch"] = "running"
    steps: int = 1000
    samples: int = 3
    sparsity: float = 0.02
    accuracy: float = 1.0
    curiosity: float = 0.01
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 0.05
    temperature: float = 5.0
    baseline: float | None = 0.95
    reuse: Literal["none", "paper", "clipped"] = "clipped"
    epochs: int = 20
    period: int = 2
    ratios: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    each: int = 100
    candidates: int = 3
