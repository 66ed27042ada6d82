"""Measure the files of the last demo again, by the full rules of latency: ``make bench``.

::

    runs/demo ─▶ latency, drift ─▶ runs/bench ─▶ benchmarks/records/*.json ─▶ update_readme.py
"""

import json
import sys
import time
from pathlib import Path

from edgefiqa.benchmarks.latency.rules import LatencyRules
from edgefiqa.benchmarks.report.page import write_report
from edgefiqa.demo.image_sets import ImageSets
from edgefiqa.demo.measurements import measure_drift, measure_times
from edgefiqa.demo.run import PLAN_NAME
from edgefiqa.demo.settings import Settings
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.policy import load_policy
from edgefiqa.measuring.records import FailureRecord, ImagesRecord
from edgefiqa.measuring.run_directory import IMAGES_NAME, load_record, load_run, save_record

RULES = LatencyRules()


def say(text: str) -> None:
    """Print to standard error, with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def refused_by(demo: Path) -> list[FailureRecord]:
    """Return what the demo's policy refused: failures of files that the export does not hold."""
    held = {own.file for own in Manifest.load(demo / "export").artifacts}
    return [own for own in load_run(demo).failures if own.file not in held]


def main(demo: Path, out: Path) -> None:
    """Measure into a new run directory and write its report."""
    if not (demo / PLAN_NAME).is_file() or not (demo / IMAGES_NAME).is_file():
        sys.exit(f"error: {demo} is no finished demo. Next: make demo")
    images = load_record(demo / IMAGES_NAME)
    assert isinstance(images, ImagesRecord)
    if out.exists() and any(out.iterdir()):
        sys.exit(f"error: {out} is not empty. Next: remove it")
    save_record(out, images)
    plan = json.loads((demo / PLAN_NAME).read_text(encoding="utf-8"))
    settings = Settings(**plan["images"])
    sets = ImageSets.of_set(demo / "images", settings, text=images.source)
    say(f"latency: {RULES.rounds} rounds")
    measure_times(demo / "export", out, RULES, say=say)
    say("drift")
    refused = refused_by(demo)
    failed = measure_drift(
        "default", demo / "export", sets, out, refused=refused, settings=settings, say=say
    )
    for failure in (*failed, *(own for own in load_run(out).failures if own not in refused)):
        sys.exit(f"error: not measured: {failure.cell}: {failure.error}")
    page, *_ = write_report(load_run(out), out, policy=load_policy(plan["policy"]))
    say(str(page))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
