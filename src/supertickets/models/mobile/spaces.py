"""The mobile search spaces of TuNAS (Sec. 3.1), the doubling heuristics of its Table 8, and four known networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from ...errors import UserError, suggest
from ..base import as_tuples
from .layer_spec import Activation, Block, Layer, scale_filters
from .network import MobileSpec

MULTIPLIERS = (0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0)
_MNASNET = (32, 16, 24, 40, 80, 96, 192, 320, 1280)
_PROXYLESS = (32, 16, 32, 40, 80, 96, 192, 320, 1280)
_MOBILENET_V2 = (32, 16, 24, 32, 64, 96, 160, 320, 1280)
# The paper does not say where its doubling begins, nor what becomes of the head; these begin as the enlarged space.
_DOUBLED_AT_STRIDES = (16, 16, 32, 64, 128, 128, 256, 256, 256)
_DOUBLED_AT_BLOCKS = (16, 16, 16, 32, 64, 128, 256, 512, 1024)
_STRIDES = (2, 2, 2, 1, 2, 1)  # of the blocks b2 to b7
_KERNELS = (3, 5, 7)

Widths = Sequence[tuple[int, ...]]


def _fixed(filters: Sequence[int]) -> Widths:
    return [(width,) for width in filters]


def _enlarged(base: Sequence[int]) -> Widths:
    """Options of every width: its multiples, rounded to 8, without repetition."""
    return [tuple(sorted({scale_filters(width, m) for m in MULTIPLIERS})) for width in base]


def _proxyless_like(widths: Widths) -> MobileSpec:
    """The ProxylessNAS space with other widths, from the stem to the head."""

    def bottleneck(stride: int, follows: bool) -> Layer:
        skips = (False, True) if follows else (False,)
        return Layer(kernels=_KERNELS, expansions=(3, 6), skips=skips, stride=stride, residual=follows)

    stem, first, *body, head = widths
    blocks = [
        Block(name="stem", filters=stem, layers=(Layer(kind="conv", stride=2),)),
        Block(name="b1", filters=first, layers=(Layer(kind="separable", kernels=_KERNELS),)),
    ]
    for i, (filters, stride) in enumerate(zip(body, _STRIDES, strict=True), start=2):
        more = 0 if i == 7 else 3
        layers = (bottleneck(stride, False), *(bottleneck(1, True) for _ in range(more)))
        blocks.append(Block(name=f"b{i}", filters=filters, layers=layers))
    blocks.append(Block(name="head", filters=head, layers=(Layer(kind="conv", kernels=(1,)),)))
    return MobileSpec(blocks=tuple(blocks))


def _mobilenet_v3_like() -> MobileSpec:
    """Swish6 towards the end, squeeze-and-excite, a compact head; every width is open."""

    def bottleneck(stride: int, follows: bool, activation: Activation) -> Layer:
        return Layer(
            kernels=_KERNELS,
            expansions=(1, 2, 3, 4, 5, 6),
            se=(False, True),
            skips=(False, True) if follows else (),
            stride=stride,
            activation=activation,
            residual=follows,
        )

    stem, *body, head, last = _enlarged((16, 16, 32, 64, 128, 256, 512, 1024))
    separable = Layer(kind="separable", kernels=_KERNELS, skips=(False, True), residual=True)
    blocks = [
        Block(
            name="stem",
            filters=stem,
            layers=(Layer(kind="conv", kernels=(3, 5), stride=2, activation="swish6"), separable),
        )
    ]
    for i, (filters, stride) in enumerate(zip(body, (2, 2, 2, 1, 2), strict=True), start=1):
        activation: Activation = "relu" if i <= 2 else "swish6"
        layers = (bottleneck(stride, False, activation), *(bottleneck(1, True, activation) for _ in range(3)))
        blocks.append(Block(name=f"b{i}", filters=filters, layers=layers))
    blocks.append(Block(name="head", filters=head, layers=(Layer(kind="conv", kernels=(1,), activation="swish6"),)))
    return MobileSpec(blocks=tuple(blocks), last_filters=last)


# Layers of b2 to b7 as (kernel, expansion).
_Layers = Sequence[Sequence[tuple[int, float]]]
_MOBILENET_V2_LAYERS: _Layers = ([(3, 6)] * 2, [(3, 6)] * 3, [(3, 6)] * 4, [(3, 6)] * 3, [(3, 6)] * 3, [(3, 6)])
_MNASNET_LAYERS: _Layers = ([(3, 3)] * 3, [(5, 3)] * 3, [(5, 6)] * 3, [(3, 6)] * 2, [(5, 6)] * 4, [(3, 6)])
_PROXYLESS_LAYERS: _Layers = (
    [(5, 3), (3, 3)],
    [(7, 3), (3, 3), (5, 3), (5, 3)],
    [(7, 6), (5, 3), (5, 3), (5, 3)],
    [(5, 6), (5, 3), (5, 3), (5, 3)],
    [(7, 6), (7, 6), (7, 3), (7, 3)],
    [(7, 6)],
)


def _reference(filters: Sequence[int], layers: _Layers) -> MobileSpec:
    """A network that the ProxylessNAS space with these widths holds."""
    space = _proxyless_like(_fixed(filters))
    choices: dict[str, bool | int | float] = {"b1.0.kernel": 3}
    for i, block in enumerate(layers, start=2):
        for j in range(1 if i == 7 else 4):
            choices[f"b{i}.{j}.skip"] = j >= len(block)
            if j < len(block):
                choices |= {f"b{i}.{j}.kernel": block[j][0], f"b{i}.{j}.expansion": block[j][1]}
    return space.select(choices)


def with_activation(spec: MobileSpec, activation: Activation) -> MobileSpec:
    """Returns the spec with one activation everywhere."""
    blocks = tuple(
        dataclasses.replace(
            block, layers=tuple(dataclasses.replace(layer, activation=activation) for layer in block.layers)
        )
        for block in spec.blocks
    )
    return dataclasses.replace(spec, blocks=blocks, last_activation=activation)


def _mobilenet_v3_large() -> MobileSpec:
    """MobileNetV3-Large: (kernel, hidden width, squeeze-and-excite) per layer."""
    blocks = (
        (24, 2, "relu", [(3, 64, False), (3, 72, False)]),
        (40, 2, "relu", [(5, 72, True), (5, 120, True), (5, 120, True)]),
        (80, 2, "swish6", [(3, 240, False), (3, 200, False), (3, 184, False), (3, 184, False)]),
        (112, 1, "swish6", [(3, 480, True), (3, 672, True)]),
        (160, 2, "swish6", [(5, 672, True), (5, 960, True), (5, 960, True)]),
    )
    width = 16
    made = [
        Block(
            name="stem",
            filters=(width,),
            layers=(
                Layer(kind="conv", stride=2, activation="swish6"),
                Layer(kind="separable", residual=True),
            ),
        )
    ]
    for i, (filters, stride, activation, layers) in enumerate(blocks, start=1):
        made_layers = []
        for j, (kernel, hidden, se) in enumerate(layers):
            source = filters if j else width
            made_layers.append(
                Layer(
                    kernels=(kernel,),
                    expansions=(hidden / source,),
                    se=(se,),
                    stride=1 if j else stride,
                    activation=activation,  # type: ignore[arg-type]
                    residual=j > 0,
                )
            )
        made.append(Block(name=f"b{i}", filters=(filters,), layers=tuple(made_layers)))
        width = filters
    made.append(Block(name="head", filters=(960,), layers=(Layer(kind="conv", kernels=(1,), activation="swish6"),)))
    return MobileSpec(blocks=tuple(made), last_filters=(1280,))


MOBILE: Mapping[str, Callable[[], MobileSpec]] = {
    "mnasnet_b1": lambda: _reference(_MNASNET, _MNASNET_LAYERS),
    "mobilenet_v2": lambda: _reference(_MOBILENET_V2, _MOBILENET_V2_LAYERS),
    "mobilenet_v3_large": _mobilenet_v3_large,
    "proxylessnas_mobile": lambda: _reference(_PROXYLESS, _PROXYLESS_LAYERS),
    "tunas_mobilenetv3": _mobilenet_v3_like,
    "tunas_proxyless": lambda: _proxyless_like(_fixed(_PROXYLESS)),
    "tunas_proxyless_doubled_at_blocks": lambda: _proxyless_like(_fixed(_DOUBLED_AT_BLOCKS)),
    "tunas_proxyless_doubled_at_strides": lambda: _proxyless_like(_fixed(_DOUBLED_AT_STRIDES)),
    "tunas_proxyless_enlarged": lambda: _proxyless_like(_enlarged(_DOUBLED_AT_BLOCKS)),
}


_SHORTHANDS = {"width", "activation", "strides", "choices"}  # settings that are no fields of the spec
_NAMED: Mapping[str, tuple[Any, ...]] = {
    "activation": get_args(Activation),
    "head": MobileSpec.heads,
    "padding": ("same_tf", "symmetric"),
    "gate": ("sigmoid", "hard_sigmoid"),
    "last_activation": get_args(Activation),
    "collapsed": (True, False),
    "statistics": ("batch", "running", "recalibrated"),
}


def create_mobile(name: str, **overrides: Any) -> MobileSpec:
    """Makes the spec of a mobile space or network.

    Args:
        name: One of `MOBILE`.
        **overrides: Fields of `MobileSpec`; ``width`` multiplies all widths (rounded to 8), ``activation`` replaces all
            activations, ``strides`` those of every block's first layer, so that small images are not strided away;
            ``choices`` answers decisions of a space (`MobileSpec.decisions`), which leaves one of its networks.

    Raises:
        UserError: An override is unknown or impossible.
    """
    spec = MOBILE[name]()
    known = {f.name for f in dataclasses.fields(spec)} - {"blocks", "last_filters", "extra_filters"} | _SHORTHANDS
    for key in overrides:
        if key not in known:
            raise UserError(f"unknown supernet setting '{key}'{suggest(key, known)}")
    for key, options in _NAMED.items():
        if key in overrides and overrides[key] not in options:
            named = [str(option).lower() if isinstance(option, bool) else option for option in options]
            hint = suggest(str(overrides[key]), named, f"; take one of {', '.join(named)}")
            raise UserError(f"unknown supernet.settings.{key} '{overrides[key]}'{hint}")
    width = overrides.pop("width", 1.0)
    if not isinstance(width, int | float) or not 0 < width < 100:
        raise UserError(f"supernet.settings.width is {width}; it multiplies all widths, e.g. 0.5")
    if "activation" in overrides:
        spec = with_activation(spec, overrides.pop("activation"))
    if "strides" in overrides:
        spec = _with_strides(spec, overrides.pop("strides"))
    if width != 1:
        spec = _with_width(spec, width)
    if "choices" in overrides:
        spec = _with_choices(spec, overrides.pop("choices"))
    if overrides.get("head") == "density":
        overrides = {"num_classes": 1, **overrides}
    return dataclasses.replace(spec, **{key: as_tuples(value) for key, value in overrides.items()})


def _with_choices(spec: MobileSpec, choices: Mapping[str, Any]) -> MobileSpec:
    if not isinstance(choices, Mapping):
        raise UserError('supernet.settings.choices names answers, e.g. {"b2.0.kernel": 5}')
    known = {decision.name: decision.options for decision in spec.decisions()}
    for name, answer in choices.items():
        if name not in known:
            raise UserError(f"supernet.settings.choices: there is no decision {name}{suggest(name, known)}")
        if not any(answer == option and type(answer) is type(option) for option in known[name]):
            raise UserError(f"supernet.settings.choices: {name} is {answer}; take one of {list(known[name])}")
    return spec.select(choices)


def _with_strides(spec: MobileSpec, strides: Sequence[int]) -> MobileSpec:
    usual = [block.layers[0].stride for block in spec.blocks]
    if not isinstance(strides, list | tuple) or len(strides) != len(usual) or any(s not in (1, 2) for s in strides):
        raise UserError(f"supernet.settings.strides is {strides}; give a 1 or 2 for every block, usual is {usual}")
    blocks = []
    for block, stride in zip(spec.blocks, strides, strict=True):
        first = dataclasses.replace(block.layers[0], stride=stride)
        blocks.append(dataclasses.replace(block, layers=(first, *block.layers[1:])))
    return dataclasses.replace(spec, blocks=tuple(blocks))


def _with_width(spec: MobileSpec, width: float) -> MobileSpec:
    def scaled(filters: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted({scale_filters(f, width) for f in filters}))

    blocks = tuple(dataclasses.replace(block, filters=scaled(block.filters)) for block in spec.blocks)
    extra = tuple(scale_filters(f, width) for f in spec.extra_filters)
    return dataclasses.replace(spec, blocks=blocks, last_filters=scaled(spec.last_filters), extra_filters=extra)
