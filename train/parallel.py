"""The few things that several processes must do together; with one process they do nothing."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn

from edgefiqa.errors import UsageError

__all__ = [
    "gather_objects",
    "gather_scores",
    "own_share",
    "processes",
    "same_tensors",
    "synchronise_batch_norm",
]

Item = TypeVar("Item")


def processes() -> PartialState:
    """Return accelerate's view of this process and the others, GPUs or not.

    Unless it is told that there are no GPUs, accelerate takes every process for the only one.
    """
    return PartialState(cpu=not torch.cuda.is_available())


def _world() -> tuple[int, int]:
    """Return this process' rank and the number of processes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def own_share(count: int) -> slice:
    """Return which part of a global batch this process computes.

    Args:
        count: Images of the global batch.

    Returns:
        A contiguous slice; all processes' slices have the same length.

    Raises:
        UsageError: The batch cannot be split evenly.
    """
    rank, ranks = _world()
    if count % ranks:
        raise UsageError(
            f"a batch cannot be split over {ranks} processes",
            value=count,
            allowed=f"a multiple of {ranks}",
        )
    return slice(rank * count // ranks, (rank + 1) * count // ranks)


class _Gather(torch.autograd.Function):
    """Concatenate a vector of every process; the gradient is summed over processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        rank, ranks = _world()
        ctx.local = slice(rank * len(tensor), (rank + 1) * len(tensor))
        parts = [torch.empty_like(tensor) for _ in range(ranks)]
        distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total[ctx.local]


def gather_scores(scores: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Collect each set's scores from all processes, with gradients.

    The gradient that comes back is the sum over processes. Each of them computes the same loss of
    the whole batch, so that is `ranks` times the gradient, which DistributedDataParallel's average
    over processes turns into exactly the gradient of the whole batch.

    Args:
        scores: ``[n]`` of this process, its sets one after the other.
        sizes: Images of each set among them; the same on every process.

    Returns:
        One tensor a set, in the order of the whole batch.
    """
    if _world()[1] == 1:
        return list(torch.split(scores, list(sizes)))
    gathered: Tensor = _Gather.apply(scores)
    parts = [torch.split(part, list(sizes)) for part in torch.split(gathered, len(scores))]
    return [torch.cat(share) for share in zip(*parts, strict=True)]


def gather_objects(value: Item) -> list[Item]:
    """Collect a small value of every process, in rank order."""
    ranks = _world()[1]
    if ranks == 1:
        return [value]
    found: list[Item | None] = [None] * ranks
    distributed.all_gather_object(found, value)
    return [item for item in found if item is not None]


def same_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of the main process (weights, running statistics)."""
    if _world()[1] > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Make batch norms compute their statistics over all processes.

    Args:
        model: The model; its layers are replaced.
        device: Where it will run.

    Returns:
        The model.

    Raises:
        UsageError: The device is not CUDA.
    """
    if device.type != "cuda":
        raise UsageError(
            "sync_batch_norm works on CUDA only",
            value=device.type,
            next_step="set sync_batch_norm: false in the recipe",
        )
    from timm.layers import convert_sync_batchnorm

    converted: nn.Module = convert_sync_batchnorm(model)
    return converted
