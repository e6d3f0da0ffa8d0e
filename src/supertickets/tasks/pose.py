"""Pose estimation: the squared error of heatmaps; COCO's average precision over the predicted poses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from ..config.task_settings import TASK_RULES
from ..data.coco_keypoints import PersonDataset, box_matrix, true_people
from ..data.geometry import Box, Floats, image_matrix, to_image_points, warp_image
from ..data.mirror_names import pair_joints
from ..data.preprocessing import Preprocessing, to_channels, to_tensor
from ..data.samples import Samples
from .base import Task
from .drawing import draw_skeletons
from .heatmaps import decode, flip_back, heatmaps, oks_nms, pose_metrics, pose_scores
from .metric import Metric

_SHOWN = 0.2  # score from which on a joint is shown
_AT_ONCE = 32  # regions of one image


@dataclass(frozen=True)
class Pose(Task):
    """The task of finding the joints of a person.

    Attributes:
        classes: Names of the joints, in the order of the network's outputs; their names tell left from right.
        sigma: Deviation of the Gaussians that are learned, in cells of the maps.
        flip_test: Whether an evaluation takes the mean of the maps of an image and of its mirror image.
    """

    sigma: float = 2.0
    flip_test: bool = True
    name: ClassVar[str] = "pose"
    head: ClassVar[Literal["keypoints"]] = "keypoints"
    rules = TASK_RULES["pose"]
    metric = Metric("ap", "AP")
    hub_tag = "keypoint-detection"
    outputs = "joints"

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return half the squared error of maps (B, K, h, w), averaged over all cells; unmarked joints have none.

        Args:
            scores: Output of the network.
            target: Joints (B, K, 3): x, y in shares of the input, and v.
        """
        return self._losses(scores, target)[0].mean()

    @property
    def sees_images_once(self) -> bool:
        """Return False: a mirrored image goes through the network as well."""
        return False

    @torch.no_grad()
    def totals(
        self, module: nn.Module, batches: Iterable[tuple[Tensor, Any]], data: Samples, device: torch.device
    ) -> Tensor:
        """Return a row per person of the split; those that another process looks at are zero.

        Columns: 1 for a person that was looked at, its loss, whether a joint of it is known, and x, y in pixels of the
        image and score of every joint.
        """
        table = np.zeros((len(data), 3 + 3 * len(self.classes)))
        for images, regions in batches:
            if not len(images):
                continue
            images = images.to(device)
            maps = module(images)
            losses, weights = self._losses(maps, regions.joints.to(device))
            joints = self._locate_joints(module, images, maps, regions.matrices)
            known = weights.any(-1)
            head = torch.stack((torch.ones_like(losses), losses * known, known), 1)
            table[regions.positions] = np.column_stack((head.cpu().double().numpy(), joints.reshape(len(joints), -1)))
        return torch.from_numpy(table).to(device)

    def metrics(self, totals: Tensor, data: Samples) -> dict[str, float]:
        """Return ``loss`` per person with joints; ``ap``, ``ap50``, ``ap75``, ``ap_m``, ``ap_l`` and ``ar`` in percent.

        Figures that no person counts for are left out. Images that could not be read do not count.
        """
        assert isinstance(data, PersonDataset)
        table = totals.cpu().numpy()
        unread = {person.image_id for person, row in zip(data.samples, table, strict=True) if not row[0]}
        by_image: dict[int, list[int]] = {}
        for i, person in enumerate(data.samples):
            if person.image_id not in unread:
                by_image.setdefault(person.image_id, []).append(i)
        poses = table[:, 3:].reshape(len(table), len(self.classes), 3)
        scores = pose_scores(np.array([person.score for person in data.samples]), poses[..., 2])
        areas, sigmas = np.array([person.area for person in data.samples]), data.joints.sigmas
        results = []
        for image_id, rows in by_image.items():
            for kept in oks_nms(poses[rows], scores[rows], areas[rows], sigmas):
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": data.joints.category_id,
                        "keypoints": poses[rows[kept]].reshape(-1).tolist(),
                        "score": float(scores[rows[kept]]),
                    }
                )
        truth = true_people(data.truth, {image["id"] for image in data.truth["images"]} - unread)
        figures = pose_metrics(truth, results, sigmas)
        known = table[:, 2].sum()
        loss = {"loss": float(table[:, 1].sum() / known)} if known else {}
        return loss | {name: value for name, value in figures.items() if not np.isnan(value)}

    @torch.no_grad()
    def predict(
        self,
        module: nn.Module,
        prepare: Preprocessing,
        image: Image.Image,
        boxes: Sequence[Box] | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> npt.NDArray[np.float32]:
        """Return x, y in pixels of the image and score of every joint, of shape (people, K, 3).

        Args:
            module: The network.
            prepare: Preprocessing of a region.
            image: Any image.
            boxes: Boxes of the people; without, the whole image is taken for the region of one person.
            device: Device that the network is on.
        """
        if boxes is None:
            matrices = [image_matrix(image.size, prepare.size)]
        else:
            matrices = [box_matrix(box, prepare) for box in boxes]
        image = to_channels(image, prepare.channels)
        joints = [np.empty((0, len(self.classes), 3), np.float32)]
        for start in range(0, len(matrices), _AT_ONCE):
            some = np.array(matrices[start : start + _AT_ONCE])
            regions = torch.stack([to_tensor(warp_image(image, matrix, prepare.size)) for matrix in some])
            images = prepare(regions).to(device)
            joints.append(self._locate_joints(module, images, module(images), some).astype(np.float32))
        return np.concatenate(joints)

    def describe(self, prediction: Any) -> dict[str, Any]:
        """Return every person's joints, in pixels of the image."""
        rows = [zip(self.classes, person, strict=True) for person in prediction.tolist()]
        people = [[{"name": name, "x": x, "y": y, "score": score} for name, (x, y, score) in row] for row in rows]
        return {"people": [{"joints": joints} for joints in people]}

    def text_lines(self, description: Mapping[str, Any]) -> list[str]:
        """Return a line for every person, with the joints that are clear."""
        shown = [[joint for joint in one["joints"] if joint["score"] >= _SHOWN] for one in description["people"]]
        texts = [", ".join(f"{j['name']} ({j['x']:.0f}, {j['y']:.0f})" for j in joints) for joints in shown]
        return [text or "no joint is clear" for text in texts] or ["no people"]

    def draw(self, image: Image.Image, prediction: Any) -> Image.Image:
        """Return the image with the limbs of people."""
        return draw_skeletons(image, prediction, self.classes, self.limbs, _SHOWN)

    def export_metadata(self, scores: Tensor) -> dict[str, Any]:
        """Return the ``limbs``, if the data has them."""
        return {"limbs": self.limbs} if self.limbs else {}

    def _losses(self, maps: Tensor, joints_BK3: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of every sample, and the weights (B, K) of its joints."""
        wanted, weights_BK = heatmaps(joints_BK3, (maps.shape[-2], maps.shape[-1]), self.sigma)
        error = (maps - wanted) * weights_BK[..., None, None]
        return error.square().mean((1, 2, 3)) / 2, weights_BK

    def _locate_joints(self, module: nn.Module, images: Tensor, maps: Tensor, matrices: Floats) -> Floats:
        """Return x, y in pixels of the images, and score, of shape (B, K, 3)."""
        if self.flip_test:
            maps = (maps + flip_back(module(images.flip(-1)), pair_joints(self.classes))) / 2
        cells, scores = decode(maps)
        stride = images.shape[-1] / maps.shape[-1]
        xy = to_image_points(cells.cpu().double().numpy(), matrices, stride)
        return np.concatenate((xy, scores.cpu().double().numpy()[..., None]), -1)
