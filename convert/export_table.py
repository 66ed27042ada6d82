"""The table of an export: each file, what executed it, and its distance to torch."""

from edgefiqa.manifest import Manifest
from edgefiqa.markdown import Table

__all__ = ["parity_table"]

_HEADS = ("file", "MB", "executed by", "images", "largest difference to torch", "sha256")


def parity_table(manifest: Manifest) -> str:
    """Return a Markdown table with one row for each file and runtime."""
    rows = []
    for artifact in manifest.artifacts:
        first = [artifact.file, f"{artifact.size_bytes / 1e6:.2f}"]
        last = f"`{artifact.sha256[:12]}`"
        rows += [
            [*first, parity.runtime, str(parity.images), f"{parity.max_abs_error:.1e}", last]
            for parity in artifact.parity
        ]
        rows += [
            [*first, f"**not executed** ({missing.runtime})", "0", missing.reason, last]
            for missing in artifact.not_executed
        ]
    return Table(heads=_HEADS, rows=rows).markdown()
