"""Another machine over ssh: the same Python process as here, with nothing of edgefiqa installed.

::

    here                                        there
    ────                                        ─────
    runner, files, photographs  ──tar──▶        a new folder, removed at the end
    python3 -m …host_facts      ──run──▶        its state before and after
    python3 -m …latency_process ◀─JSON lines─▶  one process a cell and round; it hashes its file

The rules, the turns and the records are those of this machine: only the pipe is longer.
"""

import inspect
import json
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import edgefiqa
from edgefiqa.benchmarks.latency.pipe import CellProcess
from edgefiqa.benchmarks.latency.targets import remote_unpack
from edgefiqa.benchmarks.latency.targets.base import CellSession, CellStart, Machine
from edgefiqa.benchmarks.latency.targets.host import worker_settings
from edgefiqa.benchmarks.latency.targets.remote_bundle import (
    MINIMUM_PYTHON,
    RUNNER,
    remote_paths,
    write_bundle,
)
from edgefiqa.benchmarks.latency.targets.ssh_command import (
    parse_address,
    run_ssh,
    ssh_command,
    ssh_exit_text,
)
from edgefiqa.errors import EdgeFiqaError, UsageError
from edgefiqa.measuring.cells import Cell
from edgefiqa.measuring.host_facts import CpuUse
from edgefiqa.measuring.host_state import machine_noise, share_of_others
from edgefiqa.measuring.records import HostState
from edgefiqa.runtimes import RUNTIMES, Format

__all__ = ["SshTarget"]

_BASIC = ("numpy", "PIL")
_INSTALL = {
    "numpy": "numpy",
    "PIL": "pillow",
    "ai_edge_litert": "ai-edge-litert",
    "onnxruntime": "onnxruntime",
    "tensorflow": "tensorflow",
    "executorch": "executorch",
    "coremltools": "coremltools",
}


class SshTarget:
    """A machine reached over ssh.

    Args:
        url: ``ssh://[user@]host[:port][/folder]``.
        python: Its Python, 3.11 or later, with numpy, Pillow and a runtime.
        options: More of ssh's options, each ``NAME=VALUE``.
    """

    takes_turns = True

    def __init__(self, url: str, *, python: str = "python3", options: Sequence[str] = ()) -> None:
        # Commands start in the home folder there.
        self._python = python.removeprefix("~/")
        self._address, self._options = parse_address(url), options
        self.device = self._address.url
        self._folder = ""
        self._packages: Sequence[str] = ()
        self._missing: frozenset[str] = frozenset()
        self._sessions: list[CellProcess] = []

    @contextmanager
    def opened(
        self, cells: Sequence[Cell], photos: Sequence[Path], packages: Sequence[str]
    ) -> Iterator[None]:
        """Send the runner and the files; remove them at the end.

        Raises:
            UsageError: Its Python is too old, or lacks what every cell needs.
            EdgeFiqaError: It cannot be reached, does not let us in, or its disk is full.
        """
        if any(cell.format is Format.TORCH for cell in cells):
            what, next_step = "a model directory is not measured over ssh", "export it first"
            raise UsageError(what, value=self.device, next_step=next_step)
        self._packages, self._sessions = packages, []
        self._paths = remote_paths(cells, photos)
        self._folder, self._missing = self._send(cells)
        try:
            self._check(cells)
            self._before, self._use = self._look()
            yield
        finally:
            with suppress(EdgeFiqaError):  # it may be gone, which was said already
                run_ssh(self._address, self._options, f"rm -rf -- {shlex.quote(self._folder)}")

    def start(self, start: CellStart) -> CellSession:
        """Start a Python process over there.

        Raises:
            UsageError: Its runtime is not installed there.
        """
        missing = self._missing & set(_modules_of(start.cell))
        if missing:
            raise self._lacking(missing)
        settings = worker_settings(
            start,
            path=self._remote(start.cell.path),
            hashed=self._remote(start.cell.path),
            photos=[self._remote(photo) for photo in start.photos],
        )
        script = self._script("edgefiqa.benchmarks.latency.process", json.dumps(settings))
        command = ssh_command(self._address, self._options, script)
        session = CellProcess(command, start.log, start.limit_s, ssh_exit_text)
        self._sessions.append(session)
        return session

    def machine(self) -> Machine:
        """Read its state after the last sample, and what else ran there meanwhile."""
        after, use = self._look()
        own_s = use.own_s + sum(session.cpu_s for session in self._sessions)
        use = CpuUse(at_s=use.at_s, machine_s=use.machine_s, own_s=own_s, processors=use.processors)
        others = share_of_others(self._use, use)
        noise = machine_noise(self._before, after, others)
        return Machine(before=self._before, after=after, others=others, noise=tuple(noise))

    def _remote(self, path: Path) -> str:
        return f"{self._folder}/{self._paths[path.resolve()]}"

    def _run(
        self, script: str, *, write: Callable[[IO[bytes]], object] = lambda stream: None
    ) -> dict[str, Any]:
        """Run a script there and return the JSON object that it prints last."""
        printed = run_ssh(self._address, self._options, script, write=write)
        try:
            found: dict[str, Any] = json.loads(printed.strip().rpartition("\n")[2])
        except ValueError as error:
            what, next_step = "the remote machine's answer cannot be read", "run it again"
            raise EdgeFiqaError(what, value=printed[-80:], next_step=next_step) from error
        return found

    def _script(self, module: str, *arguments: str) -> str:
        words = [self._python, "-m", module, *arguments]
        runner = shlex.quote(f"{self._folder}/{RUNNER}")
        # Not the last command: the shell stays and reports a signal as an exit code.
        return f"PYTHONPATH={runner} {shlex.join(words)}; exit $?"

    def _send(self, cells: Sequence[Cell]) -> tuple[str, frozenset[str]]:
        modules = [*_BASIC, *dict.fromkeys(name for cell in cells for name in _modules_of(cell))]
        asked = {
            "modules": modules,
            "minimum": MINIMUM_PYTHON,
            "folder": self._address.folder,
        }
        words = [self._python, "-c", inspect.getsource(remote_unpack), json.dumps(asked)]
        found = self._run(shlex.join(words), write=lambda stream: write_bundle(stream, self._paths))
        if "fault" in found:
            raise self._refusal(found)
        return found["folder"], frozenset(found["missing"])

    def _refusal(self, found: dict[str, Any]) -> EdgeFiqaError:
        if found["fault"] == "python":
            needed = ".".join(map(str, MINIMUM_PYTHON))
            return UsageError(
                f"the Python of {self.device} is too old",
                value=f"{found['executable']} {found['python']}",
                allowed=f"{needed} or later",
                next_step="name another with --python",
            )
        free = "" if found["free_mb"] is None else f", {found['free_mb']} MB are free"
        return EdgeFiqaError(
            f"the files cannot be written on {self.device} ({found['error']}{free})",
            value=found["at"],
            next_step=f"make room there, or name another folder: {self.device}/FOLDER",
        )

    def _check(self, cells: Sequence[Cell]) -> None:
        usable = not self._missing & set(_BASIC)
        if not usable or all(self._missing & set(_modules_of(cell)) for cell in cells):
            raise self._lacking(self._missing)

    def _lacking(self, modules: Collection[str]) -> UsageError:
        names = " ".join(name for module, name in _INSTALL.items() if module in modules)
        return UsageError(
            f"{self._python} on {self.device} lacks what this needs",
            value=names,
            next_step=f"there: {self._python} -m pip install {names}; or another with --python",
        )

    def _look(self) -> tuple[HostState, CpuUse]:
        script = self._script("edgefiqa.measuring.host_facts", *self._packages)
        found = self._run(script)
        state = HostState.model_validate(found["state"])
        # The code that ran is what was sent, whatever may be installed there.
        packages = state.packages | {"edgefiqa": edgefiqa.__version__}
        return state.model_copy(update={"packages": packages}), CpuUse(**found["use"])


def _modules_of(cell: Cell) -> tuple[str, ...]:
    return RUNTIMES.get(cell.runtime).provides[:1]
