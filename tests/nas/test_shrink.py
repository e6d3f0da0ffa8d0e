"""Removing units: what goes, what the network computes afterwards, and which entries of a tensor are left."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from supertickets.models import HRNet, HRNetSpec, Spec
from supertickets.models.factory import create_spec
from supertickets.models.hrnet.transformer import TokenPath
from supertickets.nas import fold_constants, min_units, select_units, slice_tensors

Keep = dict[str, Tensor]
# Two branches and dropout nowhere, so that training mode is a function too.
SPEC = create_spec(
    "hrnet_tiny",
    channels=((4, 6), (4, 6)),
    blocks=((1, 1), (1, 1)),
    stem_channels=(4, 4),
    head_channels=(6, 8),
    kernels=(3, 5),
    last_channels=10,
    expansion=1,
    tokens=4,
    grid=2,
    num_classes=3,
    in_channels=1,
    bn_eps=1e-3,
)


@contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Builds and runs in another type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def randomised(spec: Spec, seed: int = 0) -> HRNet:
    """A network whose statistics, scales and shifts are not 0 and 1."""
    torch.manual_seed(seed)
    net = spec.build()
    assert isinstance(net, HRNet)
    with torch.no_grad():
        for norm in net.modules():
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.weight.normal_(1.0, 0.3)
                norm.bias.normal_(0.3, 0.5)
                norm.running_mean.normal_(0.0, 0.5)
                norm.running_var.uniform_(0.5, 1.5)
    return net


def everything(spec: HRNetSpec) -> Keep:
    return {group.name: torch.ones(len(group), dtype=torch.bool) for group in spec.unit_groups()}


def cut(net: HRNet, keep: Keep, *, fold: bool = True) -> HRNet:
    """Rebuilds a network with fewer units, as `draw.shrink` does."""
    groups = net.spec.unit_groups()
    tensors = dict(net.state_dict())
    if fold:
        tensors |= fold_constants(tensors, groups, keep)
    small = net.spec.keep(keep).build()
    small.load_state_dict(slice_tensors(tensors, groups, keep, list(small.state_dict())))
    return small.train(net.training)


def one(spec: HRNetSpec) -> Keep:
    keep = everything(spec)
    keep["s1_b1_0.hidden"][7] = False
    return keep


def many(spec: HRNetSpec) -> Keep:
    torch.manual_seed(3)
    channels = {g.name for g in spec.unit_groups() if g.kind == "channel"}
    return {n: torch.rand(len(f)) < 0.5 if n in channels else f for n, f in everything(spec).items()}


def whole_kernels(spec: HRNetSpec) -> Keep:
    """All 3x3 channels of some blocks and all 5x5 ones of others, blocks that change shape included."""
    keep = everything(spec)
    for i, group in enumerate(g for g in spec.unit_groups() if g.kind == "channel"):
        other = f".depthwise.k{(5, 3)[i % 2]}."
        for axis in group.axes:
            if other in axis.tensor:
                keep[group.name][list(axis.owners)] = False
    return keep


def whole_block(spec: HRNetSpec) -> Keep:
    keep = everything(spec)
    keep["s0_b0_0.hidden"][:] = False
    keep["s1_fuse_0to1.hidden"][:] = False
    return keep


def no_channels(spec: HRNetSpec) -> Keep:
    channels = {g.name for g in spec.unit_groups() if g.kind == "channel"}
    return {n: torch.zeros_like(f) if n in channels else f for n, f in everything(spec).items()}


def silence(net: HRNet, keep: Keep) -> None:
    """Sets the scale of units that are to go to zero; each group then has one that emits 0.7."""
    named = dict(net.named_parameters())
    with torch.no_grad():
        for group in net.spec.unit_groups():
            gone = ~keep[group.name]
            named[group.scales[0].tensor][gone] = 0.0
            if group.fold is not None:
                named[group.fold.beta][gone.nonzero().flatten()[:1]] = 0.7


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("chosen", [one, many, whole_kernels, whole_block, no_channels])
def test_removing_silent_channels_keeps_the_function(
    chosen: Callable[[HRNetSpec], Keep], dtype: torch.dtype, tolerance: float, training: bool
) -> None:
    with precision(dtype), torch.no_grad():
        net = randomised(SPEC).train(training)
        keep = chosen(SPEC)
        silence(net, keep)
        small = cut(net, keep)
        folded_not = cut(net, keep, fold=False)
        x = torch.randn(4, 1, 9, 8)
        expected = net(x)
        bound = tolerance * (1.0 if dtype == torch.float64 else expected.abs().max().item())
        assert (small(x) - expected).abs().max().item() <= bound
        if not training:
            # Without folding the constants are lost, so this test can fail.
            assert (folded_not(x) - expected).abs().max().item() > 1e-3
    removed = sum(int((~flags).sum()) for flags in keep.values())
    assert removed > 0
    assert sum(map(len, small.spec.unit_groups())) == sum(map(len, SPEC.unit_groups())) - removed


@pytest.mark.parametrize("chosen", [one, many, whole_kernels])
def test_training_goes_on_alike(chosen: Callable[[HRNetSpec], Keep]) -> None:
    """Gradients of what is left are equal, and after a step in training mode so are the evaluated functions."""
    with precision(torch.float64):
        net = randomised(SPEC).train()
        keep = chosen(SPEC)
        silence(net, keep)
        small = cut(net, keep)
        x, wanted = torch.randn(4, 1, 8, 8), torch.randn(4, 3)
        for network in (net, small):
            (network(x) * wanted).sum().backward()
        gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        expected = slice_tensors(gradients, SPEC.unit_groups(), keep, [n for n, _ in small.named_parameters()])
        for name, parameter in small.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-7, atol=1e-9)
        with torch.no_grad():
            torch.testing.assert_close(small.eval()(x), net.eval()(x), rtol=0, atol=1e-9)


def test_fold_by_hand() -> None:
    """Channel 1 goes: its ReLU(0.5) times the weights (3, -4) leaves the mean; a shift below 0 emits nothing."""
    spec = create_spec("hrnet_tiny", channels=((2,),), blocks=((0,),), head_channels=(2,), kernels=(3,), expansion=2,
                       stem_channels=(2, 2), tokens=0, grid=2)  # fmt: skip
    net = spec.build()
    tensors = dict(net.state_dict())
    name = "blocks.s0_fuse_0to0"
    tensors[f"{name}.project.weight"] = torch.tensor([[1.0, 3, 5, 7], [2, -4, 6, 8]]).view(2, 4, 1, 1)
    tensors[f"{name}.unit_bn.bias"] = torch.tensor([9.0, 0.5, -1.0, 9.0])
    tensors[f"{name}.bn.running_mean"] = torch.tensor([10.0, 20.0])
    keep = everything(spec) | {"s0_fuse_0to0.hidden": torch.tensor([True, False, False, True])}
    before = {n: value.clone() for n, value in tensors.items()}
    changed = fold_constants(tensors, spec.unit_groups(), keep)
    assert list(changed) == [f"{name}.bn.running_mean"]
    assert changed[f"{name}.bn.running_mean"].tolist() == [10 - 1.5, 20 + 2.0]
    assert all(torch.equal(value, before[n]) for n, value in tensors.items())


@torch.no_grad()
def test_one_token_less_by_hand() -> None:
    """Rows, BN entries, queries and columns of the tokens that stay, copied by hand into a fresh path."""
    net = randomised(SPEC).eval()
    path = net.blocks["s1_b1_0"].tokens
    assert isinstance(path, TokenPath)
    keep = everything(SPEC)
    keep["s1_b1_0.tokens"] = torch.tensor([True, False, True, True])
    small = cut(net, keep)
    cut_path = small.blocks["s1_b1_0"].tokens
    assert isinstance(cut_path, TokenPath)
    left = [0, 2, 3]
    reference = TokenPath(6, 3, 2, 0.0).eval()
    for layer in ("encoder", "decoder", "up_bn"):
        getattr(reference, layer).load_state_dict(getattr(path, layer).state_dict())
    reference.to_tokens.weight.copy_(path.to_tokens.weight[left])
    reference.from_tokens.weight.copy_(path.from_tokens.weight[:, left])
    reference.queries.copy_(path.queries[left])
    for entry in ("weight", "bias", "running_mean", "running_var"):
        getattr(reference.token_bn, entry).copy_(getattr(path.token_bn, entry)[left])
    x = torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(cut_path(x), reference(x), rtol=0, atol=1e-6)
    assert (path(x) - reference(x)).abs().max() > 1e-3
    assert small.spec.units["s1_b1_0"].tokens == 3
    assert small.spec.units["s1_b0_0"].tokens == 4


@torch.no_grad()
def test_the_last_token_takes_the_path_with_it() -> None:
    net = randomised(SPEC).eval()
    keep = everything(SPEC)
    keep["s1_b0_0.tokens"][:] = False
    small = cut(net, keep)
    assert not [name for name in small.state_dict() if name.startswith("blocks.s1_b0_0.tokens")]
    assert [name for name in small.state_dict() if name.startswith("blocks.s1_b1_0.tokens")]
    x = torch.randn(2, 4, 5, 5)
    bare = copy.deepcopy(net.blocks["s1_b0_0"])
    bare.tokens = nn.Identity()
    torch.testing.assert_close(small.blocks["s1_b0_0"](x), bare(x))
    assert small(torch.randn(2, 1, 8, 8)).shape == (2, 3)


def test_slicing_leaves_scalars_and_unknown_names_alone() -> None:
    """An optimizer's step counts are scalars under a parameter's name; rooms hold only what the network has."""
    keep = everything(SPEC)
    name, scale = "s0_b0_0.hidden", "blocks.s0_b0_0.unit_bn.weight"
    keep[name][1:] = False
    values = {scale: torch.arange(8.0), "blocks.s0_b0_0.unit_bn.bias": torch.tensor(7.0), "elsewhere": torch.ones(8)}
    sliced = slice_tensors(values, SPEC.unit_groups(), keep, [scale, "blocks.s0_b0_0.unit_bn.bias"])
    assert {n: v.tolist() for n, v in sliced.items()} == {scale: [0.0], "blocks.s0_b0_0.unit_bn.bias": 7.0}
    assert values[scale].tolist() == list(range(8))


def test_selection_by_hand() -> None:
    """At the threshold a unit goes, whatever its sign."""
    importance = {"a": torch.tensor([0.5, -0.5, 0.25, 1e-3]), "b": torch.tensor([-0.25001, 0.0])}
    keep = select_units(importance, 0.25, at_least=1)
    assert {n: f.tolist() for n, f in keep.items()} == {"a": [True, True, False, False], "b": [True, False]}


def test_the_most_important_units_stay_whatever_the_threshold() -> None:
    importance = {"a": torch.tensor([0.1, -0.4, 0.2]), "b": torch.tensor([0.3, 0.05])}
    keep = select_units(importance, 0.35, at_least=3)
    assert {n: f.tolist() for n, f in keep.items()} == {"a": [False, True, True], "b": [True, False]}
    assert select_units({}, 0.1, at_least=3) == {}


@settings(deadline=None)
@given(
    groups=st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=6),
        min_size=1,
        max_size=4,
    ),
    threshold=st.sampled_from([0.0, 0.25, 0.5, 2.0]),
    at_least=st.integers(0, 8),
)
def test_selection_keeps_the_strong_and_never_comes_out_empty(
    groups: Mapping[str, list[float]], threshold: float, at_least: int
) -> None:
    keep = select_units({n: torch.tensor(v) for n, v in groups.items()}, threshold, at_least)
    assert list(keep) == list(groups)
    assert [len(keep[n]) for n in groups] == [len(v) for v in groups.values()]
    sizes = [abs(value) for values in groups.values() for value in values]
    flags = [flag for n in groups for flag in keep[n].tolist()]
    strong = sum(size > threshold for size in sizes)
    assert sum(flags) == max(strong, min(at_least, len(sizes)))
    assert all(flag for flag, size in zip(flags, sizes, strict=True) if size > threshold)
    kept = [size for flag, size in zip(flags, sizes, strict=True) if flag]
    gone = [size for flag, size in zip(flags, sizes, strict=True) if not flag]
    assert not kept or not gone or min(kept) >= max(gone)


@pytest.mark.parametrize(("floor", "units"), [(0.01, 1), (0.5, 4), (0.51, 5), (0.0, 0), (0.999, 8)])
def test_floor_is_a_share_of_the_supernet(floor: float, units: int) -> None:
    spec = create_spec("hrnet_tiny", channels=((2,),), blocks=((0,),), head_channels=(2,), kernels=(3,), expansion=2,
                       stem_channels=(2, 2), tokens=0)  # fmt: skip
    assert sum(map(len, spec.unit_groups())) == 8
    assert min_units(spec, floor) == units


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), first=st.floats(0.1, 1), second=st.floats(0.0, 1))
def test_two_cuts_are_one(seed: int, first: float, second: float) -> None:
    """Cutting twice leaves what cutting once to the same units leaves, token paths and whole blocks included."""
    generator = torch.Generator().manual_seed(seed)
    net = randomised(SPEC, seed)
    groups = SPEC.unit_groups()
    a = {g.name: torch.rand(len(g), generator=generator) < first for g in groups}
    after = net.spec.keep(a)
    b = {g.name: torch.rand(len(g), generator=generator) < second for g in after.unit_groups()}
    both = {}
    for name, flags in a.items():
        both[name] = flags.clone()
        if flags.any():
            both[name][flags.nonzero().flatten()] = b[name]
    twice, once = cut(cut(net, a, fold=False), b, fold=False), cut(net, both, fold=False)
    assert twice.spec == once.spec
    for (name, x), (other, y) in zip(twice.state_dict().items(), once.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(x, y)
