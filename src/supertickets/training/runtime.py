"""The process this code runs in: device, threads, and its peers under torchrun.

Gradients are averaged in one flat all-reduce per step instead of DistributedDataParallel: no buckets that depend on
the graph, so a rebuilt (smaller) network needs nothing re-wrapped, and masks apply after the reduction.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..device import find_device, keep_freed_memory, on_threads, preserve_random_state, use_deterministic_algorithms
from ..errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Runtime:
    """The device and processes of a run.

    Attributes:
        device: Device of the tensors.
        rank: Number of this process.
        world: Number of processes.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Return whether this process writes files and talks to the user."""
        return self.rank == 0

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, wherever they are, by their mean over all processes, in float32; bit-equal on every one."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([t.detach().reshape(-1).to(torch.float32) for t in tensors]).to(self.device)
        dist.all_reduce(flat)
        flat /= self.world
        with torch.no_grad():
            parts = flat.split([t.numel() for t in tensors])
            torch._foreach_copy_(list(tensors), [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)])

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()

    def from_main(self, value: T) -> T:
        """Return the first process's value on every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def from_all(self, value: T) -> list[T]:
        """Return the values of all processes, in their order, on every process."""
        if self.world == 1:
            return [value]
        values = [value] * self.world
        dist.all_gather_object(values, value)
        return values

    def check_equal(self, digest: str, what: str) -> None:
        """Stop when the processes have come apart.

        Raises:
            RuntimeError: Names the ranks that differ from rank 0.
        """
        if self.world == 1:
            return
        digests = self.from_all(digest)
        apart = [rank for rank, other in enumerate(digests) if other != digests[0]]
        if apart:
            raise RuntimeError(f"{what} differ between rank 0 and ranks {apart}")


@contextlib.contextmanager
def open_runtime(device: str, threads: int | None, deterministic: bool) -> Iterator[Runtime]:
    """Join the processes that torchrun started, and set device and threads; all of it is undone afterwards.

    Args:
        device: Name of the device.
        threads: Number of CPU threads; None leaves it as it is.
        deterministic: Whether PyTorch uses deterministic algorithms alone.

    Yields:
        The runtime.

    Raises:
        UserError: The device does not exist.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = find_device(device)
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserve_random_state(chosen))
        stack.enter_context(on_threads(threads or torch.get_num_threads()))
        if chosen.type == "cuda":
            if world > 1 and chosen.index is not None:
                raise UserError(
                    f"device {device} would be shared by {world} processes; use --device cuda, one GPU each"
                )
            if chosen.index is None:
                chosen = find_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
            stack.enter_context(torch.cuda.device(chosen))
        stack.enter_context(use_deterministic_algorithms(deterministic))
        stack.enter_context(keep_freed_memory())
        if world > 1 and not dist.is_initialized():
            backend = "nccl" if chosen.type == "cuda" else "gloo"
            store = restart_store(os.environ)  # without one, variables that are missing are named
            place = {} if store is None else {"store": store, "rank": rank, "world_size": world}
            dist.init_process_group(backend, **place)
            stack.callback(dist.destroy_process_group)
        yield Runtime(chosen, rank, world)


def restart_store(environment: Mapping[str, str]) -> dist.Store | None:  # type: ignore[name-defined]
    """Return the store in which processes meet that torchrun's agent has started again; None at a first start.

    The agent's own store outlives a restart (PyTorch 2.14, ``DynamicRendezvousHandler.next_rendezvous``) and still has
    the addresses of processes that are gone; whoever reads one waits for it, or is refused. So every start has names of
    its own. Agents of several nodes may count their restarts differently, so that these stay as they are.

    Args:
        environment: Environment variables of this process.
    """
    count = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    is_shared = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if count == "0" or not is_shared or environment.get("GROUP_WORLD_SIZE") != "1":
        return None
    store = dist.TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), is_master=False)  # type: ignore[attr-defined]
    return dist.PrefixStore(f"start-{count}", store)  # type: ignore[attr-defined]


def digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """Return a hash of tensors by name, to the bit, whatever their order."""
    sha = hashlib.sha256()
    for name, value in sorted(named, key=lambda entry: entry[0]):
        sha.update(name.encode())
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
