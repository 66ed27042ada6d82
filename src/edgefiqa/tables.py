"""Tables for documents, made from records."""

from edgefiqa.manifest import Manifest

__all__ = ["parity_table"]


def parity_table(manifest: Manifest) -> str:
    """Return a Markdown table: each file, what executed it, and its distance to torch."""
    rows = [
        "| file | MB | executed by | images | largest difference to torch | sha256 |",
        "|---|---|---|---|---|---|",
    ]
    for artifact in manifest.artifacts:
        first = f"| {artifact.file} | {artifact.size_bytes / 1e6:.2f} |"
        last = f"`{artifact.sha256[:12]}` |"
        rows += [
            f"{first} {parity.runtime} | {parity.images} | {parity.max_abs_error:.1e} | {last}"
            for parity in artifact.parity
        ]
        rows += [
            f"{first} **not executed** ({missing.runtime}) | 0 | {missing.reason} | {last}"
            for missing in artifact.not_executed
        ]
    return "\n".join(rows)
