from pathlib import Path

import pytest
from tests.photographs import paint_photos

from edgefiqa.benchmarks.studies import labelling
from edgefiqa.benchmarks.studies.labelling import measure_labelling
from edgefiqa.errors import UsageError
from edgefiqa.photo_files import find_photos


@pytest.mark.slow
def test_both_ways_give_the_same_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "_CHUNK", 2)
    paint_photos(tmp_path, range(12))
    record = measure_labelling("default", find_photos([tmp_path]), size=64, rounds=1)
    ways = {way.way: way for way in record.ways}
    assert list(ways) == ["single", "batched float32", "batched bfloat16", "onnxruntime"]
    assert ways["batched float32"].max_abs_difference < 1e-4
    assert ways["onnxruntime"].max_abs_difference < 1e-4
    assert ways["batched bfloat16"].max_abs_difference < 0.05
    for way in ways.values():
        assert way.images_per_second > 0
    assert record.images == 12


def test_too_few_photographs(tmp_path: Path) -> None:
    paint_photos(tmp_path, range(1))
    with pytest.raises(UsageError, match="too few"):
        measure_labelling("default", find_photos([tmp_path]))
