"""The families of networks by name: the one table that recipes and the networks' own room read.

It is plain data, so that recipes, plans and help texts are read without importing any network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import UserError, suggest
from ..plugins import is_plugin


@dataclass(frozen=True, kw_only=True)
class NetworkFamily:
    """A family of networks.

    Attributes:
        name: Name of the family, as the JSON of a spec has it.
        networks: Names of its networks; empty for families whose networks are called ``family:NAME``, or by the user.
        spec: Class of its specs as ``module:Class``, below ``supertickets.models``; None if it has no specs of its own.
        create: Function that makes the spec of a network by name, written likewise.
        has_units: Whether a search removes units of its networks, declared or traced, also without a budget that asks
            for it: the architecture of a ticket was searched before.
        has_transformer: Whether its networks have Transformer paths that can be left out.
        search: Method by which ``supertickets search`` searches its networks; None if it does not.
        head_by_task: Whether the task of a recipe chooses the head of its networks, unless the settings do.
        publishes_weights: Whether trained weights of its networks are published under the network's name.
        fits_images: Whether strides and width of its networks can be chosen by images and budget.
        counts_channels: Whether its settings ``width`` and ``widths`` are numbers of channels, not factors.
        gains_by_bf16: Whether it trains faster in bfloat16 where a device computes in it: whole convolutions do,
            depthwise ones and matrices of a few rows take longer.
        shares_settings: Whether its networks know the same settings, so that a recipe keeps them when one network of
            the family takes the place of another.
    """

    name: str
    networks: tuple[str, ...] = ()
    spec: str | None = None
    create: str | None = None
    has_units: bool = True
    has_transformer: bool = False
    search: Literal["policy", "connections"] | None = None
    head_by_task: bool = False
    publishes_weights: bool = False
    fits_images: bool = False
    counts_channels: bool = False
    gains_by_bf16: bool = False
    shares_settings: bool = False


_EVERY = (
    NetworkFamily(
        name="hrnet",
        networks=("hrnet_ade20k", "hrnet_cityscapes", "hrnet_coco", "hrnet_imagenet", "hrnet_tiny"),
        spec="hrnet.network:HRNetSpec",
        create="hrnet.presets:create_hrnet",
        has_transformer=True,
        shares_settings=True,
    ),
    NetworkFamily(
        name="mobile",
        networks=(
            *("mnasnet_b1", "mobilenet_v2", "mobilenet_v3_large", "proxylessnas_mobile"),
            *("tunas_mobilenetv3", "tunas_proxyless", "tunas_proxyless_enlarged"),
            *("tunas_proxyless_doubled_at_blocks", "tunas_proxyless_doubled_at_strides"),
        ),
        spec="mobile.network:MobileSpec",
        create="mobile.spaces:create_mobile",
        search="policy",
        head_by_task=True,
        shares_settings=True,
    ),
    NetworkFamily(
        name="resnet",
        networks=("resnet38", "resnet50", "resnet164"),
        spec="resnet.network:ResNetSpec",
        create="resnet.presets:create_resnet",
        search="connections",
        head_by_task=True,
        counts_channels=True,
        shares_settings=True,
    ),
    NetworkFamily(
        name="plain",
        networks=("resnet8", "resnet14", "resnet18", "resnet20"),
        spec="plain.network:PlainSpec",
        create="plain.presets:create_plain",
        head_by_task=True,
        fits_images=True,
        counts_channels=True,
        gains_by_bf16=True,
        shares_settings=True,
    ),
    NetworkFamily(
        name="timm",
        spec="library:LibrarySpec",
        create="library:create_library_spec",
        publishes_weights=True,
        head_by_task=True,
    ),
    NetworkFamily(
        name="torchvision",
        spec="library:LibrarySpec",
        create="library:create_library_spec",
        publishes_weights=True,
        head_by_task=True,
    ),
    NetworkFamily(
        name="module", spec="own_network:ModuleSpec", create="own_network:create_module_spec", head_by_task=True
    ),
    NetworkFamily(name="ticket", has_units=False),
)
FAMILIES: Mapping[str, NetworkFamily] = {family.name: family for family in _EVERY}


def find_family(network: str) -> NetworkFamily:
    """Return the family of a network.

    Args:
        network: What ``supernet.name`` says: a name of `FAMILIES`, ``timm:NAME``, ``torchvision:NAME``, ``ticket:RUN``,
            or a user's own factory, ``package.module:make_network``.

    Raises:
        UserError: There is no such network.
    """
    for family in FAMILIES.values():
        if network in family.networks:
            return family
    prefix, colon, _ = network.partition(":")
    if colon and prefix != "module" and prefix in FAMILIES:
        return FAMILIES[prefix]
    if is_plugin(network):
        return FAMILIES["module"]
    known = [name for family in FAMILIES.values() for name in family.networks]
    hint = suggest(network, known)
    raise UserError(
        f"unknown supernet '{network}'{hint} (or timm:NAME, torchvision:NAME, ticket:RUN, package.module:make_network)"
    )
