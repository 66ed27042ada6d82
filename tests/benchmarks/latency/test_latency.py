"""Latency: rules kept, ratios that repeat under drift, faults that stay in one row."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.records import executed
from tests.tiny_onnx import write_manifest, write_tiny
from typer.testing import CliRunner

from edgefiqa.benchmarks.latency.cells import list_latency_cells
from edgefiqa.benchmarks.latency.run import (
    SUMMARY_NAME,
    LatencyRules,
    measure_latency,
)
from edgefiqa.benchmarks.latency.summary import summarise
from edgefiqa.benchmarks.latency.targets.host import HostTarget
from edgefiqa.benchmarks.report.page import write_report
from edgefiqa.cli import app
from edgefiqa.errors import ArtifactError, UnknownNameError, UsageError
from edgefiqa.measuring.host_facts import CpuUse, read_cpu_use
from edgefiqa.measuring.host_state import machine_noise, read_host_state, share_of_others
from edgefiqa.measuring.paired_ratios import (
    PairedRatio,
    fewest_rounds,
    paired_ratios,
    signed_rank_interval,
)
from edgefiqa.measuring.records import HostState, LatencyPhase, LatencyRecord, RecordedRules
from edgefiqa.measuring.run_directory import load_run

HOST = HostState(
    recorded_at="2026-01-01T00:00:00+00:00",
    processor="made up",
    architecture="x86_64",
    cores=2,
    system="Linux",
    python="3.11",
    load_1min=0.1,
    temperature_c=40,
    governor="performance",
)
FAST = LatencyRules(
    rounds=1, turns=2, warm_up=1, turn_warm_up=1, min_count=6, min_seconds=0, limit_s=60
)
ROUNDS, TURNS, SAMPLES = 10, 16, 7

# A worker like the real one, but files whose name says so crash, hang, change or are not idle.
FAULTY = """
import os, signal, sys, time, threading
from pathlib import Path
from edgefiqa.benchmarks.latency import process as latency_process
turn = latency_process._Cell.turn
def faulty(self, **request):
    answer = turn(self, **request)
    if "segfault" in self._path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in self._path.name:
        time.sleep(60)
    if "raise" in self._path.name:
        raise RuntimeError("the accelerator is gone")
    if "replaced" in self._path.name:
        self._path.write_bytes(self._path.read_bytes() + bytes(8))
    if "spin" in self._path.name:
        def spin():
            end = time.monotonic() + 1
            while time.monotonic() < end:
                pass
        threading.Thread(target=spin, daemon=True).start()
        time.sleep(0.05)
    if "waits" in self._path.name:
        time.sleep(0.3)
    return answer
latency_process._Cell.turn = faulty
sys.exit(latency_process.main())
"""


@pytest.fixture
def faulty(tmp_path: Path) -> list[str]:
    script = tmp_path / "faulty.py"
    script.write_text(FAULTY)
    return [sys.executable, str(script)]


def _record(
    name: str, samples_ms: np.ndarray, *, run: str | None = "run", threads: int = 1
) -> LatencyRecord:
    """Make a record of ``[rounds, turns, samples]``."""
    rounds, turns, _ = (index.reshape(-1) for index in np.indices(samples_ms.shape))
    return LatencyRecord(
        executed=executed(name).model_copy(update={"threads": threads}),
        device="host",
        host=HOST,
        rules=RecordedRules(warm_up=1, min_count=1, min_seconds=0, interleaved=run),
        samples_ms={LatencyPhase.INFERENCE: tuple(map(float, samples_ms.reshape(-1)))},
        rounds=tuple(map(int, rounds)),
        turns=tuple(map(int, turns)),
    )


def _simulate(rng: np.random.Generator, slowdown: float) -> PairedRatio:
    """Time two files in turns on a machine that drifts, throttles, and runs other things.

    Sample = 20 ms × slow drift (a random walk, tens of percent over a run) × luck of the process
    (1 %) × state of the turn (2 %) × jitter (3 %); one in twenty waits for another process.
    """
    order = [(0, 1) if turn % 2 == 0 else (1, 0) for turn in range(TURNS)]
    steps = rng.normal(0, 0.02, ROUNDS * TURNS * 2)
    throttled = np.where(np.arange(len(steps)) > rng.integers(len(steps)), 0.25, 0.0)
    drift = np.exp(np.cumsum(steps) + throttled).reshape(ROUNDS, TURNS, 2)
    files = np.empty((2, ROUNDS, TURNS, SAMPLES))
    luck = np.exp(rng.normal(0, 0.01, (2, ROUNDS)))
    for turn, places in enumerate(order):
        for place, file in enumerate(places):
            state = np.exp(rng.normal(0, 0.02, (ROUNDS, 1)))
            jitter = np.exp(rng.normal(0, 0.03, (ROUNDS, SAMPLES)))
            waits = rng.exponential(15, (ROUNDS, SAMPLES)) * (rng.random((ROUNDS, SAMPLES)) < 0.05)
            scale = 20 * drift[:, turn, place, None] * luck[file][:, None] * state
            files[file, :, turn] = scale * jitter * (slowdown if file else 1) + waits
    (ratio,) = paired_ratios([_record("a.onnx", files[0]), _record("b.onnx", files[1])])
    return ratio


def test_a_against_a_is_no_difference_and_ten_percent_is_flagged() -> None:
    rng = np.random.default_rng(20)
    same = [_simulate(rng, 1.0) for _ in range(20)]
    slower = [_simulate(rng, 1.1) for _ in range(20)]
    assert sum(ratio.verdict == "no difference" for ratio in same) >= 19
    assert sum(ratio.verdict == "slower" for ratio in slower) >= 18
    assert sum(_simulate(rng, 1 / 1.1).verdict == "faster" for _ in range(20)) >= 18


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Whatever the noise, if it is symmetric: normal, heavy-tailed, of two kinds of rounds."""
    rng, n = np.random.default_rng(1), 2000
    noises = {
        "normal": rng.normal(size=(n, 10)),
        "heavy tails": rng.standard_t(1.5, (n, 10)),
        "two kinds": rng.normal(size=(n, 10)) * np.where(rng.random((n, 10)) < 0.3, 20, 1),
    }
    for name, values in noises.items():
        for confidence in (0.95, 0.99):
            figures = [signed_rank_interval(row, confidence=confidence) for row in values]
            covered = np.mean([figure.low <= 0 <= figure.high for figure in figures])  # type: ignore[operator]
            # At least the nominal one, by less than the next rank; four standard errors each way.
            expected, error = {0.95: 0.9512, 0.99: 0.9902}[confidence], 4 * (0.05 / n) ** 0.5
            assert covered == pytest.approx(expected, abs=error), (name, confidence)


def test_the_interval_is_scipys(rng: np.random.Generator) -> None:
    """It holds the centres that the exact test does not refute."""
    stats = pytest.importorskip("scipy.stats")
    values = rng.normal(0.1, 1, 12)
    figure = signed_rank_interval(values, confidence=0.95)
    assert figure.low is not None
    assert figure.high is not None
    for end, outwards in ((figure.low, -1e-6), (figure.high, 1e-6)):
        assert stats.wilcoxon(values - (end + outwards), method="exact").pvalue <= 0.05
        assert stats.wilcoxon(values - (end - outwards), method="exact").pvalue > 0.05


@pytest.mark.parametrize(("n", "ends"), [(0, False), (1, False), (7, False), (8, True)])
def test_too_few_rounds_have_no_interval(n: int, ends: bool) -> None:
    figure = signed_rank_interval(np.arange(float(n)))
    assert (figure.low is not None) is ends
    assert ends or figure.reason
    assert fewest_rounds(0.99) == 8
    assert fewest_rounds(0.95) == 6


def test_only_files_of_one_interleaved_run_and_sweep_are_paired(rng: np.random.Generator) -> None:
    samples = rng.gamma(50, 0.2, (8, 2, 3))
    records = [
        _record("a.onnx", samples),
        _record("b.onnx", 2 * samples),
        _record("c.onnx", samples / 2, threads=2),
        _record("d.onnx", samples, run="another"),
        _record("e.onnx", samples, run=None),
    ]
    (ratio,) = paired_ratios(records)
    assert (ratio.base, ratio.file) == ("a.onnx in onnxruntime", "b.onnx in onnxruntime")
    assert ratio.ratio.value == pytest.approx(2)
    assert ratio.rounds == pytest.approx([2.0] * 8)
    assert ratio.verdict == "slower"


def test_summary_leaves_no_outlier_out() -> None:
    spread = summarise([1.0] * 98 + [2.0, 1000.0])
    assert (spread.n, spread.p50_ms, spread.p90_ms, spread.iqr_ms) == (100, 1, 1, 0)
    assert spread.mean_ms == pytest.approx(11)
    assert spread.p99_ms == pytest.approx(np.percentile([1.0] * 98 + [2.0, 1000.0], 99))
    with pytest.raises(UsageError, match="no sample"):
        summarise([])


def test_cells_take_turns_and_keep_the_rules(tmp_path: Path, rng: np.random.Generator) -> None:
    paths = [write_tiny(tmp_path / "a.onnx"), write_tiny(tmp_path / "b.onnx", size=64)]
    photo = tmp_path / "photo.jpg"
    Image.fromarray(rng.integers(0, 256, (90, 70, 3), np.uint8)).save(photo)
    rules = LatencyRules(
        rounds=2, turns=2, threads=(1,), warm_up=1, min_count=10, min_seconds=0.2, photos_a_turn=1
    )
    out = tmp_path / "run"
    outcome = measure_latency(list_latency_cells(paths), rules, out=out, photos=[photo])
    assert not outcome.failures
    assert {saved_record.executed.cell for saved_record in load_run(out).latency} == {
        "a.onnx in onnxruntime",
        "b.onnx in onnxruntime",
    }
    for record in outcome.records:
        inference = record.samples_ms[LatencyPhase.INFERENCE]
        assert len(inference) >= 10
        assert sum(inference) >= 100  # 0.2 s of it and of the clock's time
        assert sorted(set(zip(record.rounds, record.turns, strict=True))) == [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
        ]
        assert {phase: len(m) for phase, m in record.samples_ms.items()} == {
            LatencyPhase.LOAD: 2,
            LatencyPhase.FIRST: 2,
            LatencyPhase.INFERENCE: len(inference),
            LatencyPhase.DECODE: 4,
            LatencyPhase.PREPROCESS: 4,
            LatencyPhase.PHOTO_INFERENCE: 4,
            LatencyPhase.END_TO_END: 4,
        }
        parts = (LatencyPhase.DECODE, LatencyPhase.PREPROCESS, LatencyPhase.PHOTO_INFERENCE)
        whole = record.samples_ms[LatencyPhase.END_TO_END]
        for row, total in enumerate(whole):
            assert sum(record.samples_ms[part][row] for part in parts) <= total
        assert record.executed.runtime_version.startswith("onnxruntime ")
        assert record.host.packages["onnxruntime"] in record.executed.runtime_version
        assert record.host_after is not None
        assert record.peak_rss_bytes is not None
        assert record.baseline_rss_bytes is not None
        # Of the process alone, not of the one that started it.
        assert 2e7 < record.baseline_rss_bytes <= record.peak_rss_bytes < 1e9
    (ratio,) = outcome.ratios
    assert len(ratio.rounds) == 2
    assert ratio.verdict == "not known"
    summary = json.loads((out / SUMMARY_NAME).read_text())
    assert [cell["cell"] for cell in summary["cells"]] == [r.executed.cell for r in outcome.records]
    assert "<h2>Latency</h2>" in write_report(load_run(out), out)[0].read_text()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("segfault.onnx", "the process died: signal 11"),
        ("raise.onnx", "RuntimeError: the accelerator is gone"),
        ("hang.onnx", "no answer in 7 s"),
        ("replaced.onnx", "changed during the run"),
        ("damaged.onnx", "ArtifactError: ONNX Runtime cannot load this file"),
    ],
)
def test_a_cell_that_fails_is_an_error_row_and_the_others_finish(
    tmp_path: Path, faulty: list[str], name: str, what: str
) -> None:
    bad = write_tiny(tmp_path / name, perturbed=0.1)
    if "damaged" in name:
        bad.write_bytes(bad.read_bytes()[:200])
    cells = list_latency_cells([bad, write_tiny(tmp_path / "good.onnx")])
    rules = replace(FAST, limit_s=7 if "hang" in name else 60)
    outcome = measure_latency(cells, rules, out=tmp_path / "run", target=HostTarget(faulty))
    (failure,), (record,) = outcome.failures, outcome.records
    assert failure.file == name
    assert what in failure.error
    assert failure.error.startswith("latency: 1 thread: ")
    assert failure.error.count("Next: ") == 1
    assert record.executed.file == "good.onnx"
    assert len(record.samples_ms[LatencyPhase.INFERENCE]) >= 4
    run = load_run(tmp_path / "run")
    assert (run.failures, run.latency) == ((failure,), (record,))

    if "damaged" not in name and "replaced" not in name:  # mended: the error row goes
        again = measure_latency(cells[:1], FAST, out=tmp_path / "run")
        run = load_run(tmp_path / "run")
        assert not run.failures
        assert sorted(saved_record.executed.file for saved_record in run.latency) == sorted(
            [name, "good.onnx"]
        )
        assert {measured.rules.interleaved for measured in again.records} <= {
            measured.rules.interleaved for measured in run.latency
        }


def test_a_process_that_does_not_rest_is_noise(tmp_path: Path, faulty: list[str]) -> None:
    paths = [write_tiny(tmp_path / "spin.onnx"), write_tiny(tmp_path / "waits.onnx", shift=1)]
    cells = list_latency_cells(paths)
    outcome = measure_latency(cells, FAST, out=tmp_path / "run", target=HostTarget(faulty))
    noise = {record.executed.file: record.noise or "" for record in outcome.records}
    assert "while waiting" in noise["spin.onnx"]
    assert "while waiting" not in noise["waits.onnx"]
    assert any(
        phrase.startswith("spin.onnx in onnxruntime, threads 1: its") for phrase in outcome.noise
    )


def test_twins_are_measured_once_and_one_path_twice_is_two_cells(tmp_path: Path) -> None:
    export = tmp_path / "export"
    for name in ("a.onnx", "copy.onnx"):
        write_tiny(export / name)
    write_tiny(export / "b.onnx", perturbed=0.1)
    write_manifest(export, {"a.onnx": "fp32", "b.onnx": "static_w8a8", "copy.onnx": "fp32"})
    first, second = list_latency_cells([export])
    assert [first.name, second.name] == ["a.onnx", "b.onnx"]
    assert [twin.file for twin in first.twins] == ["copy.onnx"]
    assert second.precision == "static_w8a8"

    same = list_latency_cells([export / "b.onnx", export / "b.onnx", export / "b.onnx"])
    assert [cell.name for cell in same] == ["b.onnx", "b.onnx (again)", "b.onnx (again 2)"]
    assert {cell.precision for cell in same} == {"static_w8a8"}

    other = write_tiny(tmp_path / "other" / "a.onnx", shift=1)
    both = list_latency_cells([export / "a.onnx", other])
    assert [cell.name for cell in both] == ["export/a.onnx", "other/a.onnx"]
    assert both[1].precision == "unknown"

    for folder in ("v1", "v2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(bytes(8) + b"{" + folder.encode())
    (weights,) = list_latency_cells([tmp_path / "v1"])
    assert (weights.name, weights.runtime) == ("model.safetensors", "torch")
    pair = list_latency_cells([tmp_path / "v1", tmp_path / "v2"])
    assert [cell.name for cell in pair] == ["v1/model.safetensors", "v2/model.safetensors"]


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "a.onnx")
    with pytest.raises(ArtifactError, match="no such model"):
        list_latency_cells([tmp_path / "missing.onnx"])
    with pytest.raises(UnknownNameError):
        list_latency_cells([path], runtimes=["fastest"])
    with pytest.raises(UsageError, match="no file for these runtimes"):
        list_latency_cells([path], runtimes=["litert"])
    write_manifest(tmp_path, {"a.onnx": "fp32"})
    write_tiny(path, perturbed=0.1)
    with pytest.raises(ArtifactError, match="not the file of the manifest"):
        list_latency_cells([tmp_path])
    for wrong in ({"threads": ()}, {"threads": (0,)}, {"threads": (1, 1)}, {"rounds": 0}):
        with pytest.raises(UsageError):
            LatencyRules(**wrong)


def test_host_state_reads_what_a_board_has(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp aes\n",
        "proc/device-tree/model": "Raspberry Pi 5 Model B\0",
        "proc/stat": "cpu  100 0 50 700 10 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/class/thermal/thermal_zone0/temp": "51234\n",
        "sys/class/thermal/thermal_zone1/temp": "-274000\n",
        "sys/class/hwmon/hwmon0/temp1_input": "48000\n",
        "sys/class/hwmon/hwmon0/temp2_input": "n/a\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    state = read_host_state(root=tmp_path)
    assert state.processor == "Raspberry Pi 5 Model B"
    assert state.features == ("asimd", "asimdhp", "asimddp")
    assert (state.governor, state.temperature_c) == ("ondemand", 51.234)
    assert state.packages["numpy"] == np.__version__
    assert read_cpu_use(root=tmp_path).machine_s == pytest.approx(1.5)

    bare = read_host_state(root=tmp_path / "nothing")
    assert (bare.features, bare.governor, bare.temperature_c) == ((), None, None)
    assert read_cpu_use(root=tmp_path / "nothing").machine_s is None


def test_own_work_is_not_noise_and_others_work_is() -> None:
    before = CpuUse(at_s=0, machine_s=100, own_s=5, processors=2)
    cpu_use = CpuUse(at_s=10, machine_s=110, own_s=15, processors=2)
    others = replace(cpu_use, machine_s=120)
    assert share_of_others(before, cpu_use) == 0
    assert share_of_others(before, others) == pytest.approx(0.5)
    assert share_of_others(before, replace(cpu_use, machine_s=None)) is None

    start = read_cpu_use()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    assert read_cpu_use().own_s - start.own_s > 0.01


@pytest.mark.parametrize(
    ("before", "after", "others", "phrase"),
    [
        ({}, {}, 0.01, ""),
        ({"load_1min": 1.5}, {}, None, "load 1.5 on 2 cores"),
        ({}, {"load_1min": 5.0}, 0.0, ""),  # this run itself
        ({}, {}, 0.2, "other processes used 20%"),
        ({}, {"temperature_c": 70.0}, 0.0, "30 °C warmer"),
        ({}, {"governor": "powersave"}, 0.0, "from performance to powersave"),
        ({"load_1min": None, "temperature_c": None}, {}, None, ""),
    ],
)
def test_noise_criteria(
    before: dict[str, object], after: dict[str, object], others: float | None, phrase: str
) -> None:
    found = machine_noise(HOST.model_copy(update=before), HOST.model_copy(update=after), others)
    assert len(found) == bool(phrase)
    assert phrase in "".join(found)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, copy = write_tiny(tmp_path / "a.onnx"), write_tiny(tmp_path / "copy.onnx")
    phrases: list[str] = []
    monkeypatch.setattr(
        "edgefiqa.benchmarks.latency.targets.host.machine_noise",
        lambda before, after, others: phrases,
    )
    monkeypatch.setattr("edgefiqa.benchmarks.latency.rounds.ROUND_SPREAD", 1000)
    monkeypatch.setattr("edgefiqa.benchmarks.latency.rounds.IDLE_SHARE", 1000)
    arguments = ["bench", "latency", str(path), str(copy), "--out", str(tmp_path / "run")]
    arguments += ["--rounds", "1", "--turns", "1", "--min-count", "3", "--min-seconds", "0"]
    result = CliRunner().invoke(app, [*arguments, "--fail-on-noise"])
    assert result.exit_code == 0, result.output
    assert "copy.onnx has the bytes of a.onnx" in result.output
    assert "inference" in result.output
    phrases.append("other processes used 90% of the machine")
    assert CliRunner().invoke(app, arguments).exit_code == 0
    result = CliRunner().invoke(app, [*arguments, "--fail-on-noise"])
    assert result.exit_code == 1
    assert "noisy: other processes used 90%" in result.output
    (record,) = load_run(tmp_path / "run").latency
    assert record.noise == phrases[0]
    wrong = CliRunner().invoke(app, [*arguments, "--threads", "1,two"])
    assert isinstance(wrong.exception, UsageError)


def test_the_command_takes_the_photographs_that_score_takes(tmp_path: Path) -> None:
    """A TIFF file in a subfolder: one list of endings, one search, for every command."""
    path, photos = write_tiny(tmp_path / "a.onnx"), tmp_path / "photos"
    (photos / "below").mkdir(parents=True)
    Image.effect_noise((40, 40), 60).convert("RGB").save(photos / "below" / "scan.tif")
    arguments = ["bench", "latency", str(path), "--out", str(tmp_path / "run")]
    arguments += ["--rounds", "1", "--turns", "1", "--min-count", "2", "--min-seconds", "0"]
    result = CliRunner().invoke(app, [*arguments, "--images", str(photos)])
    assert result.exit_code == 0, result.output
    (record,) = load_run(tmp_path / "run").latency
    assert record.samples_ms[LatencyPhase.END_TO_END]
    scored = CliRunner().invoke(app, ["score", "--model", str(path), "--json", str(photos)])
    (row,) = json.loads(scored.stdout)
    assert row["image"].endswith("scan.tif") and row["score"] is not None
    (photos / "below" / "scan.tif").unlink()
    result = CliRunner().invoke(app, [*arguments, "--images", str(photos)])
    assert isinstance(result.exception, UsageError)
    assert "no photo in this folder" in str(result.exception)


@pytest.mark.slow
def test_the_same_file_against_itself(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "a.onnx", size=256)
    rules = LatencyRules(rounds=10, min_count=1000, min_seconds=1)
    outcome = measure_latency(list_latency_cells([path, path]), rules, out=tmp_path / "run")
    (ratio,) = outcome.ratios
    assert len(ratio.rounds) == 10
    # The interval of one run in a hundred misses 1, so the centre is what is asserted.
    assert ratio.ratio.low is not None
    assert ratio.ratio.value == pytest.approx(1, abs=0.15)
