"""What all tasks share: a prediction takes the image to where the network is."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from supertickets.data import Preprocessing
from supertickets.tasks import Classification, Counting, Detection, Pose, Segmentation, Task

NAMES = ("left_hand", "right_hand")


class Elsewhere(nn.Module):
    """Notes where its inputs are, and answers on the CPU."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape, self.shown_region = shape, [""]

    def forward(self, images: Tensor) -> Tensor:
        self.shown_region.append(images.device.type)
        return torch.rand(len(images), *self.shape)


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        (Classification(NAMES), (2,)),
        (Segmentation(NAMES), (2, 4, 4)),
        (Pose(NAMES), (2, 4, 4)),
        (Detection(NAMES), (36, 7)),
        (Counting(("density",)), (1, 4, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_inputs_go_to_the_network(task: Task, shape: tuple[int, ...]) -> None:
    prepare = Preprocessing(3, (16, 16), (0.0,) * 3, (1.0,) * 3, "pad" if isinstance(task, Pose) else "stretch")
    for device in ("cpu", "meta"):
        network = Elsewhere(*shape)
        assert len(task.predict(network, prepare, Image.new("RGB", (20, 16)), device=device)) > 0
        assert set(network.shown_region[1:]) == {device}
