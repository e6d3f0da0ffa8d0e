"""Every setting of a run, typed; a recipe file is this as YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .search_settings import BudgetSettings, ConnectSettings, PolicySettings
from .task_settings import CountingSettings, PoseSettings, SegmentationSettings


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where samples come from.

    Attributes:
        source: For classification "digits" (embedded, offline), "idx" (the files of MNIST and Fashion-MNIST), "cifar10"
            or "cifar100" (their Python version), "tiny_imagenet" (its published layout) or "folders" (images in
            folders by class); for segmentation "cityscapes", "ade20k", "voc" (their published layouts) or "masks"
            (folders of images and of masks); for pose "coco" (its layout for keypoints); for detection "coco_boxes"
            (its layout for boxes); for counting "shanghaitech" (the layout of one of its parts). Or a dataset class of
            your own, as package.module:Class.
        dir: Folder with the data set.
        size: Side that images are made to, in pixels, or height and width of the crops of scenes and crowds or of the
            regions around people; null keeps the size of the data set, and chooses one for "folders".
        shorter: Shorter side to which scenes and crowds are resized before they are cropped or evaluated; null for the
            shorter one of ``size``, crowds then keep their size.
        sigma: Deviation of the Gaussians that counted points become, in pixels of the image; null for 0.3 times the
            mean distance to the three nearest points (geometry-adaptive, at least 1).
        boxes: Boxes of people in the test split of "coco": "truth", "detected" (the file in person_detection_results),
            or a file with COCO's detections. All else takes the true ones.
        ignore: Stored labels of "masks" that mean nothing.
        class_names: Names of the classes, where the data set has none.
        class_level: Which folders are classes in a tree of "folders": the topmost that differ, or those that hold the
            images ("leaf").
        broken: Whether unreadable images, and people with joints outside theirs, are named and left out ("skip") or
            end the run ("refuse").
        keep_gb: Memory for decoded images; a larger set is decoded again in every epoch.
        batch: Samples per step, over all processes.
        workers: Loader processes per training process; 0 loads in the training process.
        validation: Share of the training split that is held out to choose by.
        test: Share of "folders" without a test split that becomes one.
        split_seed: Seed of the splits; runs with different seeds share their splits.
        limit: Training samples that are used at most, drawn by the split seed; null uses all.
    """

    source: str = "digits"
    dir: str | None = None
    size: int | tuple[int, int] | None = None
    shorter: int | None = None
    sigma: float | None = 4.0
    boxes: str = "truth"
    ignore: tuple[int, ...] = (255,)
    class_names: tuple[str, ...] = ()
    class_level: Literal["top", "leaf"] = "top"
    broken: Literal["skip", "refuse"] = "skip"
    keep_gb: float = 2.0
    batch: int = 64
    workers: int = 0
    validation: float = 0.1
    test: float = 0.15
    split_seed: int = 0
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """How training samples vary; the defaults change nothing.

    Attributes:
        crop: Smallest share of an image's area that a random crop takes (TensorFlow's recipe for ImageNet: 0.08).
        resize: Smallest and largest factor by which scenes and crowds are resized before they are cropped.
        class_share: Largest share of one class in a crop of a scene, if ten tries find such a crop; 1 for any.
        photometric: Whether brightness, contrast, saturation and hue of scenes and crowds vary, each by chance.
        flip: Whether half of the samples are mirrored.
        jitter: Largest relative change of brightness, contrast and saturation.
        randaugment: Magnitude of RandAugment (two operations), usually 9; 0 switches it off.
        mixup: Alpha of mixup; 0 switches it off.
        cutmix: Alpha of cutmix; with both, each batch takes one of the two by chance.
        shift: Largest random translation, in pixels.
        rotate: Largest random rotation, in degrees.
        rotate_share: Share of people that are rotated at all.
        scale: Largest relative change of size; of the part of an image that is shown, for detection.
        half_body: Share of the people with more than eight marked joints of whom only the upper or the lower half is
            shown.
    """

    crop: float = 1.0
    resize: tuple[float, float] = (1.0, 1.0)
    class_share: float = 1.0
    photometric: bool = False
    flip: bool = False
    jitter: float = 0.0
    randaugment: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    shift: float = 0.0
    rotate: float = 0.0
    rotate_share: float = 1.0
    scale: float = 0.0
    half_body: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SupernetSettings:
    """The network to start from.

    Attributes:
        name: A supernet that ``create_supernet`` knows, or a space (``tunas_mobilenetv3``); or a network that is
            pruned, but has no units to search: one of the mobile ones (``mobilenet_v2``), a ResNet (``resnet38``),
            "timm:NAME", "torchvision:NAME", or "ticket:RUN", the architecture of a ticket.
        transformer: Whether identity blocks of a supernet hold a Transformer path with searchable tokens.
        settings: Further fields of the spec, e.g. ``{tokens: 8, expansion: 4}``, for mobile networks ``{width: 0.5}``,
            for ResNets ``{attention: se}``; for a network of a library what its constructor takes, e.g.
            ``{drop_rate: 0.2}``.
    """

    name: str = "hrnet_tiny"
    transformer: bool = True
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """Whose settings ``settings`` are: "hrnet", "resnet", "mobile", or a library."""
        library, colon, _ = self.name.partition(":")
        own = (family for family in ("hrnet", "resnet") if self.name.startswith(family))
        return library if colon else next(own, "mobile")

    @property
    def has_units(self) -> bool:
        """Whether the network has units that a search may remove."""
        return self.family == "hrnet"


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The optimizer.

    Attributes:
        name: Which one.
        lr: Peak learning rate; the schedule multiplies it.
        momentum: Momentum of SGD and RMSprop.
        betas: Moment decays of Adam and AdamW.
        alpha: Decay of RMSprop's accumulator.
        eps: Added to the denominator; null means the optimizer's usual value.
        weight_decay: L2 strength on weights, not on BN, biases or single vectors (decoupled in AdamW).
        initial_accumulator: What RMSprop's accumulator starts from (TensorFlow: 1).
        eps_inside_sqrt: Whether RMSprop adds eps under the square root (TensorFlow does).
        clip_norm: Largest norm of all gradients together; null for no clipping.
    """

    name: Literal["sgd", "rmsprop", "adam", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    alpha: float = 0.9
    eps: float | None = None
    weight_decay: float = 1e-5
    initial_accumulator: float = 0.0
    eps_inside_sqrt: bool = False
    clip_norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class LrSettings:
    """The learning rate over time, as a factor of ``optimizer.lr``.

    Attributes:
        shape: "constant", "step", "cosine", "poly", "exponential" or "one_cycle".
        warmup_epochs: Linear warm-up in front (not for one_cycle, which has its own).
        warmup_from: Factor that the warm-up starts from.
        milestones: Epochs after which "step" multiplies by ``gamma``.
        gamma: Factor of "step" and "exponential".
        decay_epochs: Epochs between two decays of "exponential" (staircase).
        final: Last factor of "cosine".
        power: Of the share of steps that are left, for "poly".
        rise: Share of the steps in which "one_cycle" rises.
        start_divisor: "one_cycle" starts from 1 / this.
        end_divisor: "one_cycle" ends at its start / this.
        cycle_momentum: Whether "one_cycle" lowers momentum (beta1) from 0.95 to 0.85 while the rate rises.
    """

    shape: Literal["constant", "step", "cosine", "poly", "exponential", "one_cycle"] = "cosine"
    warmup_epochs: float = 0.0
    warmup_from: float = 0.0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    decay_epochs: float = 1.0
    final: float = 0.0
    power: float = 0.9
    rise: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4
    cycle_momentum: bool = False


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Search by shrinking (Sec. 3.1).

    Attributes:
        interval: Epochs between two removals, t_s; 0 switches the search off.
        threshold: Units whose BN scale is at most this are removed (epsilon).
        rho: Strength of the L1 penalty on the scales, weighted by each unit's MACs; null chooses it by the length of
            the search (docs/short-runs.md).
        target_shrinkage: Distance by which the penalty that null chooses moves the scale of a unit of mean MACs, which
            starts at 1, by the end of the search if nothing pulls back; more removes more.
        warmup_epochs: Epochs in which the penalty grows linearly from 0.
        penalty: "subgradient" (the paper) adds rho * p * sign(scale) to the gradient; "proximal" is a soft threshold
            of lr * rho * p after the step: exact zeros, and the same strength under every optimizer.
        last_epoch: Last epoch with penalty, removal and reactivation; null for the whole run (the paper).
        floor: Share of the supernet's units that is never removed, so that no network comes out empty.
    """

    interval: int = 10
    threshold: float = 1e-3
    rho: float | None = 0.0
    target_shrinkage: float = 2.5
    warmup_epochs: float = 0.0
    penalty: Literal["subgradient", "proximal"] = "subgradient"
    last_epoch: int | None = None
    floor: float = 0.01


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """Weight pruning, while searching (Sec. 3.1, 3.2) or in one shot.

    Attributes:
        criterion: Name of the scores by which weights are ranked: "magnitude" (the paper), "snip", "grasp", "synflow",
            "random", or a user's own, ``package.module:name``.
        batches: Number of training batches that the criterion looks at in each prune, if it looks at any.
        rounds: Number of steps in which one prune takes weights out, ranked anew in each; null is what the criterion
            was published with (100 for "synflow", else 1).
        ratio: Share of the maskable weights that is zero in the ticket, p; 0 switches pruning off.
        interval: Epochs between two prunes, t_p.
        progressive: Whether the ratio is min(p, 10% * floor(t / t_p)); otherwise it is p from the first prune on.
        reactivate: Pruned weights come back when the search removes units ("search", IR-S), right after each prune
            ("prune", IR-P) or never ("none").
        restore: Reactivated weights start from the value stored at the prune, or from zero.
        on_conflict: What happens in an epoch where both are due: "search_then_prune", or "search_only" (the literal
            else-if of Algorithm 1).
        transformer: Whether the linear layers of a supernet's Transformer path are pruned too.
        classifier: Whether the classifier is pruned too.
        layer_floor: Share of every layer that is always kept (its largest weights); 0 in the paper.
        exempt_below: Layers with at most this many weights stay whole; 0 in the paper.
        normalise: What magnitudes are divided by before they are ranked: nothing ("none", the paper), their layer's
            root mean square ("rms"), or the root of the sum of squares of themselves and all larger ones of their
            layer ("lamp", Lee et al., 2021).
        scope: What is ranked together: all weights ("global", the paper), those of a layer ("layer"), or ``group``
            neighbours along the input channels ("group": N:M sparsity).
        group: M of N:M sparsity; N is (1 - ratio) * M.
    """

    criterion: str = "magnitude"
    batches: int = 10
    rounds: int | None = None
    ratio: float = 0.9
    interval: int = 25
    progressive: bool = True
    reactivate: Literal["search", "prune", "none"] = "search"
    restore: Literal["stored", "zero"] = "stored"
    on_conflict: Literal["search_then_prune", "search_only"] = "search_then_prune"
    transformer: bool = False
    classifier: bool = False
    layer_floor: float = 0.0
    exempt_below: int = 0
    normalise: Literal["none", "rms", "lamp"] = "none"
    scope: Literal["global", "layer", "group"] = "global"
    group: int = 4


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """Knowledge distillation (Hinton et al., 2015): the loss also asks for a teacher's scores.

    Attributes:
        teacher: Null for none; "ema" for the running average of the network itself; a ticket's folder; or
            "timm:NAME" or "torchvision:NAME".
        weights: Weights of a timm or torchvision teacher (safetensors, or a state dict in PyTorch's format); null takes
            the published ones.
        share: Share of the teacher in the loss.
        temperature: What both networks' scores are divided by.
    """

    teacher: str | None = None
    weights: str | None = None
    share: float = 0.5
    temperature: float = 4.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a run.

    Attributes:
        name: Name of the recipe.
        description: One line on what it does.
        task: "classification", "segmentation", "pose", "detection" or "counting"; or "package.module:Name", a class of
            your own (docs/adding-a-task.md).
        epochs: Passes over the training data; 0 chooses them by the number of samples, and scales the intervals of
            search and pruning, which are then those of 30 epochs.
        seed: Seed of weights, data order, augmentation and dropout.
        label_smoothing: Share of the target that is spread over all classes.
        ema_decay: Decay of the averaged weights that are evaluated; 0 evaluates the weights themselves.
        recalibrate_batches: Training batches over which BN statistics are measured anew.
        evaluate_every: Epochs between two evaluations on the validation split (the last one always is).
        channels_last: Memory format of maps and convolution weights.
        precision: "fp32", or "bf16" for forward and backward in bfloat16 (weights stay fp32); pays on GPUs and on CPUs
            with matrix units.
        compile: Whether the network is compiled for training, anew after every rebuild.
        accumulate: Parts in which a step's batch goes through the network, to save memory; in a policy search each part
            trains and judges a sampled network of its own.
        device: "auto" takes a GPU if there is one.
        threads: CPU threads per process; null takes what PyTorch chooses.
        deterministic: Whether a GPU may only use deterministic operations.
        checkpoint_seconds: Time between two checkpoints inside an epoch, of a single process; each epoch ends with one.
    """

    name: str = "recipe"
    description: str = ""
    task: str = "classification"
    epochs: int = 40
    seed: int = 0
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    recalibrate_batches: int = 10
    evaluate_every: int = 1
    channels_last: bool = True
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    accumulate: int = 1
    device: str = "auto"
    threads: int | None = None
    deterministic: bool = False
    checkpoint_seconds: float = 300.0
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    supernet: SupernetSettings = field(default_factory=SupernetSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    lr: LrSettings = field(default_factory=LrSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    prune: PruneSettings = field(default_factory=PruneSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    connect: ConnectSettings = field(default_factory=ConnectSettings)
    distill: DistillSettings = field(default_factory=DistillSettings)
    segmentation: SegmentationSettings = field(default_factory=SegmentationSettings)
    pose: PoseSettings = field(default_factory=PoseSettings)
    counting: CountingSettings = field(default_factory=CountingSettings)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON."""
        return dataclasses.asdict(self)


def setting_names(settings: type = Recipe, prefix: str = "") -> list[str]:
    """Dotted names of all settings, e.g. ``"prune.ratio"``."""
    names = []
    for entry in dataclasses.fields(settings):
        default = entry.default_factory() if entry.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(default):
            names += setting_names(type(default), f"{prefix}{entry.name}.")
        else:
            names.append(prefix + entry.name)
    return names


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping -> dotted names; ``supernet.settings`` stays one value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name != "supernet.settings":
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat
