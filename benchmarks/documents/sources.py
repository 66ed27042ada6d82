"""What the tables of the documents are made from, and whether it is still about these weights."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from edgefiqa.errors import DataError
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.records import DriftRecord, LatencyRecord
from edgefiqa.models import ModelCard, default_model_dir
from edgefiqa.models.card import CARD_NAME

__all__ = [
    "LATENCIES",
    "RECORDS",
    "ROOT",
    "DriftRecords",
    "Sources",
    "check_files",
    "check_weights",
    "committed",
    "load_default_card",
    "weights_text",
]

ROOT = Path(__file__).resolve().parents[2]
"""The checkout; an installed package has no documents."""

RECORDS = ROOT / "benchmarks" / "records"

LATENCIES: TypeAdapter[list[LatencyRecord]] = TypeAdapter(list[LatencyRecord])
Kind = TypeVar("Kind")


class DriftRecords(BaseModel):
    """The drift of every file of one export.

    Attributes:
        images: What they were measured on, in words.
        label: What the labels mean.
        files: One record a file and runtime, without the worst images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str
    label: str | None
    files: list[DriftRecord]


def committed(name: str) -> str:
    """Return where a record lies in the checkout, for messages."""
    return f"benchmarks/records/{name}.json"


def load_default_card() -> ModelCard:
    """Return the default student's card."""
    return ModelCard.load(default_model_dir() / CARD_NAME)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where tables take their figures from.

    Attributes:
        card: The default student's, whose weights the figures must be of.
        records: Folder of the committed records.
    """

    card: ModelCard = field(default_factory=load_default_card)
    records: Path = RECORDS

    def path(self, name: str) -> Path:
        """Return the file of a committed record."""
        return self.records / f"{name}.json"

    def load(self, name: str, kind: type[Kind]) -> Kind:
        """Read a committed record as what it is.

        Args:
            name: Name of its file, without the ending.
            kind: A record's class, or a list of one.
        """
        found: Kind = TypeAdapter(kind).validate_json(self.path(name).read_bytes())
        return found

    def export(self) -> Manifest:
        """Return the manifest of the default student's export.

        Raises:
            DataError: The export is of other weights.
        """
        name = "export_default_student"
        manifest = self.load(name, Manifest)
        check_weights(manifest.card["sha256"], self.card, self.path(name), "make demo bench")
        return manifest


def check_weights(found: str, card: ModelCard, record: Path, next_step: str) -> None:
    """Refuse a record of other weights: its figures would stand beside those of these.

    Args:
        found: sha256 of the weights that the record is of.
        card: Card of the weights that the record must be of.
        record: Its file.
        next_step: The command that measures it again.

    Raises:
        DataError: It is of other weights.
    """
    if found != card.sha256:
        raise DataError(
            f"a committed record is of the weights {found[:12]}",
            value=record,
            allowed=f"{card.sha256[:12]}, those of {card.name}",
            next_step=next_step,
        )


def check_files(
    hashes: Iterable[str], parent: str | None, sources: Sources, record: Path, next_step: str
) -> None:
    """Refuse a record whose files were not exported from the default student.

    Args:
        hashes: sha256 of the files that it measured.
        parent: sha256 of the weights that they were exported from; None if it does not say.
        sources: Have the default student and its export.
        record: Its file.
        next_step: The command that measures it again.

    Raises:
        DataError: It says other weights; or none, and a file is not of the committed export.
    """
    if parent is not None:
        check_weights(parent, sources.card, record, next_step)
        return
    known = {artifact.sha256 for artifact in sources.export().artifacts}
    foreign = [digest for digest in hashes if digest not in known]
    if foreign:
        raise DataError(
            f"a committed record is of the file {foreign[0][:12]}, not of the weights "
            f"{sources.card.sha256[:12]} of {sources.card.name}",
            value=record,
            next_step=next_step,
        )


def weights_text(card: ModelCard) -> str:
    """Name the default student's weights, as each table of their figures does."""
    return f"Default student `{card.sha256[:12]}`"
