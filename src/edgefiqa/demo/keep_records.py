"""A measured demo's records, kept in the checkout: what the documents' tables are made from."""

import tempfile
from pathlib import Path

from edgefiqa.benchmarks.studies import DRIFT, LATENCIES, LATENCY, ROOT, DriftRecords, Sources
from edgefiqa.demo.pictures import Scored, write_pictures, write_sheet
from edgefiqa.errors import DataError
from edgefiqa.files import write_text
from edgefiqa.measuring.run_directory import load_run

__all__ = ["keep_records"]

PICTURE = ROOT / "docs" / "demo.png"


def keep_records(
    demo: Path, run: Path, *, sources: Sources | None = None, picture: Path = PICTURE
) -> None:
    """Write the committed records, and the picture of the README, from a demo.

    Args:
        demo: Folder of a finished demo.
        run: What ``edgefiqa study demo-files`` measured of its files.
        sources: Where the records go; the committed ones if None.
        picture: Where the picture goes.

    Raises:
        DataError: The run has no drift.
    """
    sources, found = sources or Sources(), load_run(run)
    if found.images is None:
        raise DataError("this run has no drift", value=run, next_step="make bench")
    manifest = (demo / "export" / "manifest.json").read_text(encoding="utf-8")
    write_text(sources.path("export_default_student"), manifest)
    write_text(sources.path(LATENCY), LATENCIES.dump_json(list(found.latency)).decode() + "\n")
    drift = DriftRecords(
        images=found.images.source,
        label=found.images.label,
        files=[record.model_copy(update={"worst": ()}) for record in found.drift],
    )
    write_text(sources.path(DRIFT), drift.model_dump_json() + "\n")
    _draw_astronaut(demo, picture)


def _draw_astronaut(demo: Path, picture: Path) -> None:
    """Draw the portrait of scikit-image alone, never a user's photographs."""
    scored = Scored.model_validate_json((demo / "pictures.json").read_bytes())
    is_portrait = [name.startswith("pictures/astronaut_") for name in scored.pictures]
    scores = scored.columns[0].scores
    with tempfile.TemporaryDirectory() as folder:
        pictures = write_pictures(Path(folder), None)
        shown = [score for score, shows in zip(scores, is_portrait, strict=True) if shows]
        write_sheet(pictures, shown, picture)
