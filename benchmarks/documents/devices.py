"""``.tflite`` routes, start-up of an installation, and golden scores on ARM processors."""

import statistics

from edgefiqa.benchmarks.arm.records import ArmRecord
from edgefiqa.benchmarks.arm.table import arm_table
from edgefiqa.benchmarks.documents.sources import Sources, check_files, committed, weights_text
from edgefiqa.benchmarks.studies.records import RoutesRecord, StartupRecord
from edgefiqa.markdown import Table

__all__ = ["arm_numerics_table", "routes_table", "startup_line"]

_ROUTES = "tflite_routes_student_288_1_thread"
_STARTUP = "startup"
_ARM = "arm_numerics_default_student"


def _not_measured(sources: Sources, command: str) -> str:
    """Say that there is no record of the present weights, and how to make one."""
    return f"{weights_text(sources.card)}: not measured yet. Next: `{command}`."


def routes_table(sources: Sources) -> str:
    """Return the comparison of the ways to a ``.tflite``."""
    command = (
        f"edgefiqa study tflite-routes A.tflite B.tflite … --rounds 10 --out {committed(_ROUTES)}"
    )
    path = sources.path(_ROUTES)
    if not path.exists():
        return _not_measured(sources, command)
    record = sources.load(_ROUTES, RoutesRecord)
    hashes = [file.sha256 for file in record.files]
    check_files(hashes, record.parent_sha256, sources, path, command)
    rows = []
    for file in record.files:
        ratios = file.paired_ratios
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        times = [f"{file.median_ms:.2f}", f"{file.p90_ms:.2f}"]
        rows.append([file.file, *times, spread, f"`{file.sha256[:12]}`"])
    table = Table(heads=["file", "median ms", "p90 ms", "ratio, paired", "sha256"], rows=rows)
    return (
        f"{table.markdown()}\n\n{weights_text(sources.card)}; {record.runtime}, "
        f"{record.threads} thread, {record.processor}; {record.rounds} rounds of {record.runs} "
        "inferences, interleaved."
    )


def startup_line(sources: Sources) -> str:
    """Return the size and start-up of a ``[tflite]`` installation."""
    command = f"edgefiqa study startup student.tflite photo.jpg --out {committed(_STARTUP)}"
    path = sources.path(_STARTUP)
    if not path.exists():
        return _not_measured(sources, command)
    record = sources.load(_STARTUP, StartupRecord)
    check_files([record.sha256], record.parent_sha256, sources, path, command)
    seconds = f"{record.median_seconds:.2f} s (median of {record.runs}"
    return (
        f"An installation of `edgefiqa[tflite]` takes {record.installed_mb:.0f} MB; from "
        f"process start to the first score: {seconds}, at most {record.max_seconds:.2f} s). "
        f"{weights_text(sources.card)}, file `{record.sha256[:12]}`."
    )


def arm_numerics_table(sources: Sources) -> str:
    """Return the golden scores of each file on emulated ARM processors."""
    command = (
        f"make arm EXPORT=runs/demo/export, and runs/arm/arm_numerics.json to {committed(_ARM)}"
    )
    path = sources.path(_ARM)
    if not path.exists():
        return _not_measured(sources, command)
    record = sources.load(_ARM, ArmRecord)
    hashes = [file.host.sha256 for file in record.files if file.host is not None]
    check_files(hashes, record.parent_sha256, sources, path, command)
    return f"{arm_table(record).rstrip()}\n\n{weights_text(sources.card)}."
