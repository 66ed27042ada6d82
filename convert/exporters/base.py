"""What an exporter is given and what it returns."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch

from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.manifest import FileMetadata

__all__ = ["Exporter", "Notes", "count_ops", "example_image", "versions"]


@dataclass(kw_only=True)
class Notes:
    """What an exporter has to say about the file it wrote.

    Attributes:
        folded: The exact rewrites that are in the file.
        structure: Operators and partitions, for the manifest.
        tools: Packages involved, with versions.
    """

    folded: list[str]
    structure: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)


class Exporter(Protocol):
    """The function ``export`` of each module in this package."""

    def __call__(
        self, scorer: ExportScorer, *, size: int, path: Path, metadata: FileMetadata
    ) -> Notes:
        """Write one scorer file.

        Args:
            scorer: The prepared network: uint8 ``[1, S, S, 3]`` → float32 ``[1]``.
            size: S, in pixels.
            path: Where to write; its suffix is the format's.
            metadata: To be written into the file.
        """
        ...


def example_image(size: int) -> torch.Tensor:
    """Return the uint8 ``[1, S, S, 3]`` image that exporters trace with."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8, generator=generator)


def count_ops(names: Iterable[str]) -> dict[str, Any]:
    """Count operators by name, most frequent first."""
    counts = Counter(names)
    return {"ops": counts.total(), "by_op": dict(counts.most_common())}


def versions(*packages: str) -> dict[str, str]:
    """Return installed versions by distribution name."""
    return {package: version(package) for package in packages}
