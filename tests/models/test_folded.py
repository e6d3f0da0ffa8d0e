"""The form for inference: the same function, fewer operations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from supertickets.models import HRNetSpec, Network
from supertickets.models.factory import create_spec
from supertickets.models.hrnet import folded
from supertickets.models.hrnet.blocks import MixBlock
from supertickets.models.hrnet.folded import fold_norms

SETTINGS = {"channels": ((4, 6), (4, 6)), "blocks": ((1, 1), (1, 1)), "expansion": 1, "stem_channels": (4, 4)}


def trained(spec: HRNetSpec) -> Network:
    """In float64, with weights and BN statistics at random."""
    torch.manual_seed(0)  # also for what the noise is added to
    network = spec.build().double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(0.5 + noise.abs() if name.endswith("running_var") else tensor + 0.5 * noise)
    return network


def without(spec: HRNetSpec, *emptied: str) -> HRNetSpec:
    """The spec with no unit left in some groups."""
    groups = {group.name: torch.ones(len(group), dtype=torch.bool) for group in spec.unit_groups()}
    return spec.keep({name: kept & (name not in emptied) for name, kept in groups.items()})


def spec_for(head: str, **more: object) -> HRNetSpec:
    size = {"image_size": (33, 21)} if head == "segmentation" else {"image_size": (32, 24)}
    widths = {"head_channels": (6, 8)} if head == "classification" else {}
    return create_spec("hrnet_tiny", head=head, num_classes=3, tokens=3, grid=2, **SETTINGS, **size, **widths, **more)


WHOLE = spec_for("classification")
FIRST = next(group.name for group in WHOLE.unit_groups() if group.kind == "channel")
TOKENS = [group.name for group in WHOLE.unit_groups() if group.kind == "token"]


@pytest.mark.parametrize(
    "spec",
    [
        WHOLE,
        spec_for("segmentation"),
        spec_for("keypoints"),
        spec_for("classification", kernels=(7,)),
        without(WHOLE, FIRST),
        without(WHOLE, *TOKENS),
    ],
    ids=["classes", "scenes", "people", "one kernel", "a block without channels", "no tokens"],
)
@torch.no_grad()
def test_outputs_stay(spec: HRNetSpec) -> None:
    network = trained(spec)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.randn(3, *spec.input_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = network(images)
    assert wanted.std() > 0.01
    form = fold_norms(network.train())
    for batch in (images, images[:1]):
        torch.testing.assert_close(form(batch), network.eval()(batch), rtol=1e-10, atol=1e-10)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_folding_saves_three_norms_per_block() -> None:
    network, form = (list(n.modules()) for n in (WHOLE.build(), fold_norms(WHOLE.build())))
    blocks = sum(1 for shape in WHOLE.shapes().values())
    count = sum(isinstance(m, nn.BatchNorm2d) for m in network) - sum(isinstance(m, nn.BatchNorm2d) for m in form)
    assert count == 3 * blocks > 0


def test_a_zero_stays_a_zero() -> None:
    network = trained(WHOLE)
    block = next(module for module in network.modules() if isinstance(module, MixBlock))
    block.project.weight.data.zero_()
    kernel = fold_norms(network).state_dict()["blocks.s0_fuse_0to0.project.weight"]
    assert len(kernel) == len(block.project.weight)
    assert not kernel.any()


@pytest.mark.parametrize("block", [8, 16])
def test_chains_are_as_wide_as_runtimes_like(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folded, "channel_block", lambda: block)
    widths = [
        chain[2].groups
        for name, chain in fold_norms(WHOLE.build()).named_modules()
        if ".chains." in name and isinstance(chain, nn.Sequential)
    ]
    assert widths
    assert {width % block for width in widths} == {0}


def test_other_networks_are_copied() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    form = fold_norms(network)
    assert form is not network
    assert [type(m) for m in form.modules()] == [type(m) for m in network.modules()]
