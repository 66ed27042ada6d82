import statistics
from pathlib import Path

import pytest
from tests.photographs import paint_photos

from edgefiqa.benchmarks.studies.records import TrainingSettings
from edgefiqa.benchmarks.studies.training_speed import measure_training_speed
from edgefiqa.errors import UsageError

TINY = TrainingSettings(
    model="timm:mobilenetv3_small_050",
    size=64,
    crop=64,
    batch=4,
    steps=2,
    lead=1,
    rounds=2,
    threads=2,
    photos=8,
)


@pytest.mark.slow
def test_the_record_follows_from_its_step_times(tmp_path: Path) -> None:
    paint_photos(tmp_path, range(8))
    record = measure_training_speed(tmp_path, TINY)
    assert len(record.step_seconds) == TINY.rounds
    rates: dict[str, list[float]] = {}
    for turn in record.step_seconds:
        assert len(turn) == 6
        for name, seconds in turn.items():
            assert len(seconds) == TINY.steps
            rates.setdefault(name, []).append(TINY.batch / statistics.median(seconds))
    for name, measured in rates.items():
        rate = statistics.median(measured)
        assert record.images_per_second[name] == pytest.approx(rate, rel=0.05)
    plain = record.best_plain
    assert plain == max(
        (name for name in rates if "plain" in name), key=lambda name: statistics.median(rates[name])
    )
    for name, ratios in record.paired_ratios.items():
        expected = [a / b for a, b in zip(rates[name], rates[plain], strict=True)]
        assert ratios == pytest.approx(expected, rel=0.1)
        assert record.ratio[name].centre == pytest.approx(
            statistics.geometric_mean(expected), rel=0.1
        )
        assert record.ratio[name].low is None


def test_too_few_photographs(tmp_path: Path) -> None:
    paint_photos(tmp_path, range(1))
    with pytest.raises(UsageError, match="1 photographs, batch 4"):
        measure_training_speed(tmp_path, TINY)
