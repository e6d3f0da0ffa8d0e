"""Where networks run."""

from __future__ import annotations

import torch

from .errors import UserError


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one, else the CPU.

    Raises:
        UserError: There is no such device, or none on which networks run here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}' is not one on which networks run here; use auto, cpu, cuda or cuda:1")
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name} was asked for but PyTorch sees no GPU; use --device cpu")
        if (found.index or 0) >= torch.cuda.device_count():
            raise UserError(f"device {name} does not exist; there are {torch.cuda.device_count()} GPUs, from cuda:0")
    return found
