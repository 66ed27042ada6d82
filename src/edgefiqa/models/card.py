"""The card that lies beside a model's weights."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgefiqa.errors import CheckpointError
from edgefiqa.files import write_text

__all__ = ["CARD_NAME", "WEIGHTS_NAME", "ModelCard"]

CARD_NAME = "card.json"
WEIGHTS_NAME = "model.safetensors"


class ModelCard(BaseModel):
    """What a user must know about a set of weights.

    Attributes:
        model: Architecture, a name of ``edgefiqa models`` or ``timm:<backbone>``.
        name: Name of these weights.
        version: Version of these weights.
        description: One paragraph: what it is, how it was made, what it is not for.
        size: Input side in pixels the weights were made for.
        score_range: Range of the training labels; scores are not clipped to it.
        training_data: The data, named, and where its labels come from.
        licence: SPDX identifier, or a sentence, of the weights.
        sha256: SHA-256 of the safetensors file; empty only until it is saved.
        metrics: Measured figures; each entry names its data and ``n``.
        provenance: Commands, recipe, parents' hashes, package versions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    model: str
    name: str
    version: str = "1"
    description: str
    size: int = Field(ge=32, le=4096)
    score_range: tuple[float, float] = (0.0, 1.0)
    training_data: str
    licence: str
    sha256: str = ""
    metrics: list[dict[str, Any]] = []
    provenance: dict[str, Any] = {}

    def save(self, path: Path) -> None:
        """Write the card as JSON, whole or not at all."""
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> "ModelCard":
        """Read a card.

        Raises:
            CheckpointError: If it is missing or does not have this layout.
        """
        if not path.is_file():
            raise CheckpointError(
                "no model card beside the weights",
                value=path,
                next_step=f"a model directory holds {WEIGHTS_NAME} and {CARD_NAME}; "
                "edgefiqa import writes both",
            )
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
            )
            raise CheckpointError(f"the model card is not valid ({faults})", value=path) from error
