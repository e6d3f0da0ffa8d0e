"""Two-in-one training: whatever happens in whatever order, all that belongs to a network stays in line with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from supertickets.algorithms.ranking import maskable
from supertickets.algorithms.two_in_one import (
    TwoInOne,
    _decay,
    prune_weights,
    reactivate_weights,
    search_warning,
)
from supertickets.algorithms.unit_removal import choose_units, remove_units, shrink
from supertickets.config.optimizer_settings import LrSettings, OptimizerSettings
from supertickets.config.recipe import (
    DataSettings,
    PruneSettings,
    Recipe,
    SearchSettings,
)
from supertickets.data import Batches, InMemoryImages, Preprocessing, Splits
from supertickets.models import HRNetSpec
from supertickets.models.factory import create_spec
from supertickets.pruning import magnitude_mask
from supertickets.tasks import Classification
from supertickets.training import (
    Algorithm,
    Reporter,
    RunDir,
    Runtime,
    Session,
    TrainState,
    digest,
    fit,
    initial_state,
    load_checkpoint,
    read_events,
)
from supertickets.training.optimizers import FIRST_MOMENTS, SECOND_MOMENTS, make_optimizer, optimizer_tensors
from supertickets.training.state import build_module, save_checkpoint

Optimizer = Literal["sgd", "rmsprop", "adam", "adamw"]
Rooms = dict[str, dict[str, Tensor]]
OPTIMIZERS: list[Optimizer] = ["sgd", "rmsprop", "adam", "adamw"]
CPU = torch.device("cpu")
# Two branches: blocks of both strides, both kinds of shortcut, tokens.
SPEC = create_spec(
    "hrnet_tiny",
    channels=((4, 6),),
    blocks=((1, 1),),
    stem_channels=(4, 4),
    head_channels=(6, 8),
    kernels=(3, 5),
    last_channels=10,
    expansion=1,
    tokens=2,
    grid=2,
    num_classes=3,
    in_channels=1,
)
BATCH = 4


def make_recipe(optimizer: Optimizer, **changes: Any) -> Recipe:
    prune = changes.pop("prune", {})
    return dataclasses.replace(
        Recipe(
            epochs=100,
            ema_decay=0.9,
            device="cpu",
            checkpoint_seconds=1e9,
            data=DataSettings(batch=BATCH),
            optimizer=OptimizerSettings(name=optimizer, lr=0.01, weight_decay=0.1),
            lr=LrSettings(shape="constant"),
            search=SearchSettings(interval=1, rho=0.01, floor=0.0),
            prune=PruneSettings(ratio=0.5, transformer=True, **prune),
        ),
        **changes,
    )


def make_session(recipe: Recipe, folder: Path, steps: int) -> Session:
    """A session on a few random images, so many steps per epoch."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> InMemoryImages:
        pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
        return InMemoryImages(pixels, torch.arange(count) % 3)

    prepare = Preprocessing(1, (8, 8), (0.5,), (0.3,))
    splits = Splits(images(BATCH * steps), images(3), images(3), ("a", "b", "c"), prepare)
    folder.mkdir(parents=True, exist_ok=True)
    return Session(
        recipe=recipe,
        supernet=SPEC,
        batches=Batches(splits, recipe.data, recipe.augment, recipe.seed),
        task=Classification(splits.classes),
        runtime=Runtime(CPU),
        run=RunDir(folder),
        reporter=Reporter(recipe.epochs, steps, quiet=True),
    )


class _Enough(Exception):
    """Ends a training after the steps of one epoch."""


def train_one_epoch(session: Session, state: TrainState) -> TrainState:
    """The steps of an epoch by the real loop, without what follows them."""

    class OneEpoch(Algorithm):
        def on_epoch_end(self, session: Session, state: TrainState, epoch: int) -> TrainState:
            raise _Enough

    with pytest.raises(_Enough):
        fit(session, state, OneEpoch())
    state.position = dataclasses.replace(state.position, epoch=state.position.epoch + 1, step=0, loss_sum=0.0)
    return state


def copies(state: TrainState) -> Rooms:
    return {room: {n: t.detach().clone() for n, t in values.items()} for room, values in state.tensors().items()}


def layout(tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides; those of a dimension of one entry mean nothing."""
    strides = zip(tensor.shape, tensor.stride(), strict=True)
    return tuple(tensor.shape), tuple(stride for size, stride in strides if size > 1)


def check_aligned(state: TrainState, recipe: Recipe) -> None:
    """Names, shapes and strides are those of a fresh build of the same spec; pruned weights are zero."""
    fresh = build_module(state.spec, recipe, CPU)
    assert state.module.spec == state.spec
    assert list(state.module.state_dict()) == list(fresh.state_dict())
    expected = {n: layout(p) for n, p in fresh.named_parameters()}
    assert {n: layout(p) for n, p in state.module.named_parameters()} == expected
    assert list(state.parameters()) == list(expected)

    names = {p: n for n, p in state.module.named_parameters()}
    fresh_names = {p: n for n, p in fresh.named_parameters()}
    groups = [[names[p] for p in g["params"]] for g in state.optimizer.param_groups]
    fresh_optimizer = make_optimizer(fresh, recipe.optimizer)
    assert groups == [[fresh_names[p] for p in g["params"]] for g in fresh_optimizer.param_groups]
    assert set(state.optimizer.state) <= set(names)
    kinds: dict[str, list[str]] = {}
    for key, moment in optimizer_tensors(state.optimizer, state.module).items():
        kind, name = key.split("/")
        kinds.setdefault(kind, []).append(name)
        assert moment.ndim == 0 or layout(moment) == expected[name], key
    assert all(order == list(expected) for order in kinds.values())

    assert state.ema is not None
    assert {n: layout(t) for n, t in state.ema.tensors.items()} == expected
    assert list(state.ema.tensors) == list(expected)

    sparse, weights = state.sparse, maskable(state, recipe)
    assert set(sparse.mask) in (set(), set(weights))
    if not sparse.mask:
        assert not sparse.stored
        return
    assert {n for n in sparse.stored if "/" not in n} == set(weights)
    for key, stored in sparse.stored.items():
        assert tuple(stored.shape) == expected[key.split("/")[-1]][0]
    moments = optimizer_tensors(state.optimizer, state.module)
    for name, flags in sparse.mask.items():
        assert (flags.dtype, flags.shape) == (torch.bool, weights[name].shape)
        assert not weights[name][~flags].any()
        assert not sparse.stored[name][flags].any()
        for kind in FIRST_MOMENTS:
            if f"{kind}/{name}" in moments:
                assert not moments[f"{kind}/{name}"][~flags].any()


def cut_by_hand(name: str, value: Tensor, spec: HRNetSpec, keep: dict[str, Tensor]) -> Tensor | None:
    """Return the rest of a tensor, read off its name alone; None if its part of the network is gone."""
    if not name.startswith("blocks."):
        return value
    _, block, part, *rest = name.split(".")
    if part in ("expand", "expand_bn", "unit_bn", "depthwise", "project"):
        left, dim = keep[f"{block}.hidden"], 0
        if part == "depthwise":
            flags = left.split(spec.units[block].hidden)[("k3", "k5").index(rest[0])]
            alive = bool(flags.any())
        else:
            flags, alive = left, bool(left.any())
            dim = int(part == "project")
    elif part == "tokens":
        flags = keep[f"{block}.tokens"]
        alive = bool(flags.any())
        dim = {"to_tokens": 0, "token_bn": 0, "queries": 0, "from_tokens": 1}.get(rest[0], -1)
    else:
        return value  # the output BN and the shortcut
    if not alive:
        return None
    if value.ndim == 0 or dim < 0:
        return value  # an optimizer's step, a BN's count; encoder and decoder
    return value[:, flags] if dim else value[flags]


def check_cut(before: Rooms, after: Rooms, spec: HRNetSpec, keep: dict[str, Tensor]) -> None:
    """Every tensor of every room holds the values of the units that are left, to the bit, and nothing else."""
    for room, values in before.items():
        left = {n: cut_by_hand(n, value, spec, keep) for n, value in values.items()}
        expected = {n: value for n, value in left.items() if value is not None}
        actual = after.get(room, {})
        assert set(actual) == set(expected), room
        for name, value in expected.items():
            block = name.split(".")[1] if name.startswith("blocks.") else ""
            folded = (
                name.endswith(f"{block}.bn.running_mean") and not keep.get(f"{block}.hidden", value.new_ones(1)).all()
            )
            if room != "weights" or not folded:
                assert torch.equal(actual[name], value), (room, name)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("shrink"), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 0.9])),
        st.tuples(st.just("prune"), st.floats(0.0, 0.95), st.just(None)),
        st.tuples(st.sampled_from(["reactivate", "step", "reload"]), st.just(None), st.just(None)),
    ),
    min_size=1,
    max_size=7,
)


# Examples take a while, so a failing one is shown as it is instead of being made small.
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    actions=ACTIONS,
    optimizer=st.sampled_from(OPTIMIZERS),
    restore=st.sampled_from(["stored", "zero"]),
    channels_last=st.booleans(),
)
def test_everything_stays_in_line(
    tmp_path_factory: pytest.TempPathFactory,
    actions: list[tuple[str, Any, Any]],
    optimizer: Optimizer,
    restore: str,
    channels_last: bool,
) -> None:
    recipe = make_recipe(optimizer, channels_last=channels_last, prune={"restore": restore})
    session = make_session(recipe, tmp_path_factory.mktemp("run"), steps=1)
    state = initial_state(SPEC, recipe, CPU)
    for action, value, share in [("step", None, None), *actions]:
        before, spec = copies(state), state.spec
        match action:
            case "shrink":
                generator = torch.Generator().manual_seed(value)
                keep = {g.name: torch.rand(len(g), generator=generator) < share for g in spec.unit_groups()}
                state = shrink(session, state, keep)
                assert state.spec == spec.keep(keep)
                check_cut(before, copies(state), spec, keep)
            case "prune":
                prune_weights(session, state, 1, value)
                total = sum(flags.numel() for flags in state.sparse.mask.values())
                zeros = sum(int((~flags).sum()) for flags in state.sparse.mask.values())
                assert zeros == round(value * total)
                for name, weight in state.module.state_dict().items():
                    flags = state.sparse.mask.get(name, torch.ones(weight.shape, dtype=torch.bool))
                    assert torch.equal(weight[flags], before["weights"][name][flags])
            case "reactivate":
                reactivate_weights(session, state, 1)
                assert not state.sparse.mask
                for name, flags in before["mask"].items():
                    came_back = before["stored:"][name] if restore == "stored" else torch.zeros(flags.shape)
                    expected = torch.where(flags, before["weights"][name], came_back)
                    assert torch.equal(state.module.state_dict()[name], expected)
            case "step":
                state = train_one_epoch(session, state)
                assert copies(state)["mask"].keys() == before["mask"].keys()
            case "reload":
                save_checkpoint(session.run.checkpoint, state)
                state = load_checkpoint(session.run.checkpoint, recipe, CPU)
                after = copies(state)
                assert {room for room, values in after.items() if values} == {r for r, v in before.items() if v}
                for room, values in before.items():
                    assert set(after.get(room, {})) == set(values)
                    assert all(torch.equal(after[room][n], t) for n, t in values.items())
        check_aligned(state, recipe)


@pytest.fixture(params=OPTIMIZERS)
def optimizer(request: pytest.FixtureRequest) -> Optimizer:
    chosen: Optimizer = request.param
    return chosen


def test_pruned_weights_rest_and_come_back(optimizer: Optimizer, tmp_path: Path) -> None:
    """Three steps with weight decay under a mask: zero, averages frozen; then weights and second moments return."""
    recipe = make_recipe(optimizer)
    session = make_session(recipe, tmp_path, steps=3)
    state = train_one_epoch(session, initial_state(SPEC, recipe, CPU))
    dense = copies(state)
    prune_weights(session, state, 1, 0.5)
    mask = {n: flags.clone() for n, flags in state.sparse.mask.items()}
    assert not any(w[~mask[n]].any() for n, w in maskable(state, recipe).items())
    assert state.ema is not None
    state = train_one_epoch(session, state)
    assert state.position.total_steps == 6
    moved = 0
    for name, weight in maskable(state, recipe).items():
        flags = mask[name]
        assert not weight[~flags].any()
        assert state.ema is not None
        assert torch.equal(state.ema.tensors[name][~flags], dense["ema"][name][~flags])
        moved += int((weight[flags] != dense["weights"][name][flags]).sum())
        assert flags.sum() == 0 or not torch.equal(state.ema.tensors[name][flags], dense["ema"][name][flags])
        assert not state.deployable().weights[name][~flags].any()
    assert moved > 0.9 * sum(int(flags.sum()) for flags in mask.values())

    sparse = copies(state)
    reactivate_weights(session, state, 2)
    assert not state.sparse.mask
    after = copies(state)
    seconds = [room for room in after if room.partition(":")[2] in SECOND_MOMENTS]
    assert len(seconds) == (optimizer != "sgd")
    for room in ("weights", *seconds):
        for name, flags in mask.items():
            expected = torch.where(flags, sparse[room][name], dense[room][name])
            assert torch.equal(after[room][name], expected), (room, name)
    for room in seconds:
        # The optimizer had let them decay meanwhile, so that there was something to put back.
        assert any(not torch.equal(sparse[room][n][~f], dense[room][n][~f]) for n, f in mask.items())
    for room in (r for r in after if r.partition(":")[2] in FIRST_MOMENTS):
        assert not any(after[room][n][~f].any() for n, f in mask.items())


def test_the_mask_holds_whatever_the_optimizer_does(optimizer: Optimizer, tmp_path: Path) -> None:
    """First moments that would move pruned weights without any gradient."""
    recipe = make_recipe(optimizer)
    session = make_session(recipe, tmp_path, steps=3)
    state = train_one_epoch(session, initial_state(SPEC, recipe, CPU))
    prune_weights(session, state, 1, 0.5)
    for key, moment in optimizer_tensors(state.optimizer, state.module).items():
        if key.split("/")[0] in FIRST_MOMENTS:
            moment.fill_(1.0)
    state = train_one_epoch(session, state)
    assert not any(w[~state.sparse.mask[n]].any() for n, w in maskable(state, recipe).items())


@pytest.mark.parametrize("criterion", ["snip", "grasp", "random"])
def test_any_criterion_prunes_while_searching(criterion: str, tmp_path: Path) -> None:
    """Pruned weights stay pruned as the ratio grows; nothing else of the network is touched."""
    recipe = make_recipe("sgd", prune={"criterion": criterion, "batches": 2})
    session = make_session(recipe, tmp_path, steps=2)
    state = train_one_epoch(session, initial_state(SPEC, recipe, CPU))
    before = copies(state)
    modes = [part.training for part in state.module.modules()]
    prune_weights(session, state, 1, 0.4)
    first = {n: flags.clone() for n, flags in state.sparse.mask.items()}
    prune_weights(session, state, 2, 0.7)
    assert state.sparse.sparsity == pytest.approx(0.7, abs=1e-3)
    assert not any((state.sparse.mask[n] & ~flags).any() for n, flags in first.items())
    magnitudes = magnitude_mask({name: before["weights"][name] for name in first}, 0.7, recipe.prune)
    assert any(not torch.equal(magnitudes[n], flags) for n, flags in state.sparse.mask.items())
    for name, value in copies(state)["weights"].items():
        flags = state.sparse.mask.get(name, torch.tensor(True))
        assert torch.equal(value, before["weights"][name] * flags)
    assert [part.training for part in state.module.modules()] == modes


def test_sensitivities_of_the_epoch_s_own_batches(tmp_path: Path) -> None:
    """The mask of a prune while searching equals |w * mean gradient| of the network in eval mode, ranked plainly."""
    recipe = make_recipe("sgd", prune={"criterion": "snip", "batches": 2})
    session = make_session(recipe, tmp_path, steps=2)
    state = train_one_epoch(session, initial_state(SPEC, recipe, CPU))
    module = build_module(state.spec, recipe, CPU)
    module.load_state_dict(state.module.state_dict())
    module.eval()
    weights = {name: module.get_parameter(name) for name in maskable(state, recipe)}
    batches = list(session.batches.calibration(3, 2))
    for images, labels in batches:
        (nn.functional.cross_entropy(module(images), labels) / len(batches)).backward()
    scores = {n: (w * (0 if w.grad is None else w.grad)).detach().abs() for n, w in weights.items()}
    prune_weights(session, state, 3, 0.5)
    mask = state.sparse.mask
    kept = torch.cat([scores[name][flags] for name, flags in mask.items()])
    gone = torch.cat([scores[name][~flags] for name, flags in mask.items()])
    assert float(kept.min()) >= float(gone.max()) * (1 - 1e-4)
    assert float(gone.max()) > 0


def test_a_state_read_back_has_the_same_hash(optimizer: Optimizer, tmp_path: Path) -> None:
    """The log of a resumed run tells the hashes of an uninterrupted one."""
    recipe = make_recipe(optimizer)
    session = make_session(recipe, tmp_path, steps=1)
    state = train_one_epoch(session, initial_state(SPEC, recipe, CPU))
    prune_weights(session, state, 1, 0.5)
    save_checkpoint(session.run.checkpoint, state)
    again = load_checkpoint(session.run.checkpoint, recipe, CPU)
    # As `training.loop` logs it after every epoch.
    digests = [
        digest((f"{room}|{n}", t) for room, values in s.tensors().items() for n, t in values.items())
        for s in (state, again)
    ]
    assert digests[0] == digests[1]


def test_zero_is_the_other_way_to_come_back(tmp_path: Path) -> None:
    recipe = make_recipe("sgd", prune={"restore": "zero"})
    session = make_session(recipe, tmp_path, steps=1)
    state = initial_state(SPEC, recipe, CPU)
    prune_weights(session, state, 1, 0.5)
    mask = state.sparse.mask
    reactivate_weights(session, state, 1)
    assert not any(w[~mask[n]].any() for n, w in maskable(state, recipe).items())
    state = train_one_epoch(session, state)
    assert any(w[~mask[n]].any() for n, w in maskable(state, recipe).items())


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.weight.normal_(1.0, 0.3)
            norm.bias.normal_(0.3, 0.5)
            norm.running_mean.normal_(0.0, 0.5)
            norm.running_var.uniform_(0.5, 1.5)


@torch.no_grad()
def test_search_removes_what_is_small_in_both_copies(tmp_path: Path) -> None:
    """The larger of raw and averaged scale counts; removing channels with scale 0 keeps function and loss."""
    recipe = make_recipe("sgd", search=SearchSettings(interval=1, threshold=0.01, floor=0.0))
    session = make_session(recipe, tmp_path, steps=1)
    state = initial_state(SPEC, recipe, CPU)
    randomise(state.module)
    assert state.ema is not None
    scale = "blocks.s0_b1_0.unit_bn.weight"  # twelve channels: six of kernel 3, six of kernel 5
    raw, averaged = state.module.get_parameter(scale), state.ema.tensors[scale]
    for i, (a, b) in enumerate([(0.0, 0.01), (0.0, 0.02), (0.02, 0.0), (0.0, -0.005), (0.0, 0.0), (-0.02, -0.02)]):
        raw[i + 3], averaged[i + 3] = a, b
    state.module.get_parameter("blocks.s0_b0_0.unit_bn.weight").zero_()
    state.ema.tensors["blocks.s0_b0_0.unit_bn.weight"].zero_()
    x = torch.randn(5, 1, 8, 8)
    expected = state.module.eval()(x)
    prune_weights(session, state, 1, 0.0)  # a mask is on, too
    after = remove_units(session, state, 3, choose_units(session, state, {}, None))
    assert after.spec.units["s0_b1_0"].hidden == (5, 4)  # the first, fourth and fifth of those six are gone
    assert after.spec.units["s0_b0_0"].hidden == (0, 0)
    untouched = {n: u for n, u in SPEC.units.items() if n not in ("s0_b0_0", "s0_b1_0")}
    assert {n: after.spec.units[n] for n in untouched} == untouched
    torch.testing.assert_close(after.module.eval()(x), expected, rtol=1e-5, atol=1e-5)
    record = list(read_events(session.run.events))[-1]
    assert (record["event"], record["epoch"], record["removed_channels"], record["removed_tokens"]) == (
        "shrink",
        3,
        3 + 8,
        0,
    )
    assert record["loss_after"] == pytest.approx(record["loss_before"], rel=1e-5)
    assert remove_units(session, after, 4, choose_units(session, after, {}, None)) is after


def test_the_floor_keeps_the_strongest(tmp_path: Path) -> None:
    recipe = make_recipe("sgd", ema_decay=0.0, search=SearchSettings(interval=1, threshold=10.0, floor=0.05))
    session = make_session(recipe, tmp_path, steps=1)
    state = initial_state(SPEC, recipe, CPU)
    strong = "blocks.head_raise_0.unit_bn.weight"
    with torch.no_grad():
        state.module.get_parameter(strong)[2] = 5.0
    state = remove_units(session, state, 1, choose_units(session, state, {}, None))
    units = sum(len(g) for g in SPEC.unit_groups())
    assert sum(len(g) for g in state.spec.unit_groups()) == -(-units // 20)
    assert 5.0 in state.module.get_parameter(strong).tolist()


def test_empty_layers_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = make_recipe("sgd")
    session = dataclasses.replace(make_session(recipe, tmp_path, steps=1), reporter=Reporter(1, 1, quiet=False))
    state = initial_state(SPEC, recipe, CPU)
    with torch.no_grad():
        state.module.get_parameter("last_conv.weight").mul_(1e-6)
    prune_weights(session, state, 4, 0.5)
    record = list(read_events(session.run.events))[-1]
    assert record == {
        "event": "prune",
        "epoch": 4,
        "ratio": 0.5,
        "sparsity": pytest.approx(0.5, abs=1e-3),
        "empty_layers": ["last_conv.weight"],
    }
    assert "1 layers have no weight left after pruning to 50% (last_conv.weight)" in capsys.readouterr().err


def test_an_epoch_does_what_the_plan_says(tmp_path: Path) -> None:
    """Both due: remove, bring back, prune, measure; then a prune alone; the last epoch ends sparse."""
    recipe = make_recipe(
        "sgd",
        epochs=4,
        recalibrate_batches=1,
        search=SearchSettings(interval=2, threshold=0.5, floor=0.0),
        prune={"interval": 1, "progressive": False},
    )
    session = make_session(recipe, tmp_path, steps=1)
    state = initial_state(SPEC, recipe, CPU)
    for epoch in (1, 2, 3, 4):
        state = TwoInOne().on_epoch_end(session, state, epoch)
        assert state.sparse.sparsity == pytest.approx(0.5, abs=1e-3)
    order = [(e["epoch"], e["event"]) for e in read_events(session.run.events)]
    assert order == [
        (1, "prune"),
        (1, "recalibrate"),
        (2, "shrink"),
        (2, "reactivate"),
        (2, "prune"),
        (2, "recalibrate"),
        (3, "prune"),
        (3, "recalibrate"),
        (4, "shrink"),
        (4, "prune"),
        (4, "recalibrate"),
    ]


def warnings(tmp_path: Path) -> Iterator[tuple[float, str | None]]:
    """Yield the warnings at several strengths of the penalty, for SGD."""
    for rho in (1e-6, 1e-3, 1.0):
        recipe = make_recipe("sgd", epochs=10, search=SearchSettings(interval=1, rho=rho))
        yield rho, search_warning(make_session(recipe, tmp_path, steps=2))


def test_a_penalty_that_cannot_work_is_reported(tmp_path: Path) -> None:
    """20 steps of lr 0.01 and momentum 0.9: 0.2 * rho * 10 * (largest p) < 1 unless rho is about 0.1 or more."""
    messages = dict(warnings(tmp_path))
    assert messages[1.0] is None
    for rho in (1e-6, 1e-3):
        message = messages[rho]
        assert message is not None
        assert "try search.rho" in message
        tried = float(message.split("try search.rho ")[1].split()[0])
        recipe = make_recipe("sgd", epochs=10, search=SearchSettings(interval=1, rho=tried))
        assert search_warning(make_session(recipe, tmp_path, steps=2)) is None


def test_means_of_gates_that_a_checkpoint_had_follow_the_network_to_its_device() -> None:
    """A checkpoint is read on the CPU; "meta" stands for a GPU."""
    assert _decay(torch.ones(3), torch.ones(3, device="meta")).device.type == "meta"
    assert _decay(torch.ones(1), torch.zeros(1)).item() == pytest.approx(0.98)
