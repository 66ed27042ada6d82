"""Loading and saving weights: safetensors and a card, nothing else."""

from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgefiqa.errors import CheckpointError
from edgefiqa.files import sha256_of, staged_path
from edgefiqa.models.card import CARD_NAME, WEIGHTS_NAME, ModelCard
from edgefiqa.models.zoo import build

__all__ = ["DEFAULT_MODEL", "default_model_dir", "fit_state", "load_model", "save_model"]

DEFAULT_MODEL = "default"


def default_model_dir() -> Path:
    """Return the directory of the student that ships with the package."""
    return Path(__file__).parent.parent / "weights"


def fit_state(
    model: nn.Module, state: dict[str, torch.Tensor], *, source: Path, model_name: str
) -> None:
    """Load a state dict strictly.

    Args:
        model: The network to fill.
        state: Tensors by the network's key names.
        source: The file they come from, for the message.
        model_name: The architecture's name, for the message.

    Raises:
        CheckpointError: If a key is missing, unexpected, of another shape or not finite; all
            faults are reported at once.
    """
    expected = model.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    misfits = [
        f"{key} is {list(state[key].shape)}, not {list(expected[key].shape)}"
        for key in sorted(expected.keys() & state.keys())
        if expected[key].shape != state[key].shape
    ]
    infinite = [
        key
        for key, tensor in state.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    faults = [
        f"{len(keys)} {label}: {', '.join(keys[:4])}{', …' if len(keys) > 4 else ''}"
        for label, keys in (
            ("missing keys", missing),
            ("unexpected keys", unexpected),
            ("keys of another shape", misfits),
            ("keys with NaN or infinite values", infinite),
        )
        if keys
    ]
    if faults:
        raise CheckpointError(
            f"these weights do not fit {model_name} ({'; '.join(faults)})",
            value=source,
            next_step="check the model name: edgefiqa models lists the architectures",
        )
    model.load_state_dict(state)


def _resolve(source: Path | str) -> Path:
    """Return the weights file for ``default``, a model directory or a safetensors file."""
    if str(source) == DEFAULT_MODEL:
        return default_model_dir() / WEIGHTS_NAME
    path = Path(source)
    if path.is_dir():
        path = path / WEIGHTS_NAME
    if not path.is_file():
        raise CheckpointError(
            "no weights found",
            value=path,
            allowed=f"'default', a directory with {WEIGHTS_NAME} and {CARD_NAME}, "
            "or a .safetensors file with its card beside it",
            next_step="edgefiqa import turns a published checkpoint into such a directory",
        )
    if path.suffix != ".safetensors":
        raise CheckpointError(
            "not a safetensors file",
            value=path,
            allowed=".safetensors",
            next_step="for a published .pt/.pth: edgefiqa import FILE --model NAME --out DIR",
        )
    return path


def load_model(source: Path | str) -> tuple[nn.Module, ModelCard]:
    """Load a model and its card.

    Args:
        source: ``"default"``, a model directory, or a ``.safetensors`` file with a card beside it.

    Returns:
        The network in evaluation mode, and its card.

    Raises:
        CheckpointError: If files are missing, damaged, changed since the card was written, or do
            not fit the card's architecture.
    """
    path = _resolve(source)
    card = ModelCard.load(path.parent / CARD_NAME)
    digest = sha256_of(path)
    if digest != card.sha256:
        raise CheckpointError(
            f"the weights are not the ones their card describes: sha256 {digest[:16]}…, "
            f"the card says {card.sha256[:16] or 'nothing'}…",
            value=path,
            next_step="restore the file, or write the directory again",
        )
    try:
        state = load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"damaged safetensors file ({error})", value=path) from error
    model = build(card.model)
    fit_state(model, state, source=path, model_name=card.model)
    return model.eval(), card


def save_model(model: nn.Module, out: Path, card: ModelCard) -> ModelCard:
    """Write ``model.safetensors`` and ``card.json``.

    Args:
        model: The network.
        out: Directory to write to; made if needed.
        card: The card; its ``sha256`` is filled in here.

    Returns:
        The card as written.
    """
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    weights = out / WEIGHTS_NAME
    with staged_path(weights) as stage:
        # One key only: safetensors writes several in random order, and the hash must repeat.
        save_file(state, stage, metadata={"model": card.model})
    card = card.model_copy(update={"sha256": sha256_of(weights)})
    card.save(out / CARD_NAME)
    return card
