"""Every setting of a run, typed; a recipe file is this as YAML."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from .network_families import NetworkFamily, find_family
from .optimizer_settings import LrSettings, OptimizerSettings
from .ranges import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    UnitIntervalAboveZero,
    UnitIntervalBelowOne,
)
from .search_settings import BudgetSettings, ConnectSettings, PolicySettings, SearchSettings
from .task_settings import CountingSettings, PoseSettings, SegmentationSettings


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The data set and its splits.

    Attributes:
        source: Data set. For classification "digits" or "numbers" of two digits (embedded, offline), "idx" (the files
            of MNIST and Fashion-MNIST), "cifar10" or "cifar100" (their Python version), "tiny_imagenet" (its published
            layout) or "folders" (images in folders by class); for segmentation "cityscapes", "ade20k", "voc" (their
            published layouts) or "masks" (folders of images and of masks); for pose "coco" (its layout for keypoints);
            for detection "coco_boxes" (its layout for boxes); for counting "shanghaitech" (the layout of one of its
            parts). Or a dataset class of your own, as package.module:Class.
        dir: Folder with the data set.
        size: Side that images are made to, in pixels, or height and width of the crops of scenes and crowds or of the
            regions around people; null keeps the size of the data set, and chooses one for "folders".
        shorter: Shorter side to which scenes and crowds are resized before they are cropped or evaluated; null for the
            shorter one of ``size``, crowds then keep their size.
        sigma: Deviation of the Gaussians that counted points become, in pixels of the image; null for 0.3 times the
            mean distance to the three nearest points (geometry-adaptive, at least 1).
        boxes: Boxes of people in the test split of "coco": "truth", "detected" (the file in person_detection_results),
            or a file with COCO's detections. All else takes the true ones.
        ignore: Stored labels of scenes that mean nothing, where the classes have names of your own.
        class_names: Names of the classes, in the order of their labels, in place of those that the data set has.
        class_level: Level of the folders that are classes in a tree of "folders": the topmost that differ ("top"), or
            those that hold the images ("leaf").
        broken: Whether unreadable images, and people with joints outside theirs, are named and left out ("skip") or
            end the run ("refuse").
        keep_gb: Memory for decoded images, in GB; a larger set is decoded again in every epoch.
        batch: Samples per step, over all processes.
        fit_batch: Whether few samples have smaller batches, of which an epoch has ten if there are samples enough; null
            does so where ``epochs`` is 0.
        workers: Loader processes per training process; 0 loads in the training process.
        validation: Share of the training split that is held out to choose by.
        test: Share of "folders" without a test split that becomes one.
        split_seed: Seed of the splits; runs with different seeds share their splits.
        limit: Largest number of training samples, drawn by the split seed; null uses all.
        mean: Mean of every channel, of values in [0, 1], that images are normalised by; null takes that of published
            weights (``supernet.pretrained``), else measures it on training images.
        std: Deviation of every channel, likewise.
        resample: Filter that images of classes in files are resized by, "bilinear" or "bicubic"; null takes that of
            published weights, else "bicubic".
        crop_share: Share of the shorter side that is evaluated of photographs of classes: their middle, resized. Null
            takes that of published weights, else 0.875; 1 for photographs in memory that are not cropped at random.
    """

    source: str = "digits"
    dir: str | None = None
    size: int | tuple[int, int] | None = None
    shorter: PositiveInt | None = None
    sigma: PositiveFloat | None = 4.0
    boxes: str = "truth"
    ignore: tuple[int, ...] = (255,)
    class_names: tuple[str, ...] = ()
    class_level: Literal["top", "leaf"] = "top"
    broken: Literal["skip", "refuse"] = "skip"
    keep_gb: NonNegativeFloat = 2.0
    batch: Annotated[int, Range(least=2)] = 64
    fit_batch: bool | None = None
    workers: NonNegativeInt = 0
    validation: float = 0.1
    test: float = 0.15
    split_seed: int = 0
    limit: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[PositiveFloat, ...] | None = None
    resample: Literal["bilinear", "bicubic"] | None = None
    crop_share: UnitIntervalAboveZero | None = None


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Random changes of training samples; the defaults change nothing.

    Attributes:
        crop: Smallest share of an image's area that a random crop takes (TensorFlow's recipe for ImageNet: 0.08).
        resize: Smallest and largest factor by which scenes and crowds are resized before they are cropped.
        class_share: Largest share of one class in a crop of a scene, if ten tries find such a crop; 1 for any.
        photometric: Whether brightness, contrast, saturation and hue of scenes and crowds vary, each by chance.
        flip: Whether half of the samples are mirrored.
        turn: Whether samples are turned by a random number of quarter turns: for what has no upright, as cells or land
            from above.
        jitter: Largest relative change of brightness, contrast and saturation.
        randaugment: Magnitude of RandAugment (two operations), usually 9; 0 switches it off.
        mixup: Alpha of mixup; 0 switches it off.
        cutmix: Alpha of cutmix; with both, each batch takes one of the two by chance.
        shift: Largest random translation, in pixels; a whole number, without rotation and scaling, shifts by whole
            pixels, as a crop of the padded image.
        rotate: Largest random rotation, in degrees.
        rotate_share: Share of people that are rotated at all.
        scale: Largest relative change of size; of the part of an image that is shown, for detection.
        half_body: Share of the people with more than eight marked joints of whom only the upper or the lower half is
            shown.
    """

    crop: UnitIntervalAboveZero = 1.0
    resize: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    class_share: UnitIntervalAboveZero = 1.0
    photometric: bool = False
    flip: bool = False
    turn: bool = False
    jitter: NonNegativeFloat = 0.0
    randaugment: Annotated[int, Range(least=0, most=30)] = 0
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    shift: NonNegativeFloat = 0.0
    rotate: NonNegativeFloat = 0.0
    rotate_share: ClosedUnitInterval = 1.0
    scale: UnitIntervalBelowOne = 0.0
    half_body: UnitIntervalBelowOne = 0.0


@dataclass(frozen=True, kw_only=True)
class SupernetSettings:
    """The network to start from.

    Attributes:
        name: Name of a supernet that ``create_supernet`` knows, or of a space (``tunas_mobilenetv3``); or of any other
            network, whose search units are traced: a plain ResNet (``resnet8``), a mobile one (``mobilenet_v2``), one
            with attention modules (``resnet38``), "timm:NAME", "torchvision:NAME", or "package.module:make_network" of
            a user's own; or "ticket:RUN", the architecture of a ticket.
        transformer: Whether identity blocks of a supernet hold a Transformer path with searchable tokens.
        settings: Further fields of the spec, e.g. ``{tokens: 8, expansion: 4}``, for mobile networks ``{width: 0.5}``,
            for ResNets ``{attention: se}``; for a network of a library, or a user's own, what its constructor
            takes, e.g. ``{drop_rate: 0.2}``.
        fit: Whether depth, strides and width of a plain ResNet are chosen by the size of the images and the budget,
            where ``settings`` leave them open (docs/defaults.md).
        width_factor: Factor of the widths that ``settings`` name, in multiples of 8 channels; null chooses it by the
            budget, and is 1 without one, and for networks without such widths. Widths that are given on the command
            line are taken as they are.
        init: Distribution of fresh weights of convolutions: the "family" of the network's own, or the "small" one that
            PyTorch draws by itself. Behind a batch norm both compute the same, but small weights learn faster at the
            same rate, and their magnitudes sooner say what was learned, not what was drawn.
        pretrained: Weights to begin with: false for fresh ones; true for those that timm or torchvision publish (which
            of several, a tag in the name says: "timm:resnet18.a1_in1k"); a file of weights (safetensors, or a state
            dict in PyTorch's format); or the folder of a ticket or of its run.
    """

    name: str = "hrnet_tiny"
    transformer: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    fit: bool = False
    width_factor: Annotated[float, Range(above=0, most=64)] | None = 1.0
    init: Literal["family", "small"] = "family"
    pretrained: bool | str = False

    @property
    def family(self) -> NetworkFamily:
        """The family of the network."""
        return find_family(self.name)

    @property
    def architecture(self) -> str:
        """Name of the network without the tag of its published weights."""
        return self.name.partition(".")[0] if self.pretrained is True else self.name

    @property
    def ticket(self) -> str | None:
        """Folder of the ticket whose architecture is taken; None if the network has a name of its own."""
        return self.name.partition(":")[2] if self.family.name == "ticket" else None

    @property
    def has_units(self) -> bool:
        """Return whether a search removes units of the network, also without a budget."""
        return self.family.has_units


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """Weight pruning, while searching (Sec. 3.1, 3.2) or in one shot.

    Attributes:
        criterion: Name of the scores by which weights are ranked: "magnitude" (the paper), or another one of
            `pruning.criteria.CRITERIA` (docs/pruning.md); or a user's own, ``package.module:name``
            (docs/adding-a-criterion.md).
        batches: Number of training batches that the criterion looks at in each prune, if it looks at any.
        rounds: Number of steps in which one prune takes weights out, ranked anew in each; null is what the criterion
            was published with (100 for "synflow", else 1).
        ratio: Share of the maskable weights that is zero in the ticket, p; 0 switches pruning off.
        interval: Epochs between two prunes, t_p.
        progressive: Whether the ratio is min(p, 10% * floor(t / t_p)); otherwise it is p from the first prune on.
        reactivate: Event after which pruned weights train again: a removal of units ("search", IR-S), each prune
            ("prune", IR-P), or none ("none").
        restore: Value that reactivated weights start from: the one stored at the prune ("stored"), or zero ("zero").
        on_conflict: Order in an epoch where search and pruning are both due: "search_then_prune", or "search_only" (the
            literal else-if of Algorithm 1).
        transformer: Whether the linear layers of a supernet's Transformer path are pruned too.
        classifier: Whether the classifier is pruned too.
        layer_floor: Share of every layer that is always kept (its largest weights); 0 in the paper.
        exempt_below: Number of weights up to which a layer stays whole; 0 in the paper.
        normalise: Divisor of magnitudes before they are ranked: nothing ("none", the paper), their layer's
            root mean square ("rms"), that and the root of the MACs of a weight ("cost"), or the root of the sum of
            squares of themselves and all larger ones of their layer ("lamp", Lee et al., 2021).
        scope: Weights that are ranked together: all of them ("global", the paper), those of a layer ("layer"), or
            ``group`` neighbours along the input channels ("group": N:M sparsity).
        group: M of N:M sparsity; N is (1 - ratio) * M.
        pattern: Weights that go together: single ones ("unstructured", the paper), or "block:N", N neighbouring output
            channels at one input channel and kernel position, which fast sparse kernels want (best 4, 8 or 16).
        schedule: Time of the prunes: every ``interval`` epochs ("interval", the paper), or every ``steps`` steps along
            a cubic path ("cubic"), which disturbs a short training least; nothing is reactivated then.
        steps: Number of steps between two prunes of the cubic path.
        begin: Share of the training at which the cubic path begins.
        end: Share of the training at which it has reached the ratio.
        stem: Whether the first layer is pruned too.
        depthwise: Whether depthwise convolutions are pruned too. They have few weights, and each counts for much.
    """

    criterion: str = "magnitude"
    batches: PositiveInt = 10
    rounds: PositiveInt | None = None
    ratio: UnitIntervalBelowOne = 0.9
    interval: PositiveInt = 25
    progressive: bool = True
    reactivate: Literal["search", "prune", "none"] = "search"
    restore: Literal["stored", "zero"] = "stored"
    on_conflict: Literal["search_then_prune", "search_only"] = "search_then_prune"
    transformer: bool = False
    classifier: bool = False
    layer_floor: UnitIntervalBelowOne = 0.0
    exempt_below: NonNegativeInt = 0
    normalise: Literal["none", "rms", "cost", "lamp"] = "none"
    scope: Literal["global", "layer", "group"] = "global"
    group: Annotated[int, Range(least=2)] = 4
    pattern: str = "unstructured"
    schedule: Literal["interval", "cubic"] = "interval"
    steps: PositiveInt = 20
    begin: UnitIntervalBelowOne = 0.1
    end: UnitIntervalAboveZero = 0.6
    stem: bool = True
    depthwise: bool = True


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """Knowledge distillation (Hinton et al., 2015): the loss also asks for a teacher's scores.

    Attributes:
        teacher: Teacher: null for none; "ema" for the running average of the network itself; a ticket's folder; or
            "timm:NAME" or "torchvision:NAME".
        weights: Weights of a timm or torchvision teacher (safetensors, or a state dict in PyTorch's format); null takes
            the published ones.
        share: Share of the teacher in the loss.
        temperature: Divisor of both networks' scores.
    """

    teacher: str | None = None
    weights: str | None = None
    share: ClosedUnitInterval = 0.5
    temperature: PositiveFloat = 4.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a run.

    Attributes:
        name: Name of the recipe.
        description: One line on what it does.
        task: Task that is learned: "classification", "segmentation", "pose", "detection" or "counting"; or
            "package.module:Name", a class of your own (docs/adding-a-task.md).
        epochs: Passes over the training data; 0 chooses them by the number of samples, and scales the intervals of
            search and pruning, which are then those of 30 epochs.
        minutes: Minutes that the training may take on this machine, by which the epochs are chosen when it begins, from
            4 to 300, and smaller images where ``data.size`` is open and they hold few; null trains ``epochs``.
        seed: Seed of weights, data order, augmentation and dropout.
        label_smoothing: Share of the target that is spread over all classes, for classification.
        ema_decay: Decay of the averaged weights that are evaluated; 0 evaluates the weights themselves.
        recalibrate_batches: Training batches over which BN statistics are measured anew.
        evaluate_every: Epochs between two evaluations on the validation split (the last one always is).
        channels_last: Memory format of maps and convolution weights.
        precision: Number format: "fp32"; "bf16" for forward and backward in bfloat16 (weights stay fp32); or "auto",
            bfloat16 where the device computes in it and the network is one that gains (docs/defaults.md).
        compile: Whether the network is compiled for training, anew after every rebuild.
        accumulate: Parts in which a step's batch goes through the network, over all processes, to save memory; in a
            policy search each part trains and judges a sampled network of its own.
        device: Device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".
        threads: CPU threads per process; null takes what PyTorch chooses.
        deterministic: Whether a GPU may only use deterministic operations.
        checkpoint_seconds: Seconds between two checkpoints inside an epoch, of a single process; each epoch ends with
            one.
        divergence_retries: Times that a run whose loss is not a number any more goes back to its last checkpoint, each
            time at half the learning rate; 0 ends it at once.
    """

    name: str = "recipe"
    description: str = ""
    task: str = "classification"
    epochs: Annotated[int, Range(least=0, most=100_000)] = 40
    minutes: PositiveFloat | None = None
    seed: Annotated[int, Range(least=0, most=2**63 - 1)] = 0
    label_smoothing: UnitIntervalBelowOne = 0.0
    ema_decay: UnitIntervalBelowOne = 0.0
    recalibrate_batches: PositiveInt = 10
    evaluate_every: PositiveInt = 1
    channels_last: bool = True
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    compile: bool = False
    accumulate: PositiveInt = 1
    device: str = "auto"
    threads: PositiveInt | None = None
    deterministic: bool = False
    checkpoint_seconds: NonNegativeFloat = 300.0
    divergence_retries: NonNegativeInt = 2
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

    @property
    def run_dir(self) -> str:
        """Return the directory of a run by this recipe, if none is given: in ``runs``, whatever its name holds."""
        name = re.sub(r"[^\w.+ -]", "-", self.name).strip(". ")
        return f"runs/{name[:100] or 'recipe'}"

    @property
    def removes_to_budget(self) -> bool:
        """Return whether units are removed until a budget is met; otherwise a budget is for a policy search."""
        return bool(self.budget.given) and self.search.interval > 0

    @property
    def prunes_to_budget(self) -> bool:
        """Return whether weights are pruned until a budget is met, since the runtime skips zeros."""
        return bool(self.budget.given) and self.prune.ratio > 0 and self.budget.runtime == "sparse"

    @property
    def draws_to_budget(self) -> bool:
        """Return whether the budget is one of two-in-one training, and not of a policy search."""
        return self.removes_to_budget or self.prunes_to_budget

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return dataclasses.asdict(self)


def setting_names(settings: type = Recipe, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings, e.g. ``"prune.ratio"``."""
    names = []
    for entry in dataclasses.fields(settings):
        default = entry.default_factory() if entry.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(default):
            names += setting_names(type(default), f"{prefix}{entry.name}.")
        else:
            names.append(prefix + entry.name)
    return names


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping by dotted names; ``supernet.settings`` stays one value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name != "supernet.settings":
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat
