import statistics
from pathlib import Path

import pytest
from tests.photographs import paint_photos

from edgefiqa.benchmarks.training_speed import Settings, measure_training_speed
from edgefiqa.errors import UsageError

TINY = Settings(
    model="timm:mobilenetv3_small_050",
    size=64,
    crop=64,
    batch=4,
    steps=2,
    warmup=1,
    rounds=1,
    threads=2,
    photos=8,
)


@pytest.mark.slow
def test_the_record_follows_from_its_step_times(tmp_path: Path) -> None:
    paint_photos(tmp_path, range(8))
    record = measure_training_speed(tmp_path, TINY)
    (steps,) = record["step_seconds"]
    assert len(steps) == 6
    for name, seconds in steps.items():
        assert len(seconds) == TINY.steps
        rate = TINY.batch / statistics.median(seconds)
        assert record["images_per_second"][name] == pytest.approx(rate, rel=0.05)
    plain = max(rate for name, rate in record["images_per_second"].items() if "plain" in name)
    ratio = record["images_per_second"]["ours, bfloat16"] / plain
    assert record["ratio"]["ours, bfloat16"] == pytest.approx(ratio, rel=0.05)


def test_too_few_photographs(tmp_path: Path) -> None:
    paint_photos(tmp_path, range(1))
    with pytest.raises(UsageError, match="1 photographs, batch 4"):
        measure_training_speed(tmp_path, TINY)
