"""Data: readers of the authentic on-disk formats, splits and batches."""

from .batches import Batches
from .folders import list_pictures
from .images import ImageSet, PictureSet
from .pictures import Preprocessing, open_picture
from .readers import load_splits, published_samples, published_shape
from .regions import Box
from .samples import Batch, Samples, Splits

__all__ = [
    "Batch",
    "Batches",
    "Box",
    "ImageSet",
    "PictureSet",
    "Preprocessing",
    "Samples",
    "Splits",
    "list_pictures",
    "load_splits",
    "open_picture",
    "published_samples",
    "published_shape",
]
