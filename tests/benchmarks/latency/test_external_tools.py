"""External tools: what they print, as their sources have it, and what becomes of it."""

from pathlib import Path

import pytest
from tests.tiny_onnx import write_tiny
from typer.testing import CliRunner

from edgefiqa.benchmarks.latency.cells import list_latency_cells
from edgefiqa.benchmarks.latency.run import LatencyRules, measure_latency
from edgefiqa.benchmarks.latency.targets import parse_tool
from edgefiqa.benchmarks.latency.targets.tool_output import TOOLS
from edgefiqa.benchmarks.report.page import write_report
from edgefiqa.cli import app
from edgefiqa.errors import DataError, UnknownNameError, UsageError
from edgefiqa.measuring.gate import check_gate
from edgefiqa.measuring.policy import Policy, Rule
from edgefiqa.measuring.records import LatencyPhase
from edgefiqa.measuring.run_directory import load_run

# tensorflow/lite/tools/benchmark: a warm-up of several runs, then the measurement.
BENCHMARK_MODEL = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [6]
INFO: Num threads: [2]
INFO: Graph: [a.tflite]
INFO: Signature to run: []
INFO: #threads used for CPU inference: [2]
INFO: Loaded model a.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 16.9008
INFO: Initialized session in 17.187ms.
INFO: Running benchmark for at least 3 iterations and at least 0 seconds but terminate if \
exceeding 150 seconds.
INFO: count=3 first=31000 curr=12100 min=12100 max=31000 avg=18400 std=88 p5=1 median=2 p95=3

INFO: Running benchmark for at least 6 iterations and at least 1 seconds but terminate if \
exceeding 150 seconds.
INFO: count=83 first=12050 curr=12010 min=11900 max=13100 avg=12034.5 std=98

INFO: Inference timings in us: Init: 17187, First inference: 31000, Warmup (avg): 1.84e+04, \
Inference (avg): 12034.5
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only \
APPROXIMATE to the actual memory footprint of the model at runtime.
INFO: Memory footprint delta from the start of the tool (MB): init=4.2 overall=46.0
"""
# An older one: no prefix, one warm-up inference, a mean of seven digits, memory monitored.
OLDER = """\
STARTING!
count=1 curr=3512391

count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, \
Inference (avg): 2.95034e+06
Overall peak memory footprint (MB) via periodic monitoring: 52.5
"""
# pytorch/executorch/examples/portable/executor_runner
EXECUTOR_RUNNER = """\
I 00:00:00.000402 executorch:cpuinfo_utils.cpp:71] Reading file /sys/devices/soc0/image_version
I 00:00:00.000921 executorch:executor_runner.cpp:175] Resetting threadpool with num threads = 2
I 00:00:00.003418 executorch:executor_runner.cpp:277] Model file a.pte is loaded.
I 00:00:00.003431 executorch:executor_runner.cpp:287] Using method forward
I 00:00:00.003440 executorch:executor_runner.cpp:338] Setting up planned buffer 0, size 9437184.
I 00:00:00.031904 executorch:executor_runner.cpp:370] Method loaded.
I 00:00:00.190021 executorch:executor_runner.cpp:421] Model executed successfully {count} time(s) \
in {total:f} ms.
I 00:00:00.190030 executorch:executor_runner.cpp:430] 1 outputs:
OutputX 0: tensor(sizes=[1], [0.73])
"""


def _tool(folder: Path, script: str, name: str = "tool") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)
    return path


def _printing(folder: Path, text: str, name: str = "tool") -> Path:
    """A tool that notes how it was called and prints a text."""
    (folder / "output").write_text(text)
    return _tool(folder, f'echo "$@" >> {folder}/calls; cat {folder}/output >&2', name)


def _files(folder: Path) -> list[Path]:
    """Files that are recognised by their first bytes; no tool here reads more."""
    heads = {"a.tflite": b"\0\0\0\0TFL3", "b.pte": b"\0\0\0\0ET12"}
    for name, head in heads.items():
        (folder / name).write_bytes(head + bytes(40))
    return [folder / name for name in heads]


def _rules(**changes: float) -> LatencyRules:
    values = {"rounds": 2, "min_count": 12, "min_seconds": 2.0, "warm_up": 3} | changes
    return LatencyRules(**values)  # type: ignore[arg-type]


def test_benchmark_model(tmp_path: Path) -> None:
    program = _printing(tmp_path, BENCHMARK_MODEL)
    target = parse_tool(f"benchmark_model={program}")
    cells = target.cells_of(list_latency_cells([*_files(tmp_path)]))
    assert [cell.name for cell in cells] == ["a.tflite"]
    out = tmp_path / "run"
    outcome = measure_latency(cells, _rules(), out=out, target=target)
    (record,) = outcome.records
    assert record.executed.cell == "a.tflite in benchmark_model"
    assert record.executed.runtime_version.startswith("benchmark_model ")
    assert record.samples_ms == {
        LatencyPhase.LOAD: (17.187, 17.187),
        LatencyPhase.FIRST: (31.0, 31.0),
        LatencyPhase.INFERENCE: (12.0345, 12.0345),
    }
    assert record.inferences == (83, 83)
    assert (record.rules.rounds, record.rules.turns) == (2, 1)
    assert record.peak_rss_bytes is None
    call = (tmp_path / "calls").read_text().splitlines()[0].split()
    assert call[0] == f"--graph={tmp_path / 'a.tflite'}"
    assert {"--num_threads=1", "--num_runs=6", "--min_secs=1", "--warmup_runs=3"} <= set(call)
    page = write_report(load_run(out), out)[0].read_text()
    assert "a.tflite in benchmark_model: each sample is the mean of 83 or more" in page
    median, tail = (Rule(metric=f"latency_inference_p{q}_ms", max=20) for q in (50, 99))
    verdicts = check_gate(load_run(out), Policy(name="speed", rules=(median, tail)))
    assert [verdict.passed for verdict in verdicts] == [True, False], "a mean has no tail"


def test_outputs_of_other_versions() -> None:
    found = TOOLS["benchmark_model"].parse(OLDER)
    assert (found.count, found.mean_ms, found.first_ms) == (50, 2950.34, 3512.391)
    assert found.peak_bytes == 52_500_000


@pytest.mark.parametrize("name", list(TOOLS))
@pytest.mark.parametrize(
    "text",
    [
        "",
        "Segmentation fault",
        "count=1 curr=5\nInference",
        "Model executed successfully 1 time(s).",
    ],
)
def test_output_that_holds_no_time_is_refused(name: str, text: str) -> None:
    with pytest.raises(DataError, match="cannot be read; its last line"):
        TOOLS[name].parse(text)


def test_executor_runner_runs_long_enough(tmp_path: Path) -> None:
    """It cannot be told a time: a short trial says how many executions fill it."""
    script = f"""
for each in "$@"; do case $each in --num_executions=*) n=${{each#*=}} ;; esac; done
echo "$@" >> {tmp_path}/calls
sed "s/COUNT/$n/; s/TOTAL/$((4 * n)).000000/" {tmp_path}/output
"""
    text = EXECUTOR_RUNNER.replace("{count}", "COUNT").replace("{total:f}", "TOTAL")
    (tmp_path / "output").write_text(text)
    target = parse_tool(f"executor_runner={_tool(tmp_path, script)}")
    cells = target.cells_of(list_latency_cells([*_files(tmp_path)]))
    outcome = measure_latency(cells, _rules(rounds=1), out=tmp_path / "run", target=target)
    (record,) = outcome.records
    assert record.executed.cell == "b.pte in executor_runner"
    assert record.samples_ms == {LatencyPhase.INFERENCE: (4.0,)}
    assert record.inferences == (500,)
    trial, run = (tmp_path / "calls").read_text().splitlines()
    assert "--num_executions=3 --cpu_threads=1" in trial
    assert f"--model_path={tmp_path / 'b.pte'} --num_executions=500" in run


def test_a_tool_that_fails_is_an_error_row(tmp_path: Path) -> None:
    files = _files(tmp_path)
    for script, what in (
        ("echo ERROR: Failed to load; exit 1", "benchmark_model died: exit code 1"),
        ("kill -SEGV $$", "benchmark_model died: signal 11"),
        ("echo nothing measured", "its last line: nothing measured"),
    ):
        target = parse_tool(f"benchmark_model={_tool(tmp_path, script)}")
        cells = target.cells_of(list_latency_cells(files[:1]))
        outcome = measure_latency(cells, _rules(), out=tmp_path / "run", target=target)
        (failure,) = outcome.failures
        assert what in failure.error
        assert not outcome.records
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o644)
    target = parse_tool(f"benchmark_model={tmp_path / 'text'}")
    outcome = measure_latency(cells, _rules(), out=tmp_path / "run", target=target)
    assert "cannot be started (Permission denied)" in outcome.failures[0].error


def test_what_is_no_tool_is_refused(tmp_path: Path) -> None:
    for text in ("benchmark_model", "benchmark_model="):
        with pytest.raises(UsageError, match="this is no tool"):
            parse_tool(text)
    with pytest.raises(UnknownNameError, match="unknown tool"):
        parse_tool("perf=/bin/true")
    with pytest.raises(UsageError, match="there is no such benchmark_model"):
        parse_tool(f"benchmark_model={tmp_path / 'none'}")
    target = parse_tool(f"benchmark_model={_printing(tmp_path, '')}")
    with pytest.raises(UsageError, match="no file for benchmark_model"):
        target.cells_of(list_latency_cells([write_tiny(tmp_path / "a.onnx")]))
    cells = list_latency_cells(_files(tmp_path)[:1])
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"")
    with pytest.raises(UsageError, match="decodes no photographs"):
        measure_latency(cells, _rules(), out=tmp_path / "run", target=target, photos=[photo])


def test_command(tmp_path: Path) -> None:
    program = _printing(tmp_path, BENCHMARK_MODEL)
    arguments = ["bench", "latency", str(_files(tmp_path)[0]), "--out", str(tmp_path / "run")]
    arguments += ["--rounds", "1", "--tool", f"benchmark_model={program}"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "a.tflite in benchmark_model" in result.output
    result = CliRunner().invoke(app, [*arguments, "--target", "ssh://pi@board"])
    assert isinstance(result.exception, UsageError)
