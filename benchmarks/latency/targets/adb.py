"""A phone over adb: the Android agent, one job for each cell and round.

::

    models, goldens/  ──adb push──▶  a separate folder, removed at the end
    job.json          ──adb push──▶
    am instrument     ──adb shell─▶  one fresh process: it hashes the model, checks the golden
    report.json       ◀──adb pull──  vectors, measures by minimum count and minimum time

The protocol is ``edgefiqa.benchmarks.latency.protocol``. A process cannot wait for the others, so
a round is one turn; the jobs of one round follow each other in a drawn order.
"""

import secrets
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgefiqa.benchmarks.latency.protocol import (
    AgentJob,
    AgentReport,
    JobGoldens,
    JobModel,
    RunRules,
    Runtime,
    check_answer,
    load_report,
    write_job,
)
from edgefiqa.benchmarks.latency.targets.adb_command import Adb, parse_instrumentation
from edgefiqa.benchmarks.latency.targets.adb_report import (
    check_report,
    phone_machine,
    ready_message,
    turn_message,
)
from edgefiqa.benchmarks.latency.targets.base import CellSession, CellStart, Machine
from edgefiqa.errors import EdgeFiqaError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.goldens import GOLDENS_DIR, GOLDENS_NAME
from edgefiqa.manifest import MANIFEST_NAME, Manifest
from edgefiqa.measuring.cells import Cell
from edgefiqa.runtimes import read_metadata

__all__ = ["AdbTarget"]

_APP = "dev.edgefiqa.demo"
_AGENT = f"{_APP}.AgentInstrumentation"
_ROOT = "/data/local/tmp/edgefiqa"
_GRACE_S = 60.0  # beyond the job's limit: starting the process, the golden vectors


class AdbTarget:
    """A phone with the demo app installed.

    Args:
        serial: Which phone; None takes the only one.
    """

    takes_turns = False

    def __init__(self, serial: str | None = None) -> None:
        self._adb = Adb(serial)
        self.device = f"adb:{serial}" if serial else "adb"
        self._folder = f"{_ROOT}/{secrets.token_hex(6)}"
        self._models: dict[Path, str] = {}
        self._goldens: dict[Path, JobGoldens] = {}
        self._absent: frozenset[str] = frozenset()
        self._reports: list[AgentReport] = []

    @contextmanager
    def opened(
        self, cells: Sequence[Cell], photos: Sequence[Path], packages: Sequence[str]
    ) -> Iterator[None]:
        """Send the files; remove them at the end.

        Raises:
            UsageError: The agent runs none of the cells, or photographs were asked for.
            EdgeFiqaError: The phone is not there, does not let us in, or is full.
        """
        if photos:
            what, next_step = "the agent times the golden photographs", "leave out --images"
            raise UsageError(what, value=photos[0], next_step=next_step)
        runnable = [cell for cell in cells if cell.runtime in set(Runtime)]
        if not runnable:
            names = ", ".join(f"{cell.name} in {cell.runtime}" for cell in cells)
            raise UsageError("the agent runs none of these", value=names, allowed=_allowed())
        self._adb.connect()
        self.device = f"adb:{self._adb.serial}"
        apps = {cell.runtime: self._is_installed(cell.runtime) for cell in runnable}
        self._absent = frozenset(runtime for runtime, found in apps.items() if not found)
        if len(self._absent) == len(apps):
            raise _no_agent(sorted(self._absent))
        self._adb.shell(f"mkdir -p {self._folder}")
        try:
            self._send(runnable)
            yield
        finally:
            with suppress(EdgeFiqaError):  # the phone may be gone, which was said already
                self._adb.connect()
                self._adb.shell(f"rm -rf {self._folder}")

    def start(self, start: CellStart) -> CellSession:
        """Prepare one job.

        Raises:
            UsageError: The agent does not run this file.
        """
        if start.cell.runtime not in set(Runtime):
            what = "the agent does not run this"
            raise UsageError(what, value=start.cell.runtime, allowed=_allowed())
        if start.cell.runtime in self._absent:
            raise _no_agent([start.cell.runtime])
        self._adb.connect()  # it may have gone and come back
        return _AgentSession(self._carry_out, start)

    def machine(self) -> Machine:
        """Return what the reports say of the phone."""
        return phone_machine(self._reports)

    def _is_installed(self, runtime: str) -> bool:
        # `pm path` fails where there is no such package.
        return "package:" in self._adb.shell(f"pm path {_APP}.{runtime} || true")

    def _send(self, cells: Sequence[Cell]) -> None:
        with tempfile.TemporaryDirectory() as name:
            stage = Path(name)
            for cell in cells:
                path = cell.path.resolve()
                if path not in self._models:
                    self._models[path] = f"model-{len(self._models)}{path.suffix}"
                    shutil.copyfile(path, stage / self._models[path])
                goldens = path.parent / GOLDENS_DIR
                if (goldens / GOLDENS_NAME).is_file() and goldens not in self._goldens:
                    copy = stage / f"goldens-{len(self._goldens)}"
                    shutil.copytree(goldens, copy, copy_function=shutil.copyfile)
                    digest = sha256_of(goldens / GOLDENS_NAME)
                    self._goldens[goldens] = JobGoldens(directory=copy.name, sha256=digest)
            for entry in stage.rglob("*"):  # the app is another user there
                entry.chmod(0o755 if entry.is_dir() else 0o644)
            self._adb.push(sorted(stage.iterdir()), self._folder)

    def _job(self, start: CellStart) -> AgentJob:
        goldens = self._goldens.get(start.cell.path.resolve().parent / GOLDENS_DIR)
        return AgentJob(
            job_id=f"{start.cell.runtime}-{secrets.token_hex(6)}",
            model=JobModel(file=self._models[start.cell.path.resolve()], sha256=start.cell.sha256),
            runtime=Runtime(start.cell.runtime),
            precision=start.cell.precision,
            threads=start.threads,
            size=_size_of(start.cell),
            rules=RunRules(
                warm_up_count=start.warm_up + start.turn_warm_up,
                minimum_count=int(start.turn["count"]),
                minimum_duration_ns=round(1e9 * start.turn["seconds"]),
                maximum_duration_ns=round(1e9 * start.limit_s),
            ),
            goldens=goldens,
            end_to_end_count=1 if goldens else 0,
        )

    def _carry_out(self, start: CellStart) -> AgentReport:
        job = self._job(start)
        folder = start.log.parent / "agent"
        file, answer = folder / f"{job.job_id}.json", folder / f"{job.job_id}.report.json"
        digest = write_job(job, file)
        self._adb.push([file], self._folder)
        component = f"{_APP}.{job.runtime}/{_AGENT}"
        script = f"am instrument -w -r -e job {self._folder}/{file.name} {component}"
        said = self._adb.shell(script, limit_s=start.limit_s + _GRACE_S)
        with start.log.open("a", encoding="utf-8") as log:
            log.write(said)
        told = parse_instrumentation(said)
        if told.fault:
            next_step = f"its log is {start.log}; adb logcat may say more"
            raise EdgeFiqaError(told.fault, value=start.cell.name, next_step=next_step)
        self._adb.pull(told.results["report"], answer)
        self._adb.shell(f"rm -f {shlex.quote(told.results['report'])}")
        report = load_report(answer)
        check_answer(job, digest, report)
        check_report(report)
        self._reports.append(report)
        return report


class _AgentSession:
    """One job: carried out when the first answer is asked for."""

    def __init__(self, carry_out: Callable[[CellStart], AgentReport], start: CellStart) -> None:
        self._carry_out, self._start = carry_out, start

    def answer(self) -> dict[str, Any]:
        """Carry the job out."""
        self._report = self._carry_out(self._start)
        return ready_message(self._report)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Tell what the report says."""
        if "turn" in request:
            return turn_message(self._report)
        assert self._report.model is not None
        peak = self._report.peak_rss_bytes
        return {"peak_rss_bytes": peak, "sha256": self._report.model.sha256}

    def close(self) -> None:
        """The agent's process ended with its job."""


def _allowed() -> str:
    return ", ".join(f"files for {runtime}" for runtime in Runtime)


def _no_agent(runtimes: Sequence[str]) -> UsageError:
    return UsageError(
        "the agent is not installed on the phone",
        value=", ".join(f"{_APP}.{runtime}" for runtime in runtimes),
        next_step="build android_demo and run: adb install app-RUNTIME-release.apk",
    )


def _size_of(cell: Cell) -> int:
    """Return the side of a file's input in pixels: its manifest's, else its metadata's."""
    folder = cell.path.parent
    if (folder / MANIFEST_NAME).is_file():
        return int(Manifest.load(folder).contract["size"])
    try:
        return int(read_metadata(cell.path)["contract"]["size"])
    except (KeyError, TypeError) as error:
        what, next_step = "the file does not say its input size", "measure its export directory"
        raise UsageError(what, value=cell.path, next_step=next_step) from error
