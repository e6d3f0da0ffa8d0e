"""Teachers: what the loss asks for, whose scores they are, and which ones are refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms.v2 import functional as TF

import supertickets as st
from supertickets import UserError
from supertickets.config.recipe import DistillSettings, Recipe
from supertickets.data import Preprocessing
from supertickets.models.factory import create_spec
from supertickets.pruning import SparseState
from supertickets.tasks import Classification
from supertickets.training import Reporter, RunDir, Runtime, Session, TrainState, initial_state
from supertickets.training.state import build_module
from supertickets.training.step import Stepper
from supertickets.training.teacher import EmaTeacher, FixedTeacher, distillation_loss, fixed_teacher

CPU = torch.device("cpu")
CLASSES = ("cat", "dog", "eel")
RGB = Preprocessing(3, (16, 16), (0.5, 0.4, 0.3), (0.25, 0.2, 0.1))
IMAGENET = Preprocessing(3, (224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def make(words: list[str], *more: str) -> tuple[Recipe, TrainState]:
    """A network before its first step, and the settings it has."""
    recipe = st.load_recipe("digits", [*words, *more])
    fitted = {"in_channels": 1, "image_size": (8, 8), "num_classes": 10}
    spec = create_spec(
        recipe.supernet.name, transformer=recipe.supernet.transformer, **fitted, **recipe.supernet.settings
    )
    return recipe, initial_state(spec, recipe, CPU)


def stepper(recipe: Recipe, state: TrainState, teacher: FixedTeacher | None = None) -> Stepper:
    task = Classification(tuple("0123456789"), recipe.label_smoothing)
    batches, run = SimpleNamespace(steps_per_epoch=5), RunDir(Path("unused"), writes=False)
    parts = (recipe, state.spec, batches, task, Runtime(CPU), run, Reporter(1, 5, quiet=True))
    return Stepper(Session(*parts, teacher=teacher), state)  # type: ignore[arg-type]


def batch(seed: int, count: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 8, 8, generator=generator), torch.randint(0, 10, (count,), generator=generator)


# The loss ------------------------------------------------------------------------------------------------------------


def test_the_loss_by_hand() -> None:
    """At T = 2 the teacher gives (1/2, 1/2) and the network (1/4, 3/4): KL = ln(4/3) / 2; the second sample agrees."""
    scores = torch.tensor([[0.0, 2 * math.log(3)], [1.0, 2.0]])
    teacher = torch.tensor([[5.0, 5.0], [1.0, 2.0]])
    settings = DistillSettings(share=0.25, temperature=2.0)
    wanted = 0.75 * 1.6 + 0.25 * 4 * (math.log(4 / 3) / 2) / 2
    assert distillation_loss(torch.tensor(1.6), scores, teacher, settings).item() == pytest.approx(wanted)


def test_without_a_share_the_loss_is_that_of_the_labels() -> None:
    scores, teacher = torch.randn(2, 4, 5)
    assert distillation_loss(torch.tensor(1.25), scores, teacher, DistillSettings(share=0)).item() == 1.25


def test_with_the_whole_share_labels_do_not_count() -> None:
    scores, teacher = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    settings = DistillSettings(share=1, temperature=3.0)
    losses = [distillation_loss(torch.tensor(loss), scores, teacher, settings).item() for loss in (0.0, 100.0)]
    p, q = (torch.softmax(x.double() / 3, 1) for x in (teacher, scores))
    assert losses[0] == losses[1] == pytest.approx(float(9 * (p * (p / q).log()).sum() / 4), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_equal_scores_do_not_diverge(temperature: float) -> None:
    """Scores count up to a constant per sample."""
    scores = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    settings = DistillSettings(share=1, temperature=temperature)
    assert distillation_loss(torch.tensor(7.0), scores, scores + 3, settings).item() == pytest.approx(0, abs=1e-6)


def test_gradients_keep_their_size_at_any_high_temperature() -> None:
    """Hinton et al. (2015): for large T, T^2 * dKL/dz approaches (z - v) / K per sample, for scores of mean 0."""
    scores, teacher = torch.tensor([[1.0, -1.0, 0.0]], requires_grad=True), torch.tensor([[-2.0, 0.0, 2.0]])
    for temperature in (100.0, 1000.0):
        settings = DistillSettings(share=1, temperature=temperature)
        (gradient,) = torch.autograd.grad(distillation_loss(torch.zeros(()), scores, teacher, settings), scores)
        torch.testing.assert_close(gradient, (scores - teacher).detach() / 3, rtol=0.03, atol=0.01)


# The running average -------------------------------------------------------------------------------------------------


def judged(state: TrainState, recipe: Recipe, images: Tensor) -> Tensor:
    """Scores of the network that would be evaluated, before recalibration."""
    module = build_module(state.spec, recipe, CPU)
    module.load_state_dict(state.deployable().weights)
    with torch.no_grad():
        return module.eval()(images)


@pytest.mark.parametrize("masked", [False, True])
def test_the_average_teaches_what_would_be_evaluated(quick_words: list[str], masked: bool) -> None:
    recipe, state = make(quick_words, "--distill.teacher", "ema")
    if masked:
        generator = torch.Generator().manual_seed(3)
        named = state.parameters()
        mask = {
            name: torch.rand(named[name].shape, generator=generator) > 0.5
            for name in state.module.maskable_weights(transformer=False)
        }
        with torch.no_grad():
            for name, flags in mask.items():
                named[name].mul_(flags)
        state.sparse = SparseState(mask, {}, 0.5)
    state.module.train()
    take = stepper(recipe, state)
    assert isinstance(take.teacher, EmaTeacher)
    images, _ = batch(99)
    scores = [take.teacher(images)]
    torch.testing.assert_close(scores[0], judged(state, recipe, images))
    for step in range(3):
        take(batch(step), 0, step)
        state.position = dataclasses.replace(state.position, total_steps=step + 1)
        scores.append(take.teacher(images))
        torch.testing.assert_close(scores[-1], judged(state, recipe, images))
        # Kernels may round differently by where a tensor lies in memory; what they compute with is equal to the bit.
        wanted = state.deployable().weights
        assert all(torch.equal(value, wanted[name]) for name, value in take.teacher.module.state_dict().items())
        assert not torch.equal(scores[-1], scores[-2])
    if masked:  # averages of pruned weights are kept, and must not be seen
        assert state.ema is not None
        hidden = [state.ema.tensors[name][~flags].abs().max() for name, flags in state.sparse.mask.items()]
        assert max(map(float, hidden)) > 0


def test_the_average_takes_over_a_mask_within_an_epoch(quick_words: list[str]) -> None:
    recipe, state = make(quick_words, "--ema_decay", "0.9", "--distill.teacher", "ema")
    step = stepper(recipe, state)
    assert isinstance(step.teacher, EmaTeacher)
    name = state.module.maskable_weights()[1]
    for share in (0.5, 0.25):
        flags = torch.rand(state.parameters()[name].shape) < share
        state.sparse = SparseState({name: flags}, {}, 1 - share)
        step.remask()
        step(batch(1), 0, 0)
        taught = dict(step.teacher.module.named_parameters())[name]
        assert torch.equal(taught != 0, flags)


def test_the_average_is_read_and_not_touched(quick_words: list[str]) -> None:
    recipe, state = make(quick_words, "--distill.teacher", "ema")
    assert state.ema is not None
    take = stepper(recipe, state)
    assert take.teacher is not None
    weights = {name: value.clone() for name, value in state.module.state_dict().items()}
    averages = {name: value.clone() for name, value in state.ema.tensors.items()}
    state.module.train()
    scores = take.teacher(batch(0)[0])
    assert not scores.requires_grad
    assert state.module.training
    assert all(torch.equal(value, weights[name]) for name, value in state.module.state_dict().items())
    assert all(torch.equal(value, averages[name]) for name, value in state.ema.tensors.items())


# Another network -----------------------------------------------------------------------------------------------------


def test_a_teacher_sees_its_own_normalisation() -> None:
    wants = Preprocessing(3, (16, 16), (0.1, 0.2, 0.9), (0.5, 0.1, 0.3))
    pixels = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    scores = FixedTeacher(nn.Identity(), RGB, wants, CPU)(RGB(pixels))
    torch.testing.assert_close(scores, wants(pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (24, 10)])
def test_a_teacher_sees_its_own_size(size: tuple[int, int]) -> None:
    pixels = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    scores = FixedTeacher(nn.Identity(), RGB, dataclasses.replace(IMAGENET, size=size), CPU)(RGB(pixels))
    resized = TF.resize(pixels.to(torch.float32), list(size), antialias=True) / 255
    wanted = (resized - torch.tensor(IMAGENET.mean).view(3, 1, 1)) / torch.tensor(IMAGENET.std).view(3, 1, 1)
    torch.testing.assert_close(scores, wanted, rtol=1e-4, atol=1e-4)


def test_a_teacher_is_in_eval_mode_and_learns_nothing() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9), nn.Flatten(), nn.Linear(3 * 16 * 16, 3)).train()
    teacher = FixedTeacher(module, RGB, RGB, CPU)
    images = torch.randn(4, 3, 16, 16)
    first, second = teacher(images), teacher(images)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert module[0].running_mean.tolist() == [0, 0, 0]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A network with random weights for three classes, and its weights in a file."""
    torch.manual_seed(0)
    module = models.resnet18(num_classes=3).eval()
    path = tmp_path_factory.mktemp("teacher") / "resnet18.pt"
    torch.save(module.state_dict(), path)
    return module, path


def ask(
    teacher: str, weights: Path | None, classes: tuple[str, ...] = CLASSES, data: Preprocessing = RGB
) -> FixedTeacher:
    settings = DistillSettings(teacher=teacher, weights=None if weights is None else str(weights))
    return fixed_teacher(settings, classes, data, CPU)


def refusal(teacher: str, weights: Path | None, classes: tuple[str, ...] = CLASSES, data: Preprocessing = RGB) -> str:
    with pytest.raises(UserError) as error:
        ask(teacher, weights, classes, data)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("ending", ["pt", "pth", "safetensors"])
def test_a_network_of_torchvision_teaches(resnet: tuple[nn.Module, Path], tmp_path: Path, ending: str) -> None:
    """Its file may be of any form that a run can begin with."""
    module, path = resnet
    if ending == "pth":
        path = tmp_path / "weights.pth"
        torch.save({"state_dict": {f"module.{name}": value for name, value in module.state_dict().items()}}, path)
    if ending == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(dict(module.state_dict()), path)
    teacher = ask("torchvision:resnet18", path)
    pixels = torch.randint(0, 256, (1, 3, 224, 224), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        wanted = module(IMAGENET(pixels))
    torch.testing.assert_close(teacher(RGB(pixels)), wanted, rtol=1e-3, atol=1e-3)
    assert tuple(teacher(torch.zeros(2, 3, 16, 16)).shape) == (2, 3)


@pytest.mark.parametrize("name", ["keras:vgg", "resnet18:torchvision", "torchvision:", "timm:", ":"])
def test_an_unknown_library_is_named(name: str, resnet: tuple[nn.Module, Path]) -> None:
    assert f"'{name}' is unknown" in refusal(name, resnet[1])


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_an_unknown_model_is_named(library: str, resnet: tuple[nn.Module, Path]) -> None:
    if library == "timm":
        pytest.importorskip("timm")
    text = refusal(f"{library}:resnet18000", resnet[1])
    assert "'resnet18000'" in text
    assert library in text


def test_a_detector_is_no_teacher(resnet: tuple[nn.Module, Path]) -> None:
    assert "classification" in refusal("torchvision:fasterrcnn_resnet50_fpn", resnet[1])


def test_missing_weights_are_named(tmp_path: Path) -> None:
    for name in ("weights.pt", "weights.safetensors"):
        assert f"{tmp_path / name} does not exist" in refusal("torchvision:resnet18", tmp_path / name)


def test_weights_of_other_classes_are_refused(resnet: tuple[nn.Module, Path]) -> None:
    text = refusal("torchvision:resnet18", resnet[1], ("a", "b", "c", "d"))
    assert str(resnet[1]) in text
    assert "does not fit" in text


def test_weights_of_another_network_are_refused(resnet: tuple[nn.Module, Path]) -> None:
    assert "does not fit" in refusal("torchvision:resnet34", resnet[1])


DAMAGES = {"cut": lambda raw: raw[: len(raw) // 2], "text": lambda raw: b"weights", "empty": lambda raw: b""}


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_damaged_weights_are_named(resnet: tuple[nn.Module, Path], tmp_path: Path, ending: str, what: str) -> None:
    path = tmp_path / f"weights.{ending}"
    path.write_bytes(DAMAGES[what](resnet[1].read_bytes()[:100_000]))
    assert str(path) in refusal("torchvision:resnet18", path)


def test_weights_are_no_way_to_run_code(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "trace",)  # type: ignore[return-value]

    torch.save({"fc.weight": Runs()}, tmp_path / "weights.pt")
    assert "weights.pt" in refusal("torchvision:resnet18", tmp_path / "weights.pt")
    assert not (tmp_path / "trace").exists()


def test_grey_data_has_no_use_for_a_teacher_in_colour(resnet: tuple[nn.Module, Path]) -> None:
    text = refusal("torchvision:resnet18", resnet[1], data=Preprocessing(1, (8, 8), (0.5,), (0.5,)))
    assert "3 channels" in text
    assert "data has 1" in text


def test_a_published_network_of_other_classes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without weights of one's own the published ones are taken, which know ImageNet's classes."""
    asked = {}

    def get_model(name: str, **settings: object) -> nn.Module:
        asked[name] = settings
        return models.resnet18(num_classes=7)

    monkeypatch.setattr(models, "get_model", get_model)
    text = refusal("torchvision:resnet18", None)
    assert asked == {"resnet18": {"weights": "DEFAULT"}}
    assert "knows 7 classes, the data has 3" in text
    assert "--distill.weights" in text


def test_published_weights_that_cannot_be_fetched_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_model(name: str, **settings: object) -> nn.Module:
        raise OSError("no route\nto host")

    monkeypatch.setattr(models, "get_model", get_model)
    text = refusal("torchvision:resnet18", None)
    assert "no route to host" in text
    assert "--distill.weights" in text


# In the step ---------------------------------------------------------------------------------------------------------


def gradients(take: Stepper, state: TrainState, samples: tuple[Tensor, Tensor]) -> tuple[float, dict[str, Tensor]]:
    loss = take.gradients(samples)
    return float(loss), {name: p.grad.clone() for name, p in state.parameters().items() if p.grad is not None}


def test_a_batch_in_two_parts_has_the_gradients_of_the_whole(quick_words: list[str]) -> None:
    """BN uses its running statistics here, and nothing is dropped, so that parts do not differ by that."""
    recipe, state = make(quick_words, "--distill.teacher", "ema", "--label_smoothing", "0.1")
    state.module.eval()
    whole, parts = (
        gradients(stepper(dataclasses.replace(recipe, accumulate=n), state), state, batch(0, 12)) for n in (1, 3)
    )
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    assert parts[1].keys() == whole[1].keys() == state.parameters().keys()
    assert max(float(value.abs().max()) for value in whole[1].values()) > 1e-3
    for name, value in whole[1].items():
        torch.testing.assert_close(parts[1][name], value, rtol=1e-3, atol=1e-6)


def test_the_loss_of_a_step_asks_the_teacher(quick_words: list[str]) -> None:
    recipe, state = make(quick_words, "--distill.share", "0.3", "--distill.temperature", "2")
    state.module.eval()
    torch.manual_seed(1)
    prepared = Preprocessing(1, (8, 8), (0.5,), (0.5,))
    teacher = FixedTeacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), prepared, prepared, CPU)
    images, labels = batch(0)
    loss, _ = gradients(stepper(recipe, state, teacher), state, (images, labels))
    with torch.no_grad():
        scores = state.module(images)
        plain = nn.functional.cross_entropy(scores, labels, label_smoothing=recipe.label_smoothing)
        wanted = distillation_loss(plain, scores, teacher(images), recipe.distill)
    assert loss == pytest.approx(float(wanted), rel=1e-5)
    assert loss != pytest.approx(float(plain), rel=1e-3)
