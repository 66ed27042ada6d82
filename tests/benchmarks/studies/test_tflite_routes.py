"""The comparison of TFLite files: what it executed, and that its figures are consistent."""

import statistics
from pathlib import Path

import pytest

from edgefiqa.benchmarks.studies.tflite_routes import measure_routes
from edgefiqa.errors import UsageError
from edgefiqa.files import sha256_of
from edgefiqa.manifest import Manifest

pytestmark = pytest.mark.slow


def test_records_name_what_was_executed(export_dir: Path) -> None:
    paths = sorted(export_dir.glob("*.tflite"))
    assert len(paths) == 2
    record = measure_routes(paths, rounds=2, runs=3)
    assert record.parent_sha256 == Manifest.load(export_dir).card["sha256"]
    assert [row.sha256 for row in record.files] == [sha256_of(path) for path in paths]
    for row in record.files:
        assert [len(cell) for cell in row.samples_ms] == [3, 3]
        assert min(min(cell) for cell in row.samples_ms) > 0
        medians = [statistics.median(cell) for cell in row.samples_ms]
        assert row.median_ms == statistics.median(medians)
    assert record.files[0].paired_ratios == (1.0, 1.0)


def test_one_file_is_no_comparison(export_dir: Path) -> None:
    with pytest.raises(UsageError, match="two files"):
        measure_routes(sorted(export_dir.glob("*.tflite"))[:1])
