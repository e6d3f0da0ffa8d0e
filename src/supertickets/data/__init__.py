"""Data: readers of the authentic on-disk formats, splits and batches."""

from .batches import Batches
from .images import ImageSet, PictureSet
from .pictures import Preprocessing, open_picture
from .readers import load_splits, published_shape
from .samples import Samples, Splits

__all__ = [
    "Batches",
    "ImageSet",
    "PictureSet",
    "Preprocessing",
    "Samples",
    "Splits",
    "load_splits",
    "open_picture",
    "published_shape",
]
