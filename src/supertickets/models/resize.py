"""Maps at another size, in a form that traces for inputs of any size."""

from __future__ import annotations

from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional as F


def resize(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    """Bilinear; a map that has the size is returned as it is.

    In a traced graph, sizes may be symbols. To compare them would tie the graph to the answer, so maps are resized
    unless their sizes are equal for every input; to resize a map to its own size changes nothing.
    """
    if statically_known_true(x_BCHW.shape[-2] == height) and statically_known_true(x_BCHW.shape[-1] == width):
        return x_BCHW
    return F.interpolate(x_BCHW, size=(height, width), mode="bilinear", align_corners=False)
