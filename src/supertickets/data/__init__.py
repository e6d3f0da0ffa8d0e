"""Data: readers of the authentic on-disk formats, a user's own dataset, splits and batches."""

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Name -> the module that it comes from, imported on first use (PEP 562): a source is looked up without PyTorch.
_LAZY = {
    "Batches": "batches",
    "Box": "geometry",
    "list_images": "file_lists",
    **dict.fromkeys(("ImageFiles", "InMemoryImages"), "classification"),
    **dict.fromkeys(("Preprocessing", "open_image"), "preprocessing"),
    **dict.fromkeys(("Batch", "Samples", "Splits"), "samples"),
    **dict.fromkeys(("load_splits", "published_samples", "published_shape"), "sources"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value
