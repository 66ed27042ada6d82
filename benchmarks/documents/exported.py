"""The default student and its exported files: card, parity, latency, drift."""

import re
from collections.abc import Sequence

from edgefiqa.benchmarks import latency_rows, ratio_text, with_interval
from edgefiqa.benchmarks.documents.sources import (
    LATENCIES,
    DriftRecords,
    Sources,
    check_files,
    check_weights,
    weights_text,
)
from edgefiqa.convert import parity_table
from edgefiqa.markdown import Table
from edgefiqa.measuring.paired_ratios import CONFIDENCE
from edgefiqa.measuring.records import LatencyRecord

__all__ = ["DRIFT", "LATENCY", "drift_table", "export_table", "latency_table", "student_table"]

LATENCY, DRIFT = "latency_default_student", "drift_default_student"
_FLOATS = ("fp32", "fp16")
_AGAIN = "make demo bench"


def student_table(sources: Sources) -> str:
    """Return the default student's figures, from its card."""
    rows = [
        [entry["data"], str(entry["n"]), f"{entry['srcc']:.3f}", f"{entry['plcc']:.3f}"]
        for entry in sources.card.metrics
    ]
    table = Table(heads=["data", "images", "SRCC", "PLCC"], rows=rows)
    return f"{table.markdown()}\n\n{weights_text(sources.card)}."


def export_table(sources: Sources) -> str:
    """Return each float file's distance to torch; INT8 files have a separate table."""
    manifest = sources.export()
    kept = [artifact for artifact in manifest.artifacts if artifact.precision in _FLOATS]
    floats = manifest.model_copy(update={"artifacts": kept})
    photos = "; ".join(dict.fromkeys(p.photos for artifact in kept for p in artifact.parity))
    what = f"{weights_text(sources.card)}, {manifest.contract['size']} px"
    return f"{parity_table(floats)}\n\n{what}; images: {photos}."


def latency_table(sources: Sources) -> str:
    """Return how long each file takes, and each INT8 file beside its float file."""
    path = sources.path(LATENCY)
    records = LATENCIES.validate_json(path.read_bytes())
    hashes = [record.executed.sha256 for record in records]
    check_files(hashes, None, sources, path, _AGAIN)
    rows = []
    for row in latency_rows(records):
        ran, times = row.record.executed, row.inference
        cells = [ran.file, ran.runtime_version, f"{times.p50_ms:.2f}", f"{times.p90_ms:.2f}"]
        rows.append([*cells, ratio_text(row.ratio), f"`{ran.sha256[:12]}`"])
    heads = ["file", "in", "p50 ms", "p90 ms", "time / float file", "sha256"]
    table = Table(heads=heads, rows=rows)
    return f"{table.markdown()}\n\n{weights_text(sources.card)}; {_describe_latency(records)}"


def _describe_latency(records: Sequence[LatencyRecord]) -> str:
    """Say in a paragraph how the times were measured."""
    first = records[0]
    noise = "; ".join(_noise_of(records))
    return (
        f"{first.host.processor}, {first.executed.threads} thread; {first.rules.rounds} rounds of "
        f"fresh processes, files in turns, at least {first.rules.min_count} samples of each, none "
        f"left out. Ratios are paired, with {CONFIDENCE:.0%} intervals. "
        + (f"The run was noisy ({noise})." if noise else "No noise was found.")
        + " Core ML needs macOS: no time here. An x86 processor says little about a phone."
    )


def _noise_of(records: Sequence[LatencyRecord]) -> list[str]:
    """Say each kind of noise once, with its least and greatest share and how many files had it."""
    kinds: dict[str, list[str]] = {}
    for record in records:
        for phrase in record.noise.split("; ") if record.noise else ():
            kinds.setdefault(re.sub(r"\d+%", "%", phrase), []).append(phrase)
    said = []
    for kind, phrases in kinds.items():
        shares = [int(share) for phrase in phrases for share in re.findall(r"(\d+)%", phrase)]
        span = f"{min(shares)}–{max(shares)}%" if shares else "%"
        said.append(f"{len(phrases)} of {len(records)} files: {kind.replace('%', span)}")
    return said


def drift_table(sources: Sources) -> str:
    """Return each file's distance to the float model on labelled images."""
    record = sources.load(DRIFT, DriftRecords)
    first = record.files[0]
    check_weights(first.reference.sha256, sources.card, sources.path(DRIFT), _AGAIN)
    forms = {"delta_srcc": "+.4f", "srcc_reference": ".5f", "p99_error": ".1e", "bias": "+.1e"}
    rows = []
    for file in record.files:
        ran, figures = file.executed, file.slices["all"].figures
        cells = [with_interval(figures[name], form) for name, form in forms.items()]
        rows.append([ran.file, ran.runtime_version, *cells, f"`{ran.sha256[:12]}`"])
    heads = ["file", "in", "ΔSRCC", "SRCC to float", "p99 error", "bias", "sha256"]
    return (
        f"{Table(heads=heads, rows=rows).markdown()}\n\n{weights_text(sources.card)}; "
        f"{first.images.count} images: {record.images} (sha256 `{first.images.sha256[:12]}`). "
        f"Intervals are {first.confidence:.0%}, bootstrap over {first.slices['all'].clusters} "
        "photographs."
    )
