"""A run with everything a report shows, of made-up numbers."""

from pathlib import Path

import numpy as np
from PIL import Image
from tests.records import FLOAT, executed, images_record, save_scores, score_record

from edgefiqa.benchmarks.drift.run import DriftRules, measure_run
from edgefiqa.benchmarks.drift.waterfall import waterfalls_of
from edgefiqa.measuring.records import (
    FailureRecord,
    HostState,
    LatencyPhase,
    LatencyRecord,
    LayerNumerics,
    LayersRecord,
    RecordedRules,
    Twin,
)
from edgefiqa.measuring.run_directory import Run, load_run, save_record

NASTY = "<script>alert('x')</script>&.onnx"
LABELS = np.linspace(0, 1, 40)
FLOATS = LABELS + np.random.default_rng(0).normal(0, 0.05, 40)
INT8 = executed("a_w8.onnx", precision="mixed_w8a8", sha256="b" * 64)
HOST = HostState(
    recorded_at="2026-01-01T00:00:00Z",
    processor="Test CPU",
    architecture="x86_64",
    cores=2,
    system="Linux",
    python="3.11",
)


def latency_record(ran: object, samples: np.ndarray, noise: str | None = None) -> LatencyRecord:
    return LatencyRecord.model_validate(
        {
            "executed": ran,
            "device": "host",
            "host": HOST,
            "rules": RecordedRules(warm_up=1, min_count=1, min_seconds=0),
            "samples_ms": {LatencyPhase.INFERENCE: tuple(float(v) for v in samples)},
            "noise": noise,
        }
    )


def write_sample_run(path: Path) -> Run:
    """Write a run directory and read it again; always the same one."""
    rng = np.random.default_rng(1)
    twin = Twin(file="copy.onnx", target="onnx", precision="fp32")
    files = [executed(twins=(twin,)), INT8, executed(NASTY, sha256="c" * 64, precision="w8a8")]
    drifts = (rng.normal(0, 1e-7, 40), rng.normal(0.006, 0.01, 40), rng.normal(0, 0.03, 40))
    scored = save_scores(
        path,
        images_record(40, labels=LABELS, facts=[{"luminance": 20.0 + row} for row in range(40)]),
        score_record(FLOATS, FLOAT, reference=True),
        *(score_record(FLOATS + d, file) for d, file in zip(drifts, files, strict=True)),
    )
    for record in measure_run(scored, DriftRules(threshold=0.5, resamples=40)):
        if record.executed == INT8:
            (path / "thumbnails").mkdir()
            Image.new("RGB", (8, 8), "red").save(path / "thumbnails" / "t.jpg")
            worst = record.worst[0].model_copy(update={"thumbnail": "thumbnails/t.jpg"})
            update = {"worst": (worst, *record.worst[1:])}
            save_record(path, record.model_copy(update=update))
    save_record(path, latency_record(files[0], rng.gamma(50, 0.2, 100)))
    save_record(path, latency_record(INT8, rng.gamma(50, 0.1, 100), noise="load 7 on 2 cores"))
    failure = FailureRecord(
        file="b.mlpackage",
        sha256=None,
        target="coreml",
        precision="fp16",
        runtime="coreml",
        error="it runs\non macOS only",
    )
    save_record(path, failure)
    layers = [
        LayerNumerics(name=name, op="Conv", shape=(1, 4), snr_db=snr, cosine=0.9)
        for name, snr in (("stem.0", 12.0), ("stem.1", 8.0))
    ]
    save_record(
        path,
        LayersRecord(
            executed=INT8,
            reference=FLOAT,
            n=2,
            min_snr_db=20,
            layers=tuple(layers),
            first_wrong="stem.0",
        ),
    )
    for waterfall in waterfalls_of(scored, resamples=20):
        save_record(path, waterfall)
    return load_run(path)
