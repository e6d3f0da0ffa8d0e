"""The process this code runs in: device, threads, and its peers under torchrun.

Gradients are averaged in one flat all-reduce per step instead of DistributedDataParallel: no buckets that depend on
the graph, so a rebuilt (smaller) network needs nothing re-wrapped, and masks apply after the reduction.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..device import find_device, keep_freed_memory
from ..errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Runtime:
    """Where a run happens.

    Attributes:
        device: Where tensors live.
        rank: Number of this process.
        world: Number of processes.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors, wherever they are, by their mean over all processes, in float32; bit-equal on every one."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([t.detach().reshape(-1).to(torch.float32) for t in tensors]).to(self.device)
        dist.all_reduce(flat)
        flat /= self.world
        with torch.no_grad():
            parts = flat.split([t.numel() for t in tensors])
            torch._foreach_copy_(list(tensors), [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)])

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sum of a tensor over all processes."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Waits for all processes."""
        if self.world > 1:
            dist.barrier()

    def from_main(self, value: T) -> T:
        """Returns the first process's value on every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def from_all(self, value: T) -> list[T]:
        """Returns the values of all processes, in their order, on every process."""
        if self.world == 1:
            return [value]
        values = [value] * self.world
        dist.all_gather_object(values, value)
        return values

    def check_equal(self, digest: str, what: str) -> None:
        """Stops when the processes have come apart.

        Raises:
            RuntimeError: Names the ranks that differ from rank 0.
        """
        if self.world == 1:
            return
        digests = self.from_all(digest)
        apart = [rank for rank, other in enumerate(digests) if other != digests[0]]
        if apart:
            raise RuntimeError(f"{what} differ between rank 0 and ranks {apart}")


def start(device: str, threads: int | None, deterministic: bool) -> Runtime:
    """Joins the processes that torchrun started, and sets device and threads.

    Raises:
        UserError: The device does not exist.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    chosen = find_device(device)
    if chosen.type == "cuda":
        if world > 1 and chosen.index is not None:
            raise UserError(f"device {device} would be shared by {world} processes; use --device cuda, one GPU each")
        chosen = chosen if chosen.index is not None else find_device(f"cuda:{local}")
        torch.cuda.set_device(chosen)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    keep_freed_memory()
    return Runtime(chosen, rank, world)


def stop() -> None:
    """Leaves the group of processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """A hash of tensors by name, to the bit, whatever their order."""
    sha = hashlib.sha256()
    for name, value in sorted(named, key=lambda entry: entry[0]):
        sha.update(name.encode())
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
