"""An external tool on this machine, where the user has one: one run of it is one turn.

A sample is then the mean of many inferences, and the record says of how many; the runtime in the
record is the tool, so that its figures never stand for those of another runtime.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgefiqa.benchmarks.latency.targets.base import CellSession, CellStart, Machine
from edgefiqa.benchmarks.latency.targets.host import HOST, HostTarget
from edgefiqa.benchmarks.latency.targets.tool_output import Tool, ToolReading, ToolRequest
from edgefiqa.errors import EdgeFiqaError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.measuring.cells import Cell
from edgefiqa.measuring.records import LatencyPhase

__all__ = ["ToolTarget"]


class ToolTarget:
    """This machine, measured by an external tool.

    Args:
        tool: Which.
        program: Where it is.

    Raises:
        UsageError: There is no such program.
    """

    device = HOST
    takes_turns = False

    def __init__(self, tool: Tool, program: Path) -> None:
        if not program.is_file():
            what, next_step = f"there is no such {tool.name}", "name the program: NAME=PATH"
            raise UsageError(what, value=program, next_step=next_step)
        self._tool, self._program = tool, program.absolute()
        self._version = f"{tool.name} {sha256_of(program)[:12]}"  # it does not tell its version
        self._host = HostTarget()

    def cells_of(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells of files that the tool runs, with the tool as their runtime.

        Raises:
            UsageError: There is none.
        """
        found = [
            replace(cell, runtime=self._tool.name)
            for cell in cells
            if cell.format is self._tool.format
        ]
        if not found:
            names = ", ".join(cell.name for cell in cells)
            what = f"no file for {self._tool.name}"
            raise UsageError(what, value=names, allowed=f"{self._tool.format.value} files")
        return found

    @contextmanager
    def opened(
        self, cells: Sequence[Cell], photos: Sequence[Path], packages: Sequence[str]
    ) -> Iterator[None]:
        """Read the machine's state.

        Raises:
            UsageError: Photographs were asked for, which tools do not decode.
        """
        if photos:
            what, next_step = f"{self._tool.name} decodes no photographs", "leave out --images"
            raise UsageError(what, value=photos[0], next_step=next_step)
        with self._host.opened(cells, photos, packages):
            yield

    def start(self, start: CellStart) -> CellSession:
        """Prepare one run of the tool."""
        return _ToolSession(self._tool, self._program, self._version, start)

    def machine(self) -> Machine:
        """Return this machine's state."""
        return self._host.machine()


class _ToolSession:
    def __init__(self, tool: Tool, program: Path, version: str, start: CellStart) -> None:
        self._tool, self._program, self._version, self._start = tool, program, version, start
        self._file = start.cell.file

    def answer(self) -> dict[str, Any]:
        """Run the tool; what it says is told at once and in the turn that follows."""
        digest = sha256_of(self._file)
        asked = ToolRequest(
            file=self._file,
            threads=self._start.threads,
            count=int(self._start.turn["count"]),
            seconds=self._start.turn["seconds"],
            warm_up=self._start.warm_up,
            limit_s=self._start.limit_s,
        )
        if not self._tool.keeps_seconds:
            trial = self._run(replace(asked, count=max(1, asked.warm_up)))
            asked = replace(asked, guess_ms=trial.mean_ms)
        self._reading = self._run(asked)
        return {
            "sha256": digest,
            "runtime_version": self._version,
            "load_ms": self._reading.load_ms,
            "first_ms": self._reading.first_ms,
            "baseline_rss_bytes": None,
        }

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if "turn" not in request:
            peak = self._reading.peak_bytes
            return {"peak_rss_bytes": peak, "sha256": sha256_of(self._file)}
        samples_ms = {LatencyPhase.INFERENCE.value: [self._reading.mean_ms]}
        return {"samples_ms": samples_ms, "inferences": [self._reading.count]}

    def close(self) -> None:
        """Nothing is left running."""

    def _run(self, asked: ToolRequest) -> ToolReading:
        command = [str(self._program), *self._tool.arguments(asked)]
        next_step = f"its log is {self._start.log}"
        limit_s = 2 * self._start.limit_s  # the tool's limit comes first
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            what = f"{self._tool.name} gave no answer in {limit_s:g} s"
            raise EdgeFiqaError(what, value=self._file) from None
        except OSError as error:
            what = f"{self._tool.name} cannot be started ({error.strerror})"
            raise UsageError(what, value=self._program) from error
        output = done.stdout.decode(errors="replace")
        self._start.log.parent.mkdir(parents=True, exist_ok=True)
        with self._start.log.open("a", encoding="utf-8") as log:
            log.write(output)
        if done.returncode:
            code = done.returncode
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise EdgeFiqaError(f"{self._tool.name} died", value=how, next_step=next_step)
        return self._tool.parse(output)
