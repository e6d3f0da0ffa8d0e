"""Teachers for knowledge distillation: the running average, a ticket, a network of timm or torchvision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.recipe import DistillSettings, Recipe
from ..data import Preprocessing
from ..errors import UserError
from ..models import LIBRARIES, library_network
from ..models.weights_file import match_weights, read_weights
from .published import published_network, published_preprocessing
from .state import TrainState, build_module

# Scores of normalised images, in the classes of the data.
Teacher = Callable[[Tensor], Tensor]


def distillation_loss(loss: Tensor, scores: Tensor, teacher: Tensor, settings: DistillSettings) -> Tensor:
    """(1 - share) * loss + share * T^2 * KL(teacher / T || network / T), averaged over batch and pixels.

    Scores are (B, K) or (B, K, H, W).
    """
    t = settings.temperature
    wanted, got = (F.log_softmax(each.float() / t, dim=1) for each in (teacher, scores))
    divergence = F.kl_div(got, wanted, reduction="none", log_target=True).sum(dim=1).mean()
    return (1 - settings.share) * loss + settings.share * t**2 * divergence


class EmaTeacher:
    """The averaged network under the current mask, with the running statistics of the network in training.

    Its parameters share the averages' memory, but for the masked ones, which are refreshed before every use.
    """

    def __init__(self, state: TrainState, recipe: Recipe) -> None:
        assert state.ema is not None
        device = next(state.module.parameters()).device
        self.module = build_module(state.spec, recipe, device).eval().requires_grad_(False)
        self.every = state.ema.tensors
        live = dict(state.module.named_buffers())
        for name, buffer in self.module.named_buffers():
            buffer.data = live[name]
        self.remask(state.sparse.mask)

    def remask(self, mask: Mapping[str, Tensor]) -> None:
        """Take over a mask, which may have changed between two steps."""
        self.averages: list[Tensor] = []
        self.masks: list[Tensor] = []
        self.masked: list[Tensor] = []  # parameters of the module, in the order of the averages
        for name, parameter in self.module.named_parameters():
            average = self.every[name]
            if name in mask:
                self.averages.append(average)
                self.masks.append(torch.empty_like(average).copy_(mask[name]))
                parameter.data = torch.empty_like(average)
                self.masked.append(parameter)
            else:
                parameter.data = average

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        if self.masked:
            torch._foreach_copy_(self.masked, torch._foreach_mul(self.averages, self.masks))
        scores: Tensor = self.module(images)
        return scores


class FixedTeacher:
    """A trained network, which sees the images in its own normalisation and size.

    Args:
        module: The network; takes (B, C, H, W) and returns (B, classes).
        prepared: Normalisation of the images that it is given.
        wants: Normalisation and size that it was trained with.
        device: Device of the network.
    """

    def __init__(self, module: nn.Module, prepared: Preprocessing, wants: Preprocessing, device: torch.device) -> None:
        self.module = module.to(device).eval().requires_grad_(False)
        mean, std, mean_own, std_own = (
            torch.tensor(values, device=device).view(-1, 1, 1)
            for values in (prepared.mean, prepared.std, wants.mean, wants.std)
        )
        self.factor, self.offset = std / std_own, (mean - mean_own) / std_own
        self.size = wants.size

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        images = images * self.factor + self.offset
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, size=self.size, mode="bilinear", align_corners=False, antialias=True)
        scores: Tensor = self.module(images)
        return scores


def fixed_teacher(
    settings: DistillSettings, classes: tuple[str, ...], prepared: Preprocessing, device: torch.device
) -> FixedTeacher:
    """Load a "timm:NAME" or "torchvision:NAME" teacher for the classes of the data.

    Raises:
        UserError: The name, the weights or the number of classes do not fit.
    """
    assert settings.teacher is not None
    library, _, name = settings.teacher.partition(":")
    if library not in LIBRARIES or not name:
        raise UserError(
            f"distill.teacher '{settings.teacher}' is unknown; "
            "give ema, a ticket's folder, timm:NAME or torchvision:NAME"
        )
    module, wants = _network(library, name, len(classes), settings.weights is None)
    if settings.weights is not None:
        _load_weights(module, Path(settings.weights))
    if prepared.channels != wants.channels:
        raise UserError(f"{settings.teacher} takes {wants.channels} channels, the data has {prepared.channels}")
    with torch.no_grad():
        outputs = module.eval()(torch.zeros(1, wants.channels, *wants.size)).shape[1]
    if outputs != len(classes):
        raise UserError(
            f"{settings.teacher} knows {outputs} classes, the data has {len(classes)}; "
            "give weights that were trained on this data with --distill.weights FILE"
        )
    return FixedTeacher(module, prepared, wants, device)


def _network(library: str, name: str, classes: int, published: bool) -> tuple[nn.Module, Preprocessing]:
    """Return a network of a library, and the preprocessing of the images that it wants."""
    if published:
        module = published_network(library, name, "give --distill.weights FILE")
    else:
        module = library_network(library, name.partition(".")[0], num_classes=classes)
    return module, published_preprocessing(library, name)


def _load_weights(module: nn.Module, path: Path) -> None:
    wanted = module.state_dict()
    match = match_weights(wanted, read_weights(path, "distill.weights"))
    if lacking := [name for name in wanted if name not in match.tensors]:
        raise UserError(f"distill.weights {path} does not fit the teacher: {match.describe(lacking)}")
    module.load_state_dict(dict(match.tensors))
