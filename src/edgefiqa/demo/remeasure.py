"""The files of a finished demo, measured again by the full rules of latency: ``make bench``.

::

    runs/demo ─▶ latency, drift ─▶ runs/bench ─▶ benchmarks/records/*.json ─▶ the documents' tables
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgefiqa.benchmarks import LatencyRules, write_report
from edgefiqa.demo.image_sets import ImageSets
from edgefiqa.demo.measurements import measure_drift, measure_times
from edgefiqa.demo.run import PLAN_NAME
from edgefiqa.demo.settings import Settings
from edgefiqa.errors import DataError, EdgeFiqaError
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.policy import load_policy
from edgefiqa.measuring.records import FailureRecord, ImagesRecord
from edgefiqa.measuring.run_directory import IMAGES_NAME, load_record, load_run, save_record

__all__ = ["remeasure"]


def remeasure(
    demo: Path, out: Path, *, say: Callable[[str], None], rules: LatencyRules | None = None
) -> Path:
    """Measure latency and drift into a new run directory and write its report.

    Args:
        demo: Folder of a finished demo.
        out: The run directory; empty or not there yet.
        say: Told what is being done.
        rules: Rules of latency; the full ones if None.

    Returns:
        The report's page.

    Raises:
        DataError: ``demo`` is no finished demo, or ``out`` is not empty.
        EdgeFiqaError: A file that the demo measured could not be measured.
    """
    rules = rules or LatencyRules()
    images, plan = _read_demo(demo)
    if out.exists() and any(out.iterdir()):
        raise DataError("the folder is not empty", value=out, next_step="remove it")
    save_record(out, images)
    settings = Settings(**plan["images"])
    sets = ImageSets.of_set(demo / "images", settings, text=images.source)
    say(f"latency: {rules.rounds} rounds")
    measure_times(demo / "export", out, rules, say=say)
    say("drift")
    refused = _refused_by(demo)
    failed = measure_drift(
        "default", demo / "export", sets, out, refused=refused, settings=settings, say=say
    )
    for failure in (*failed, *(f for f in load_run(out).failures if f not in refused)):
        raise EdgeFiqaError("a file was not measured", value=f"{failure.cell}: {failure.error}")
    page, *_ = write_report(load_run(out), out, policy=load_policy(plan["policy"]))
    return page


def _read_demo(demo: Path) -> tuple[ImagesRecord, dict[str, Any]]:
    """Return a demo's images and what it was made from."""
    if not (demo / PLAN_NAME).is_file() or not (demo / IMAGES_NAME).is_file():
        raise DataError("this is no finished demo", value=demo, next_step="make demo")
    images = load_record(demo / IMAGES_NAME)
    assert isinstance(images, ImagesRecord)
    plan: dict[str, Any] = json.loads((demo / PLAN_NAME).read_text(encoding="utf-8"))
    return images, plan


def _refused_by(demo: Path) -> list[FailureRecord]:
    """Return what the demo's policy refused: failures of files that the export does not hold."""
    held = {artifact.file for artifact in Manifest.load(demo / "export").artifacts}
    return [failure for failure in load_run(demo).failures if failure.file not in held]
