"""The ticket: a small sparse network and all that is needed to use it, saved as JSON and safetensors."""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from ..cost import Cost, count
from ..data import Box, Preprocessing, open_image
from ..device import find_device, preserve_random_state
from ..errors import UserError
from ..models import Network, Spec, as_tuples
from ..models.factory import build_bounded, spec_from_json
from ..models.tensor_file import load_tensors, save_tensors
from ..plugins import check_trust, plugin_names, recipe_plugins
from ..storage import read_json, replace_folder, write_text
from ..tasks import Task, find_task, task_name_of_head
from .card import format_card
from .hub import fetch, is_hub_name, upload

FORMAT_VERSION = 2  # of config.json; raised when an older one cannot be read any more
# An image in memory or on disk; arrays are uint8 (H, W) or (H, W, 3).
ImageLike = str | Path | Image.Image | npt.NDArray[np.uint8]

_WEIGHTS, _MASK, _CONFIG, _CARD = "model.safetensors", "mask.safetensors", "config.json", "README.md"
_DAMAGE = (
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
    RuntimeError,
    SafetensorError,
)  # signs of it


@dataclass(frozen=True, eq=False)
class Ticket:
    """A drawn network and all that is needed to use it.

    Tickets are equal if architecture, tensors and everything that is said about them are.

    Attributes:
        spec: The architecture.
        weights: Parameters and BN statistics by name; pruned weights are zero.
        mask: Parameter name -> bool tensor, True where the weight lives; empty if dense.
        classes: Names of the outputs.
        preprocessing: The way from an image to an input.
        about: Everything else, as JSON: recipe, metrics, versions, the runs that led to it.
        limbs: Pairs of joints between which a line is drawn.
    """

    spec: Spec
    weights: Mapping[str, Tensor]
    mask: Mapping[str, Tensor]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    about: Mapping[str, Any]
    limbs: tuple[tuple[int, int], ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ticket):
            return NotImplemented
        tensors = ((self.weights, other.weights), (self.mask, other.mask))
        return self._text == other._text and all(
            mine.keys() == theirs.keys() and all(torch.equal(mine[name].cpu(), theirs[name].cpu()) for name in mine)
            for mine, theirs in tensors
        )

    def __hash__(self) -> int:
        return hash((self._text, frozenset(self.weights), frozenset(self.mask)))

    @property
    def _text(self) -> str:
        """All but the tensors, as JSON."""
        parts = self.spec.to_json(), self.classes, asdict(self.preprocessing), dict(self.about), self.limbs
        return json.dumps(parts, sort_keys=True)

    @cached_property
    def module(self) -> Network:
        """The network, in eval mode on the CPU."""
        with preserve_random_state(torch.device("cpu")):  # fresh weights, which are replaced at once
            module = self.spec.build()
        module.load_state_dict(dict(self.weights))
        return module.eval()

    def with_module(self, module: Network) -> Ticket:
        """Return the ticket with another implementation of its network on the CPU, which must compute the same."""
        other = replace(self)
        other.__dict__["module"] = module  # where `cached_property` looks first
        return other

    def module_on(self, device: torch.device) -> Network:
        """Return the network on a device: `module` itself, or a copy."""
        return self.module if device.type == "cpu" else copy.deepcopy(self.module).to(device)

    @property
    def task(self) -> Task:
        """The task it was drawn for, as its recipe describes it."""
        recipe = self.about.get("recipe", {})
        task = find_task(recipe.get("task") or task_name_of_head(self.spec.head))
        return task.from_recipe(self.classes, recipe, self.limbs)

    @cached_property
    def cost(self) -> Cost:
        """Parameters and MACs, dense and under the mask."""
        return count(self.spec, mask=self.mask)

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        boxes: Sequence[Box] | Iterable[Sequence[Box]] | None = None,
        device: str = "auto",
    ) -> Any:
        """Run inference on one image, or on several.

        Args:
            images: A path, a PIL image or an array, uint8 (H, W) or (H, W, 3); or several of them.
            boxes: For poses, the boxes of the people in the image, or in every one of several: x, y of the upper left
                corner, width and height, in pixels. Without, every image is taken for the region of one person.
            device: Device that the network runs on, e.g. "cpu" or "cuda:1"; "auto" takes a GPU if there is one.

        Returns:
            One result for one image, a list of them for several. A result is, of a classification, (class,
            probability) from likely to unlikely, five at most; of a segmentation the class of every pixel, uint8
            (height, width); of a counting the density, float32 (h, w), whose sum is the count; of poses x, y in pixels
            and score of every joint, float32 (people, joints, 3); of a detection class, score and box of every object,
            the best first; of a user's own task whatever its ``predict`` returns.

        Raises:
            UserError: A file is missing or not an image, an array has another shape or type, there are boxes for
                another task than pose, or there is no such device.
        """
        predict = self.predictor(device)
        if isinstance(images, str | Path | Image.Image | np.ndarray):
            return predict(_as_image(images), cast(Sequence[Box] | None, boxes))
        if boxes is None:
            return [predict(_as_image(image), None) for image in images]
        lists = cast(Iterable[Sequence[Box]], boxes)
        return [predict(_as_image(image), some) for image, some in zip(images, lists, strict=True)]

    def predictor(self, device: str = "auto") -> Callable[[Image.Image, Sequence[Box] | None], Any]:
        """Return a function that predicts for one image after the other, with boxes or None; see `predict`."""
        place, task = find_device(device), self.task
        module = self.module_on(place)

        def predict(image: Image.Image, boxes: Sequence[Box] | None) -> Any:
            if boxes is not None and not task.rules.boxes:
                raise UserError(
                    f"boxes are for tickets that find joints, this one is for {self.spec.head}; leave them out"
                )
            extra = {} if boxes is None else {"boxes": boxes}
            return task.predict(module, self.preprocessing, image, device=place, **extra)

        return predict

    def prepare(self, image: ImageLike) -> Tensor:
        """Return the network's input (1, C, H, W) of one image: grey or RGB, resized, normalised."""
        return self.preprocessing(self.preprocessing.pixels(_as_image(image))[None])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the ticket in the Hugging Face layout; the folder appears whole and on the disk, or not at all.

        Raises:
            UserError: The folder holds something else than a ticket.
            OSError: It cannot be written, or the disk is full.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / _CONFIG).is_file() and (folder.is_file() or any(folder.iterdir())):
            raise UserError(f"{folder} exists and is no ticket; choose another folder")
        with replace_folder(folder) as scratch:
            save_tensors(scratch / _WEIGHTS, self.weights)
            save_tensors(scratch / _MASK, self.mask)
            checksums = {name: _sha256(scratch / name) for name in (_WEIGHTS, _MASK)}
            write_text(scratch / _CONFIG, json.dumps(self._config() | {"sha256": checksums}, indent=1) + "\n")
            write_text(scratch / _CARD, self.card())

    def _config(self) -> dict[str, Any]:
        """Return what is said of the ticket in its folder, as plain JSON."""
        return {
            "library_name": "supertickets",
            "format_version": FORMAT_VERSION,
            "spec": self.spec.to_json(),
            "classes": list(self.classes),
            "limbs": self.limbs,
            "preprocessing": asdict(self.preprocessing),
            "cost": self.cost.to_json(),
            "about": dict(self.about),
        }

    @staticmethod
    def from_pretrained(source: str | Path, trust: Iterable[str] = ()) -> Ticket:
        """Load a ticket from a folder, or from the Hugging Face hub if no such folder exists and it looks like a name.

        Args:
            source: Folder of a ticket or of its run, or a name on the hub.
            trust: Modules that may be imported if the ticket names them, e.g. ``("package.module",)``.

        Raises:
            UserError: A file is missing or damaged, another version wrote it, or it names code that is not trusted;
                nothing has been imported then.
        """
        folder = _find_folder(source)
        try:
            config = read_json(folder / _CONFIG)
            _check_format(config, folder)
            check_trust(_code_of(config), trust, f"ticket {folder}")
            return _read_ticket(config, folder)
        except _DAMAGE as error:
            if isinstance(error, UserError):
                raise
            raise _damaged(str(folder / _CONFIG), error) from None

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> None:
        """Upload the ticket to the Hugging Face hub."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "ticket")
            upload(Path(folder) / "ticket", repo_id, private=private)

    def card(self) -> str:
        """Return the ticket's card, as Markdown.

        Raises:
            UserError: What the ticket says of its origin is damaged.
        """
        try:
            return format_card(self.spec, self.task, self.cost, self.about)
        except _DAMAGE as error:
            raise _damaged("what the ticket says of its origin (about)", error) from None


def load(source: str | Path, trust: Iterable[str] = ()) -> Ticket:
    """Load a ticket; see `Ticket.from_pretrained`."""
    return Ticket.from_pretrained(source, trust)


def _damaged(what: str, error: Exception) -> UserError:
    why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return UserError(f"{what} is damaged ({why}); copy the whole folder again")


def _find_folder(source: str | Path) -> Path:
    """Return the folder of a ticket, with all its files."""
    folder = Path(source)
    if not folder.exists() and is_hub_name(str(source)):
        folder = fetch(str(source))
    if (folder / "ticket" / _CONFIG).is_file():  # a run directory
        folder = folder / "ticket"
    elif (folder / "run.json").is_file():
        raise UserError(f"{folder} is a run without a ticket yet; go on with: supertickets resume {folder}")
    if not folder.is_dir():
        raise UserError(f"ticket {folder} does not exist; give the folder that a draw wrote (RUN/ticket)")
    names = (_CONFIG, _WEIGHTS, _MASK)
    if not any((folder / name).is_file() for name in names):
        raise UserError(f"{folder} is no ticket and no run; give the folder that a draw wrote (RUN, or RUN/ticket)")
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"ticket {folder} lacks {name}; copy the whole folder again")
    return folder


def _check_format(config: Mapping[str, Any], folder: Path) -> None:
    version = config.get("format_version", 1)
    if version != FORMAT_VERSION:
        raise UserError(
            f"ticket {folder} has format {version}, this version of supertickets reads format {FORMAT_VERSION}; "
            "use the version that wrote it, or draw it again"
        )


def _code_of(config: Mapping[str, Any]) -> list[str]:
    """Return the names of all code that a ticket would have imported."""
    return [*plugin_names(config["spec"]), *recipe_plugins(config["about"]["recipe"])]


def _read_ticket(config: Mapping[str, Any], folder: Path) -> Ticket:
    for name in (_WEIGHTS, _MASK):
        if _sha256(folder / name) != config["sha256"][name]:
            raise UserError(f"{folder / name} is damaged (its checksum differs); copy the whole folder again")
    ticket = Ticket(
        spec=spec_from_json(config["spec"]),
        weights=load_tensors(folder / _WEIGHTS)[0],
        mask=load_tensors(folder / _MASK)[0],
        classes=tuple(config["classes"]),
        preprocessing=Preprocessing(**{key: as_tuples(value) for key, value in config["preprocessing"].items()}),
        about=config["about"],
        limbs=as_tuples(config.get("limbs", [])),
    )
    if ticket.task.head != ticket.spec.head:
        raise ValueError(f"a head for {ticket.spec.head}, but a task for {ticket.task.head}")
    if len(ticket.classes) != ticket.spec.num_classes:
        raise ValueError(f"{len(ticket.classes)} classes for {ticket.spec.num_classes} outputs")
    ticket.preprocessing.check(ticket.spec.in_channels)
    _check_tensors(ticket)
    return ticket


def _check_tensors(ticket: Ticket) -> None:
    """Check that weights and mask are those of the network, before memory is taken for it."""
    wanted = build_bounded(ticket.spec, len(ticket.weights)).state_dict()
    shapes = {name: (value.shape, value.dtype) for name, value in wanted.items()}
    if shapes != {name: (value.shape, value.dtype) for name, value in ticket.weights.items()}:
        raise ValueError("the weights are those of another network")
    for name, flags in ticket.mask.items():
        if name not in wanted or flags.shape != wanted[name].shape or flags.dtype != torch.bool:
            raise ValueError(f"the mask of {name} is that of another network")


def _as_image(image: ImageLike) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, str | Path):
        return open_image(Path(image))
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim < 2
        or image.shape[2:] not in ((), (3,))
    ):
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"no image: {kind}. Give a path, a PIL image, or an array of uint8, (H, W) or (H, W, 3)")
    return Image.fromarray(image)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
