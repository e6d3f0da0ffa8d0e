"""Data: readers of the authentic on-disk formats, splits and batches."""

from .batches import Batches
from .classification import ImageFiles, InMemoryImages
from .file_lists import list_images
from .geometry import Box
from .preprocessing import Preprocessing, open_image
from .samples import Batch, Samples, Splits
from .sources import load_splits, published_samples, published_shape

__all__ = [
    "Batch",
    "Batches",
    "Box",
    "ImageFiles",
    "InMemoryImages",
    "Preprocessing",
    "Samples",
    "Splits",
    "list_images",
    "load_splits",
    "open_image",
    "published_samples",
    "published_shape",
]
