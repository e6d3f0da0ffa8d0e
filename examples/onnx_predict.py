"""Run inference on images with an exported ticket and nothing but onnxruntime, Pillow and numpy.

Use: python onnx_predict.py model.onnx image.jpg ...

A line per image: its likely classes, the classes of its pixels with their shares, the joints of the person in it
(x and y in pixels, score), its objects (score, and x, y, width, height in pixels), or how many were counted. The file
says how images are fitted to the network and whether it has anchors or a scale, and so what it was drawn for.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
how, classes = json.loads(about["preprocessing"]), json.loads(about["classes"])
height, width = how["size"]


def scores_of(pil_image: Image.Image) -> np.ndarray:
    """Return the scores of a fitted image: (classes,), maps (classes, rows, columns), or a row per anchor."""
    pixels = np.asarray(pil_image, np.float32).reshape(pil_image.height, pil_image.width, -1) / 255
    image = ((pixels - how["mean"]) / how["std"]).transpose(2, 0, 1)[None].astype(np.float32)
    return session.run(None, {"images": image})[0][0]


def likely_classes(image: Image.Image) -> list[str]:
    scale = max(height / image.height, width / image.width) / how["share"]
    x, y = (image.width - width / scale) / 2, (image.height - height / scale) / 2
    box = (x, y, image.width - x, image.height - y) if how["fit"] == "crop" else None
    scores = scores_of(image.resize((width, height), Image.Resampling[how["resample"].upper()], box=box))
    shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    return [f"{classes[i]} {shares[i]:.6f}" for i in shares.argsort()[::-1][:5]]


def classes_of_pixels(image: Image.Image) -> list[str]:
    scale = how["shorter"] / min(image.size)
    small = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
    maps = (Image.fromarray(scores).resize(image.size, Image.Resampling.BILINEAR) for scores in scores_of(small))
    mask = np.stack([np.asarray(one) for one in maps]).argmax(0)  # the class of every pixel, by its number
    shares = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
    return [f"{classes[i]} {shares[i]:.6f}" for i in shares.argsort()[::-1] if shares[i] > 0]


def count(image: Image.Image) -> list[str]:
    scale = how["shorter"] / min(image.size) if how["shorter"] else 1
    small = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
    return [f"{scores_of(small).sum() / json.loads(about['scale']):.6f} counted"]


def joints(image: Image.Image) -> list[str]:
    """Take the whole image for the region of one person; `predict` also looks at its mirror image."""
    scale = min(height / image.height, width / image.width)
    x, y = (image.width - width / scale) / 2, (image.height - height / scale) / 2  # the input's corner
    block = max(1, int(1 / scale + 1e-6))  # a large image is averaged first, so that no pixel is skipped
    data = np.array([1 / scale, 0, x, 0, 1 / scale, y]) / block
    whole = image.reduce(block).transform(
        (width, height), Image.Transform.AFFINE, data.tolist(), Image.Resampling.BILINEAR
    )
    maps = scores_of(whole)
    cell = width / maps.shape[2] / scale  # pixels of the image
    lines = []
    for name, scores in zip(classes, maps, strict=True):
        row, column = np.unravel_index(scores.argmax(), scores.shape)
        right, down = nudge(scores[row], column), nudge(scores[:, column], row)
        at = x + (column + right + 0.5) * cell - 0.5, y + (row + down + 0.5) * cell - 0.5
        lines.append(f"{name} {at[0]:.2f} {at[1]:.2f} {scores.max():.6f}")
    return lines


def nudge(line: np.ndarray, peak: int) -> float:
    """Return a quarter of a cell towards the larger neighbour; nothing at the border."""
    return 0.25 * np.sign(line[peak + 1] - line[peak - 1]) if 0 < peak < len(line) - 1 else 0


def objects(image: Image.Image) -> list[str]:
    """Return the best of similar boxes, which are anchors moved and stretched as the network says."""
    rows = scores_of(image.resize((width, height), Image.Resampling[how["resample"].upper()]))
    low, high = np.hsplit(np.array(json.loads(about["anchors"])), 2)
    shares = np.exp(rows[:, :-4] - rows[:, :-4].max(1, keepdims=True))
    shares = (shares / shares.sum(1, keepdims=True))[:, 1:]
    center = (low + high) / 2 + rows[:, -4:-2] / 10 * (high - low)
    size = np.exp(np.minimum(rows[:, -2:] / 5, np.log(1000 / 16))) * (high - low)
    boxes = np.hstack((center - size / 2, center + size / 2)).clip(0, 1) * np.tile(image.size, 2)
    left = sorted(((s, k, i) for (i, k), s in np.ndenumerate(shares) if s >= 0.3), reverse=True)
    lines = []
    while left:
        (score, kind, best), *left = left
        x, y, right, down = boxes[best]
        lines.append(f"{classes[kind]} {score:.6f} {x:.2f} {y:.2f} {right - x:.2f} {down - y:.2f}")
        left = [(s, k, i) for s, k, i in left if k != kind or overlap(boxes[best], boxes[i]) <= 0.55]
    return lines


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the area that two boxes share over the area that they cover together."""
    shared = np.prod(np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0))
    return shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


SAY = {
    "stretch": objects if "anchors" in about else likely_classes,
    "crop": likely_classes,
    "shorter": count if "scale" in about else classes_of_pixels,
    "pad": joints,
}
if how["fit"] not in SAY:
    sys.exit(f"{sys.argv[1]} fits images by '{how['fit']}'; this example shows {', '.join(SAY)}")
for path in sys.argv[2:]:
    upright = ImageOps.exif_transpose(Image.open(path)).convert("L" if how["channels"] == 1 else "RGB")
    print(path, *SAY[how["fit"]](upright), sep="\t")
