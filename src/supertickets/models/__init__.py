"""Networks by family; each is described exactly by a JSON-able spec."""

from __future__ import annotations

from .base import Choice, Decision, Head, Network, Spec, TransferTarget, Units, as_tuples
from .external import ExternalNetwork
from .factory import create_spec, create_supernet, list_spaces, list_supernets, spec_from_json
from .hrnet.network import HRNet, HRNetSpec
from .library import LIBRARIES, LibrarySpec, find_maker, library_network
from .mobile.layers import Choices
from .mobile.network import MobileNetwork, MobileSpec, require_mobile, slice_state_dict
from .mobile.spaces import create_mobile
from .own_network import ModuleSpec
from .plain.network import PlainNetwork, PlainSpec
from .resnet.network import ResNet, ResNetSpec, require_resnet
from .resnet.presets import create_resnet
from .resnet.scheme_tree import outputs_of_all
from .units import Axis, Fold, UnitGroup

__all__ = [
    "LIBRARIES",
    "Axis",
    "Choice",
    "Choices",
    "Decision",
    "ExternalNetwork",
    "Fold",
    "HRNet",
    "HRNetSpec",
    "Head",
    "LibrarySpec",
    "MobileNetwork",
    "MobileSpec",
    "ModuleSpec",
    "Network",
    "PlainNetwork",
    "PlainSpec",
    "ResNet",
    "ResNetSpec",
    "Spec",
    "TransferTarget",
    "UnitGroup",
    "Units",
    "as_tuples",
    "create_mobile",
    "create_resnet",
    "create_spec",
    "create_supernet",
    "find_maker",
    "library_network",
    "list_spaces",
    "list_supernets",
    "outputs_of_all",
    "require_mobile",
    "require_resnet",
    "slice_state_dict",
    "spec_from_json",
]
