"""Checkpoints that are whole or absent, and refuse to continue another run."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgefiqa.errors import CheckpointError, DataError
from edgefiqa.files import staged_path

__all__ = [
    "CHECKPOINT_NAME",
    "disk_faults",
    "load_checkpoint",
    "random_state",
    "remove_stages",
    "restore_random_state",
    "save_checkpoint",
    "save_weights",
]

CHECKPOINT_NAME = "checkpoint.pt"


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Say in one line that a disk is full; what was written before stays as it was.

    Args:
        path: What is being written.

    Raises:
        DataError: The disk, or the user's share of it, is full.
    """
    try:
        yield
    except (OSError, RuntimeError) as fault:
        # torch's and safetensors' writers turn the system's error into one of theirs.
        number, text = getattr(fault, "errno", None), str(fault)
        full = number in {errno.ENOSPC, errno.EDQUOT} or "No space left" in text
        if not full and "PytorchStreamWriter" not in text and "unexpected pos" not in text:
            raise
        raise DataError(
            f"the file could not be written, the disk may be full ({fault})",
            value=path,
            next_step="free some space and run the same command: it goes on from the last "
            "checkpoint, which is intact",
        ) from fault


def remove_stages(folder: Path) -> None:
    """Remove what a killed run was just writing; nobody else writes to its folder."""
    for left in folder.glob(".staged-*"):
        shutil.rmtree(left, ignore_errors=True)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name and rename it: whole or absent.

    Args:
        path: Where it goes.
        state: Tensors, numbers, strings and containers of them.

    Raises:
        DataError: The disk is full; the older checkpoint is still there.
    """
    with disk_faults(path), staged_path(path) as stage:
        torch.save(state, stage)


def load_checkpoint(path: Path, *, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Read a checkpoint, if there is one.

    Args:
        path: Where it may lie.
        identity: What the run depends on: its recipe and its sets.

    Returns:
        The state, or None.

    Raises:
        CheckpointError: It is damaged, or of another recipe or other sets.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # a cut pickle raises almost anything
        raise CheckpointError(f"damaged checkpoint ({fault})", value=path) from fault
    known = state.get("identity", {})
    other = [key for key in identity if known.get(key) != identity[key]]
    if other:
        raise CheckpointError(
            f"checkpoint of another {' and other '.join(other)}",
            value=path,
            next_step="remove the folder, or name another one",
        )
    return state


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's weights as safetensors, atomically.

    Args:
        path: Where they go.
        model: The model.

    Raises:
        DataError: The disk is full.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with disk_faults(path), staged_path(path) as stage:
        save_file(state, stage)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of torch's generators on this process."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Set torch's generators to a state of `random_state`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
