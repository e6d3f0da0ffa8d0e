"""Data: readers of the authentic on-disk formats, splits and batches."""

from .images import Batches, ImageSet, Preprocessing, Splits
from .readers import load_splits

__all__ = ["Batches", "ImageSet", "Preprocessing", "Splits", "load_splits"]
