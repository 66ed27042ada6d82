"""External benchmark programs: how they are called, and what their output says.

Neither tells single samples. ``benchmark_model`` prints, in microseconds, a line ``count=… avg=…``
of its warm-up, one of its measurement, then a summary of initialisation and first inference;
``executor_runner`` prints the time of all executions together, in milliseconds.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgefiqa.errors import DataError
from edgefiqa.runtimes import Format

__all__ = ["TOOLS", "Tool", "ToolReading", "ToolRequest"]

_NUMBER = r"([0-9.]+(?:e[+-]?[0-9]+)?)"
_RUN = re.compile(r"\bcount=(\d+) (?:first|curr)=")
_SUMMARY = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}"
)
_MEMORY = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}")
_EXECUTED = re.compile(rf"Model executed successfully (\d+) time\(s\) in {_NUMBER} ms")


@dataclass(frozen=True, kw_only=True)
class ToolRequest:
    """What one run of a tool must reach.

    Attributes:
        file: The file to run.
        threads: Threads of one inference.
        count: Inferences, at least.
        seconds: Their time, at least.
        warm_up: Inferences before them.
        limit_s: It stops measuring after so long.
        guess_ms: Time of one inference, where an earlier run told; None before.
    """

    file: Path
    threads: int
    count: int
    seconds: float
    warm_up: int
    limit_s: float
    guess_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class ToolReading:
    """What one run of a tool told.

    Attributes:
        count: Inferences measured.
        mean_ms: Their mean.
        load_ms: Initialisation; None if it does not tell.
        first_ms: First inference; None if it does not tell.
        peak_bytes: Its largest memory; None if it does not tell.
    """

    count: int
    mean_ms: float
    load_ms: float | None = None
    first_ms: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One external program.

    Attributes:
        name: What users type, and the runtime in the records.
        format: The files it runs.
        arguments: Its command line, without the program.
        parse: Reads its output, standard output and error together.
        keeps_seconds: Whether it can be told a shortest time.
    """

    name: str
    format: Format
    arguments: Callable[[ToolRequest], list[str]]
    parse: Callable[[str], ToolReading]
    keeps_seconds: bool


def _unreadable(name: str, output: str) -> DataError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    last = lines[-1][:200] if lines else "nothing"
    return DataError(
        f"the output of {name} cannot be read; its last line",
        value=last,
        next_step=f"run {name} by hand, or measure without --tool",
    )


def _benchmark_model_arguments(asked: ToolRequest) -> list[str]:
    return [
        f"--graph={asked.file}",
        f"--num_threads={asked.threads}",
        f"--num_runs={asked.count}",
        f"--min_secs={asked.seconds:g}",
        f"--max_secs={asked.limit_s:g}",
        f"--warmup_runs={max(1, asked.warm_up)}",  # the first of them is its first inference
        "--warmup_min_secs=0",
        "--enable_op_profiling=false",
    ]


def _parse_benchmark_model(output: str) -> ToolReading:
    runs, summary = _RUN.findall(output), _SUMMARY.search(output)
    if len(runs) < 2 or summary is None:  # a warm-up alone is no measurement
        raise _unreadable("benchmark_model", output)
    init_us, first_us, _, mean_us = map(float, summary.groups())
    memory = _MEMORY.search(output)
    return ToolReading(
        count=int(runs[-1]),
        mean_ms=mean_us / 1e3,
        load_ms=init_us / 1e3,
        first_ms=first_us / 1e3,
        peak_bytes=round(float(memory[1]) * 1e6) if memory else None,
    )


def _executor_runner_arguments(asked: ToolRequest) -> list[str]:
    count = asked.count
    if asked.guess_ms:
        count = max(count, math.ceil(1e3 * asked.seconds / asked.guess_ms))
    return [
        f"--model_path={asked.file}",
        f"--num_executions={count}",
        f"--cpu_threads={asked.threads}",
    ]


def _parse_executor_runner(output: str) -> ToolReading:
    found = _EXECUTED.search(output)
    if found is None or not int(found[1]):
        raise _unreadable("executor_runner", output)
    return ToolReading(count=int(found[1]), mean_ms=float(found[2]) / int(found[1]))


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            name="benchmark_model",
            format=Format.TFLITE,
            arguments=_benchmark_model_arguments,
            parse=_parse_benchmark_model,
            keeps_seconds=True,
        ),
        Tool(
            name="executor_runner",
            format=Format.EXECUTORCH,
            arguments=_executor_runner_arguments,
            parse=_parse_executor_runner,
            keeps_seconds=False,
        ),
    )
}
"""The known tools by name."""
