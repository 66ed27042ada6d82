"""Which float file each latency is put beside, and what the table says of it."""

import numpy as np
import pytest
from tests.benchmarks.report.sample_run import HOST
from tests.records import executed

from edgefiqa.benchmarks.latency.table import latency_rows, ratio_text, times_ms
from edgefiqa.measuring.records import Executed, LatencyPhase, LatencyRecord, RecordedRules

ROUNDS = 8


def record(
    ran: Executed, scale: float, *, run: str | None = "run", device: str = "host"
) -> LatencyRecord:
    """Eight rounds of one turn with three samples; the machine drifts from round to round."""
    drift = np.repeat(np.linspace(10, 20, ROUNDS), 3)
    rules = RecordedRules(warm_up=0, min_count=1, min_seconds=0, rounds=ROUNDS, interleaved=run)
    return LatencyRecord(
        executed=ran,
        device=device,
        host=HOST,
        rules=rules,
        samples_ms={
            LatencyPhase.LOAD: (3.0, 5.0, 4.0),
            LatencyPhase.INFERENCE: tuple((drift * scale).tolist()),
        },
        rounds=tuple(np.repeat(np.arange(ROUNDS), 3).tolist()),
        turns=(0,) * (3 * ROUNDS),
        peak_rss_bytes=50_000_000,
    )


def tflite(file: str, target: str = "tflite", precision: str = "fp32") -> Executed:
    return executed(file, precision=precision, runtime="litert", format_="tflite", target=target)


def test_each_file_has_the_float_file_it_belongs_beside() -> None:
    records = [
        record(tflite("b_w8.tflite", precision="mixed_w8a8"), 0.5),
        record(tflite("a.tflite"), 1.0),
        record(tflite("a_tf.tflite", target="tflite-tf"), 1.2),
        record(tflite("a_tf_w8.tflite", target="tflite-tf", precision="w8"), 0.6),
        record(executed("a.onnx"), 2.0),
        record(executed("a_w8.onnx", precision="w8"), 1.0),
    ]
    rows = latency_rows(records)
    found: dict[str, object] = {
        row.record.executed.file: (row.ratio.base, row.ratio.ratio.value)
        for row in rows
        if row.ratio is not None
    }
    assert found == {
        "a_w8.onnx": ("a.onnx in onnxruntime", pytest.approx(0.5)),
        "a_tf.tflite": ("a.tflite in litert", pytest.approx(1.2)),
        "b_w8.tflite": ("a.tflite in litert", pytest.approx(0.5)),
        "a_tf_w8.tflite": ("a_tf.tflite in litert", pytest.approx(0.5)),
    }
    files = [row.record.executed.file for row in rows]
    assert files == [
        *("a.onnx", "a_w8.onnx", "a.tflite", "a_tf.tflite", "a_tf_w8.tflite", "b_w8.tflite")
    ]


def test_what_took_no_turns_together_is_not_compared() -> None:
    base = record(executed("a.onnx"), 1.0)
    for other in (
        record(executed("a_w8.onnx", precision="w8"), 0.5, run="another"),
        record(executed("a_w8.onnx", precision="w8"), 0.5, run=None),
        record(executed("a_w8.onnx", precision="w8"), 0.5, device="adb:1"),
        record(executed("a_w8.onnx", precision="w8", runtime="ort_mobile"), 0.5),
        record(executed("a_w8.onnx", precision="w8").model_copy(update={"threads": 2}), 0.5),
    ):
        assert [row.ratio for row in latency_rows([base, other])] == [None, None]
    empty = base.model_copy(update={"samples_ms": {}, "rounds": (), "turns": ()})
    assert latency_rows([empty]) == []


def test_the_texts_are_those_of_numpy() -> None:
    base, other = record(executed("a.onnx"), 1.0), record(executed("b.onnx", precision="w8"), 0.5)
    first, second = latency_rows([other, base])
    assert ratio_text(first.ratio) == "–"
    assert ratio_text(second.ratio) == "0.500 [0.500, 0.500]"
    samples = np.array(base.samples_ms[LatencyPhase.INFERENCE])
    low, middle, high, p90, p99 = np.percentile(samples, (25, 50, 75, 90, 99))
    wanted = [middle, p90, p99, samples.mean(), high - low]
    assert times_ms(first) == [*(f"{value:.2f}" for value in wanted), "4.0", "–"]
    few = base.model_copy(update={"executed": executed("c.onnx", precision="w8")})
    short = [
        measured.model_copy(
            update={
                "samples_ms": {
                    LatencyPhase.INFERENCE: measured.samples_ms[LatencyPhase.INFERENCE][:6]
                },
                "rounds": measured.rounds[:6],
                "turns": measured.turns[:6],
            }
        )
        for measured in (base, few)
    ]
    assert ratio_text(latency_rows(short)[1].ratio) == "1.000 no interval"
