"""The ticket: a small sparse network as a folder of JSON and safetensors that runs without the training code."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .cost import Cost, count
from .cost.budget import format_cost
from .data import Box, Preprocessing, open_image
from .device import find_device
from .errors import UserError
from .models import Network, Spec, as_tuples
from .models.factory import spec_from_json
from .tasks import Pose, Task, task_of_head

# What the hub calls tasks.
_HUB_TAGS = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "keypoints": "keypoint-detection",
    "detection": "object-detection",
    "density": "image-to-image",  # it has no tag for counting
}
# What a network's outputs are called where they are no classes.
_OUTPUTS = {"keypoints": "joints", "density": "map"}
# What a card begins with.
_SAID = {
    "draw": "A small network, searched and pruned in one training run.",
    "search": "A small network that a search found; its weights are those that all networks of the space share.",
    "train": "A network, neither searched nor pruned.",
    "retrain": "A small network, trained further.",
    "transfer": "A small network whose features were found on other data.",
    "prune": "A network, pruned in one shot.",
}
_WEIGHTS, _MASK, _CONFIG, _CARD = "model.safetensors", "mask.safetensors", "config.json", "README.md"


@dataclass(frozen=True)
class Ticket:
    """A drawn network and all that is needed to use it.

    Attributes:
        spec: The architecture.
        weights: Parameters and BN statistics by name; pruned weights are zero.
        mask: Parameter name -> bool tensor, True where the weight lives; empty if dense.
        classes: Names of the outputs.
        preprocessing: How an image becomes an input.
        about: Everything else, as JSON: recipe, metrics, versions, how it was made.
        limbs: Pairs of joints between which a line is drawn.
    """

    spec: Spec
    weights: Mapping[str, Tensor]
    mask: Mapping[str, Tensor]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    about: Mapping[str, Any]
    limbs: tuple[tuple[int, int], ...] = ()

    @cached_property
    def module(self) -> Network:
        """The network, in eval mode on the CPU."""
        module = self.spec.build()
        module.load_state_dict(dict(self.weights))
        return module.eval()

    def module_on(self, device: torch.device) -> Network:
        """The network on a device: `module` itself, or a copy."""
        return self.module if device.type == "cpu" else copy.deepcopy(self.module).to(device)

    @property
    def task(self) -> Task:
        """The task it was drawn for, as its recipe describes it."""
        return task_of_head(self.spec.head, self.classes, self.about.get("recipe", {}))

    @cached_property
    def cost(self) -> Cost:
        """Parameters and MACs, dense and under the mask."""
        return count(self.spec, mask=self.mask)

    def predict(
        self,
        images: Iterable[str | Path | Image.Image],
        boxes: Iterable[Sequence[Box]] | None = None,
        device: str = "auto",
    ) -> list[Any]:
        """Says what is in images.

        Args:
            images: Paths or PIL images.
            boxes: For poses, the boxes of the people in every image: x, y of the upper left corner, width and height,
                in pixels. Without, every image is taken for the region of one person.
            device: Where the network runs, e.g. "cpu" or "cuda:1"; "auto" takes a GPU if there is one.

        Returns:
            Per image, of a classification (class, probability) from likely to unlikely, five at most; of a
            segmentation the class of every pixel, uint8 (height, width); of a counting the density, float32 (h, w),
            whose sum is the count; of poses x, y in pixels and score of every
            joint, float32 (people, joints, 3); of a detection class, score and box of every object, the best first.

        Raises:
            UserError: A file is missing or not an image, there are boxes for another task than pose, or there is no
                such device.
        """
        say = self.predictor(device)
        image_list = (image if isinstance(image, Image.Image) else open_image(Path(image)) for image in images)
        if boxes is None:
            return [say(pil_image, None) for pil_image in image_list]
        return [say(pil_image, some) for pil_image, some in zip(image_list, boxes, strict=True)]

    def predictor(self, device: str = "auto") -> Callable[[Image.Image, Sequence[Box] | None], Any]:
        """What says, of one image after the other, what `predict` says of many; boxes may be None."""
        place, task = find_device(device), self.task
        module = self.module_on(place)

        def say(image: Image.Image, boxes: Sequence[Box] | None) -> Any:
            if boxes is None:
                return task.predict(module, self.preprocessing, image, device=place)
            if not isinstance(task, Pose):
                raise UserError(
                    f"boxes are for tickets that find joints, this one is for {self.spec.head}; leave them out"
                )
            return task.predict(module, self.preprocessing, image, boxes, device=place)

        return say

    def prepare(self, image: str | Path | Image.Image) -> Tensor:
        """Makes the network's input (1, C, H, W) of one image: grey or RGB, resized, normalised."""
        pil_image = image if isinstance(image, Image.Image) else open_image(Path(image))
        return self.preprocessing(self.preprocessing.pixels(pil_image)[None])

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the ticket in the Hugging Face layout; the folder appears whole or not at all.

        Raises:
            UserError: The folder holds something else than a ticket.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / _CONFIG).is_file() and (folder.is_file() or any(folder.iterdir())):
            raise UserError(f"{folder} exists and is no ticket; choose another folder")
        scratch = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in self.weights.items()}, scratch / _WEIGHTS)
        save_file({k: v.cpu().contiguous() for k, v in self.mask.items()}, scratch / _MASK)
        config = {
            "library_name": "supertickets",
            "spec": self.spec.to_json(),
            "classes": list(self.classes),
            "limbs": self.limbs,
            "preprocessing": asdict(self.preprocessing),
            "cost": self.cost.to_json(),
            "about": dict(self.about),
            "sha256": {name: _sha256(scratch / name) for name in (_WEIGHTS, _MASK)},
        }
        (scratch / _CONFIG).write_text(json.dumps(config, indent=1) + "\n")
        (scratch / _CARD).write_text(self.card())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)

    @staticmethod
    def from_pretrained(source: str | Path) -> Ticket:
        """Reads a ticket from a folder, or from the Hugging Face hub if no such folder exists and it looks like a name.

        Raises:
            UserError: A file is missing or damaged.
        """
        folder = Path(source)
        if not folder.exists() and str(source).count("/") == 1 and not str(source).startswith((".", "/", "runs/")):
            folder = _from_hub(str(source))
        if (folder / "ticket" / _CONFIG).is_file():  # a run directory
            folder = folder / "ticket"
        elif (folder / "run.json").is_file():
            raise UserError(f"{folder} is a run without a ticket yet; go on with: supertickets resume {folder}")
        if not folder.is_dir():
            raise UserError(f"ticket {folder} does not exist; give the folder that a draw wrote (RUN/ticket)")
        for name in (_CONFIG, _WEIGHTS, _MASK):
            if not (folder / name).is_file():
                raise UserError(f"ticket {folder} lacks {name}; copy the whole folder again")
        try:
            config = json.loads((folder / _CONFIG).read_text())
            digests = config["sha256"]
            for name in (_WEIGHTS, _MASK):
                if _sha256(folder / name) != digests[name]:
                    raise UserError(f"{folder / name} is damaged (its checksum differs); copy the whole folder again")
            preprocessing = Preprocessing(**{key: as_tuples(value) for key, value in config["preprocessing"].items()})
            spec = spec_from_json(config["spec"])
            classes, about = tuple(config["classes"]), config["about"]
            limbs = as_tuples(config.get("limbs", []))
            weights, mask = load_file(folder / _WEIGHTS), load_file(folder / _MASK)
            if not isinstance(about["recipe"], dict):
                raise TypeError("its recipe is missing")
            task_of_head(spec.head, classes, about["recipe"])
            if not len(classes) == spec.num_classes:
                raise ValueError(f"{len(classes)} classes for {spec.num_classes} outputs")
            with torch.device("meta"):
                wanted = {name: value.shape for name, value in spec.build().state_dict().items()}
            if wanted != {name: value.shape for name, value in weights.items()}:
                raise ValueError("the weights are those of another network")
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError) as error:
            why = " ".join(str(error).split())
            raise UserError(f"{folder / _CONFIG} is damaged ({why}); copy the whole folder again") from None
        return Ticket(spec, weights, mask, classes, preprocessing, about, limbs)

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> None:
        """Uploads the ticket to the Hugging Face hub."""
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repo_id, exist_ok=True, private=private)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "ticket")
            api.upload_folder(repo_id=repo_id, folder_path=Path(folder) / "ticket")

    def card(self) -> str:
        """The ticket's card, as Markdown."""
        cost, about = self.cost, self.about
        recipe = about.get("recipe", {})
        said = _SAID.get(str(about.get("command")), _SAID["draw"])
        network = []
        if not self.spec.full().unit_groups():
            said = said.replace("searched and pruned", "pruned")  # there was nothing to search
            network = [("network", recipe.get("supernet", {}).get("name", str(self.spec)))]
        if found := about.get("search"):
            target, cost_found = (format_cost(found["budget"], found[name]) for name in ("target", "cost"))
            network.append(("found for", f"{target}; costs {cost_found}"))
        if connected := about.get("connection_search"):
            network.append(
                ("connection scheme", f"{connected['scheme']}, the best of {connected['judged']:,} ({connected['by']})")
            )
        rows = [
            *_history(about),
            *network,
            ("task", f"{self.spec.head}, {len(self.classes)} {_OUTPUTS.get(self.spec.head, 'classes')}"),
            ("data", f"{recipe.get('data', {}).get('source', '?')}"),
            ("input", "{} x {} x {}".format(*self.spec.input_shape)),
            *((f"test {k}", f"{v:.4g}") for k, v in about.get("test", {}).items()),
            *((f"validation {k}", f"{v:.4g}") for k, v in about.get("validation", {}).items()),
            ("parameters", f"{cost.params:,}, of which not zero {cost.nonzero_params:,}"),
            ("sparsity", f"{cost.sparsity:.2%} of maskable weights, {cost.sparsity_all:.2%} of all parameters"),
            ("MACs, dense", f"{cost.macs:,}"),
            ("MACs under the mask, per layer", f"{cost.masked_macs:,}"),
            ("MACs as the paper counts (dense x global density)", f"{cost.paper_macs:,}"),
            ("image-passes", f"{about.get('samples', 0):,}"),
            ("recipe", f"{recipe.get('name', '?')}, seed {recipe.get('seed', '?')}"),
            ("versions", ", ".join(f"{k} {v}" for k, v in about.get("versions", {}).items())),
        ]
        table = "\n".join(f"| {name} | {value} |" for name, value in rows)
        return (
            f"---\nlibrary_name: supertickets\npipeline_tag: {_HUB_TAGS[self.spec.head]}\n---\n\n"
            f"# SuperTicket\n\n{said}\n\n"
            f"| | |\n|---|---|\n{table}\n\n"
            "Zeros save time only where a runtime uses them; `supertickets bench` measures it on your device.\n\n"
            "```python\nimport supertickets as st\n\n"
            'ticket = st.load("path/to/this/folder")\nprint(ticket.predict(["image.png"]))\n```\n'
        )


def _history(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where a ticket comes from, if it did not begin with a full supernet, as rows of its card."""
    if not about.get("lineage"):
        return []
    now = about["recipe"] | {"data": about["recipe"]["data"]["source"], "recipe": about["recipe"]["name"]}
    rows = [("history", _format_lineage([*about["lineage"], now | {"command": about["command"]}]))]
    if head := about.get("head"):
        known = {
            "kept": "the source's, with a fresh classifier",
            "fresh": "fresh, without a mask",
            "inherited": f"inherited from {_format_lineage(head.get('lineage', ()))}",
        }
        rows.append(("head", known[head["kind"]]))
    if criterion := about.get("criterion"):
        rounds = about.get("rounds", 1)
        rows.append(("criterion", f"{criterion}, " + (f"in {rounds} rounds" if rounds > 1 else "in one shot")))
    return rows


def _format_lineage(steps: Iterable[Mapping[str, Any]]) -> str:
    return ", then ".join("{command} {recipe} ({task} on {data})".format_map(step) for step in steps)


def load(source: str | Path) -> Ticket:
    """Reads a ticket; see `Ticket.from_pretrained`."""
    return Ticket.from_pretrained(source)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, OSError, ValueError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"ticket {name} is neither a folder nor a repository that can be fetched ({why})") from None
