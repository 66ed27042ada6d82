"""What follows the scoring of an export: drift of each file, and where it comes from."""

from pathlib import Path

from edgefiqa.benchmarks.drift.run import DriftRules, measure_run
from edgefiqa.benchmarks.drift.waterfall import waterfalls_of
from edgefiqa.measuring.image_source import SourceSpec, open_source
from edgefiqa.measuring.records import DriftRecord
from edgefiqa.measuring.run_directory import load_run, save_record

__all__ = ["record_drift"]


def record_drift(out: Path, spec: SourceSpec, rules: DriftRules) -> list[DriftRecord]:
    """Measure the drift of a run's scores, and write the records and waterfalls beside them.

    Args:
        out: The run directory that ``score_export`` wrote.
        spec: The images that were scored; thumbnails of the worst are made of them.
        rules: How drift is measured.

    Returns:
        The drift records, as written.

    Raises:
        DataError: The run has no images or no reference.
    """
    records = list(measure_run(load_run(out), rules, source=open_source(spec)))
    for waterfall in waterfalls_of(load_run(out), resamples=rules.resamples):
        save_record(out, waterfall)
    return records
