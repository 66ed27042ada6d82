"""Core ML packages in the MIL reference evaluator, and how well it follows Core ML's rules."""

from edgefiqa.benchmarks.documents.sources import Sources, check_weights, weights_text
from edgefiqa.benchmarks.studies.mil.records import ConformanceRecord, CoremlRowsRecord
from edgefiqa.markdown import Table
from edgefiqa.quantize import bounded_table

__all__ = ["conformance_table", "coreml_table"]

_ROWS = "coreml_default_student"


def coreml_table(sources: Sources) -> str:
    """Return what becomes of the default student in Core ML's forms."""
    record = sources.load(_ROWS, CoremlRowsRecord)
    command = "edgefiqa study mil-rows, and its coreml_rows.json into benchmarks/records"
    check_weights(record.parent_sha256, sources.card, sources.path(_ROWS), command)
    images, runtime = record.evaluation, next(iter(record.rows.values())).runtime
    what = f"{images.images} images of {images.name} (sha256 `{images.sha256[:12]}`)"
    table = bounded_table(record.rows, record.bounds)
    return f"{table}\n\n{weights_text(sources.card)}; {what}; {runtime}."


def conformance_table(sources: Sources) -> str:
    """Return how many of coremltools' op tests pass on the MIL evaluator."""
    record = sources.load("mil_conformance", ConformanceRecord)
    rows = []
    for run in record.runs:
        ran = -(-run.collected // run.every)
        counts = [run.collected, ran, run.claimed, run.passed, len(run.failed)]
        rows.append([run.precision, *map(str, counts), f"{run.rate:.2%}"])
    heads = ["selection", "tests", "run", "with claimed ops", "pass", "fail", "share"]
    tools = ", ".join(f"{name} {version}" for name, version in record.tools.items())
    # Not the record's command: it may be spelled as an earlier version had it.
    command = f"edgefiqa study mil-conformance --sample {record.runs[0].every}"
    return f"{Table(heads=heads, rows=rows).markdown()}\n\n`{command}`, {tools}."
