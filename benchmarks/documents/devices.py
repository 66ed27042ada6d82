"""``.tflite`` routes, start-up of an installation, and golden scores on ARM processors."""

import statistics

from edgefiqa.benchmarks.arm.records import ArmRecord
from edgefiqa.benchmarks.arm.table import arm_table
from edgefiqa.benchmarks.documents.sources import Sources, check_files, committed, weights_text
from edgefiqa.benchmarks.studies.records import RoutesRecord, StartupRecord

__all__ = ["arm_numerics_table", "routes_table", "startup_line"]

_ROUTES = "tflite_routes_student_288_1_thread"
_STARTUP = "startup"
_ARM = "arm_numerics_default_student"


def routes_table(sources: Sources) -> str:
    """Return the comparison of the ways to a ``.tflite``."""
    record, path = sources.load(_ROUTES, RoutesRecord), sources.path(_ROUTES)
    hashes = [file.sha256 for file in record.files]
    command = (
        f"edgefiqa study tflite-routes A.tflite B.tflite … --rounds 10 --out {committed(_ROUTES)}"
    )
    check_files(hashes, record.parent_sha256, sources, path, command)
    rows = ["| file | median ms | p90 ms | ratio, paired | sha256 |", "|---|---|---|---|---|"]
    for file in record.files:
        ratios = file.paired_ratios
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        figures = f"{file.median_ms:.2f} | {file.p90_ms:.2f} | {spread}"
        rows.append(f"| {file.file} | {figures} | `{file.sha256[:12]}` |")
    rows.append(
        f"\n{weights_text(sources.card)}; {record.runtime}, {record.threads} thread, "
        f"{record.processor}; {record.rounds} rounds of {record.runs} inferences, interleaved."
    )
    return "\n".join(rows)


def startup_line(sources: Sources) -> str:
    """Return the size and start-up of a ``[tflite]`` installation."""
    record, path = sources.load(_STARTUP, StartupRecord), sources.path(_STARTUP)
    command = f"edgefiqa study startup student.tflite photo.jpg --out {committed(_STARTUP)}"
    check_files([record.sha256], record.parent_sha256, sources, path, command)
    seconds = f"{record.median_seconds:.2f} s (median of {record.runs}"
    return (
        f"An installation of `edgefiqa[tflite]` takes {record.installed_mb:.0f} MB; from "
        f"process start to the first score: {seconds}, at most {record.max_seconds:.2f} s). "
        f"{weights_text(sources.card)}, file `{record.sha256[:12]}`."
    )


def arm_numerics_table(sources: Sources) -> str:
    """Return the golden scores of each file on emulated ARM processors."""
    record, path = sources.load(_ARM, ArmRecord), sources.path(_ARM)
    hashes = [file.host.sha256 for file in record.files if file.host is not None]
    command = (
        f"make arm EXPORT=runs/demo/export, and runs/arm/arm_numerics.json to {committed(_ARM)}"
    )
    check_files(hashes, record.parent_sha256, sources, path, command)
    return f"{arm_table(record).rstrip()}\n\n{weights_text(sources.card)}."
