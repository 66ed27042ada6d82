"""Importing the published Efficient-FIQA checkpoints (pickled state dicts)."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from edgefiqa.errors import CheckpointError
from edgefiqa.files import sha256_of
from edgefiqa.models.card import ModelCard
from edgefiqa.models.store import fit_state, save_model
from edgefiqa.models.zoo import build, get_spec
from edgefiqa.preprocess import check_size

__all__ = ["import_checkpoint", "rename_published_keys"]

_CONTAINERS = ("model_state_dict", "state_dict", "model")
# Longest first: the teacher's torchvision network sits one level deeper than the student's.
_PREFIXES = (
    ("feature_extraction.feature_extraction.", "backbone."),
    ("feature_extraction.", "backbone."),
    ("quality.", "head."),
)


def rename_published_keys(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Map the public code's key names to ours; keys already ours pass unchanged.

    ``module.`` (left by DataParallel) is dropped, ``feature_extraction.`` (student) and
    ``feature_extraction.feature_extraction.`` (teacher) become ``backbone.``, ``quality.`` becomes
    ``head.``.
    """
    renamed = {}
    for key, tensor in state.items():
        new = key
        while new.startswith("module."):
            new = new.removeprefix("module.")
        for prefix, ours in _PREFIXES:
            if new.startswith(prefix):
                new = ours + new.removeprefix(prefix)
                break
        renamed[new] = tensor
    return renamed


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise CheckpointError("no such checkpoint", value=path, allowed="a .pt or .pth file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "the checkpoint holds more than tensors, or is no torch checkpoint; it was not opened",
            value=path,
            allowed="a state dict that torch.load(weights_only=True) accepts",
            next_step="re-save it with torch.save(model.state_dict(), path) where you trust it",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"the checkpoint cannot be read ({error})", value=path, allowed="a file of torch.save"
        ) from error
    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            "the checkpoint holds no state dict",
            value=path,
            allowed=f"a state dict, plain or under {', '.join(_CONTAINERS)}",
        )
    strangers = [str(key) for key, value in content.items() if not torch.is_tensor(value)]
    if strangers:
        raise CheckpointError(
            f"the checkpoint's state dict holds things that are no tensors: {strangers[:4]}",
            value=path,
            allowed=f"a state dict, plain or under {', '.join(_CONTAINERS)}",
        )
    return dict(content)


def import_checkpoint(
    checkpoint: Path, *, model_name: str, size: int | None, out: Path
) -> ModelCard:
    """Turn a published checkpoint into a model directory.

    Args:
        checkpoint: A file of ``torch.save``: a state dict, plain or under ``model_state_dict``,
            with or without the ``module.`` prefix. Read with ``weights_only=True``.
        model_name: The architecture.
        size: Input side in pixels; None takes the architecture's usual one.
        out: Directory that receives ``model.safetensors`` and ``card.json``.

    Returns:
        The card as written.

    Raises:
        CheckpointError: If the file is no such checkpoint, or does not fit the architecture.
    """
    spec = get_spec(model_name)
    side = check_size(spec.size if size is None else size)
    state = rename_published_keys(_read_pickle(checkpoint))
    model = build(model_name)
    fit_state(model, state, source=checkpoint, model_name=model_name)
    return save_model(
        model.eval(),
        out,
        ModelCard(
            model=model_name,
            name=checkpoint.stem,
            description=f"Imported from {checkpoint.name}. Nothing is known here about how it was "
            "trained beyond what its publisher says.",
            size=side,
            training_data="unknown: see the checkpoint's publisher",
            licence="unknown: see the checkpoint's publisher",
            provenance={
                "imported_from": checkpoint.name,
                "checkpoint_sha256": sha256_of(checkpoint),
            },
        ),
    )
