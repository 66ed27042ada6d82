"""Running a scorer file on an emulated ARM processor.

QEMU's user mode looks for every path under a prefix first. The prefix made here links to the
installed root and adds what runtimes read about the processor.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import edgefiqa
from edgefiqa.benchmarks.arm import processor as processor_module
from edgefiqa.benchmarks.arm import score_process
from edgefiqa.benchmarks.arm.processor import Processor, write_system_files
from edgefiqa.errors import EdgeFiqaError
from edgefiqa.files import sha256_of
from edgefiqa.runtimes.formats import Format, detect_format

__all__ = [
    "Emulator",
    "EmulatorRoot",
    "cpu_option",
    "opened_emulator",
    "qemu_version",
    "score_here",
]

QEMU = "qemu-aarch64-static"
LIMIT_S = 3600.0
"""A file that has not scored the golden tensors by then has failed: emulation is slow."""

_SME_SINCE = 10
"""QEMU 7.2 computes SME's int8 kernels wrongly (scores off by 0.5), QEMU 10.0 as without SME."""

_TAIL = 400  # characters of what a failed process said


@dataclass(frozen=True, kw_only=True)
class EmulatorRoot:
    """What ``install.sh`` made.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def python(self) -> Path:
        """The ARM interpreter."""
        return self.path / "usr/bin/python3.11"

    @property
    def runner(self) -> Path:
        """The ARM program that scores with ExecuTorch."""
        return self.path / "executorch_runner"

    @property
    def site(self) -> Path:
        """The ARM packages."""
        return self.path / "site"

    def check(self) -> None:
        """Refuse a folder that is not such a root.

        Raises:
            EdgeFiqaError: If the interpreter, the packages or the runner are missing.
        """
        for needed in (self.python, self.runner, self.site):
            if not needed.exists():
                raise EdgeFiqaError(
                    "this is no root of ARM programs, or it is incomplete",
                    value=needed,
                    next_step="remove the folder; make arm makes it again",
                )

    def version(self, package: str) -> str:
        """Return the version of a package in it.

        Raises:
            EdgeFiqaError: If it is not installed there.
        """
        found = sorted(self.site.glob(f"{package}-*.dist-info"))
        if len(found) != 1:
            raise EdgeFiqaError("the root has not exactly one version of a package", value=package)
        return found[0].name.removesuffix(".dist-info").rpartition("-")[2]


def _run(command: Sequence[str | Path], environment: dict[str, str]) -> str:
    """Run a command and return what it printed; its complaint becomes the error."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=LIMIT_S
        )
    except FileNotFoundError as error:
        raise EdgeFiqaError(
            "a program is missing", value=error.filename, next_step="make arm installs it"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EdgeFiqaError(f"it took longer than {LIMIT_S:g} s", value=command[-2]) from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-_TAIL:] or "nothing was printed"
        raise EdgeFiqaError(f"the process ended with {done.returncode} ({said})")
    return done.stdout


def _last_line(text: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return answer


def score_here(model: Path, tensors: Path) -> dict[str, Any]:
    """Score golden tensors with the runtime installed on this machine, in a fresh process.

    Args:
        model: A scorer file.
        tensors: Raw uint8 ``[n, S, S, 3]``.

    Returns:
        ``sha256`` of the executed file, ``runtime``, ``scores``.

    Raises:
        EdgeFiqaError: If the process fails.
    """
    command = [sys.executable, "-m", score_process.__name__, str(model), str(tensors)]
    return _last_line(_run(command, dict(os.environ)))


def cpu_option(processor: Processor, version: str) -> str:
    """Return what QEMU is told: the model, without SME where that QEMU gets it wrong.

    Args:
        processor: The model.
        version: What QEMU says of itself.
    """
    found = re.search(r"version (\d+)", version)
    if processor is Processor.MAX and found and int(found[1]) < _SME_SINCE:
        return f"{processor.value},sme=off"
    return processor.value


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """One processor model.

    Attributes:
        root: The ARM programs.
        processor: The model.
        option: What QEMU is told of it.
        prefix: Where QEMU looks for paths first.
        packages: Folder in which ``edgefiqa`` alone can be imported.
        features: What the processor says it can do.
    """

    root: EmulatorRoot
    processor: Processor
    option: str
    prefix: Path
    packages: Path
    features: tuple[str, ...] = ()

    def score(self, model: Path, tensors: Path, *, side: int) -> dict[str, Any]:
        """Score golden tensors with one file.

        Args:
            model: An ONNX, TFLite or ExecuTorch file.
            tensors: Raw uint8 ``[n, side, side, 3]``.
            side: Side of the images, in pixels.

        Returns:
            ``sha256`` of the executed file, ``runtime``, ``scores``.

        Raises:
            EdgeFiqaError: If the process fails.
        """
        if detect_format(model) is not Format.EXECUTORCH:
            return _last_line(self.python("-m", score_process.__name__, str(model), str(tensors)))
        digest = sha256_of(model)
        printed = self._start([self.root.runner, model.resolve(), tensors, str(side)])
        return {
            "sha256": digest,
            "runtime": f"executorch {self.root.version('executorch')}",
            "scores": [float(line) for line in printed.split()],
        }

    def python(self, *arguments: str) -> str:
        """Run the ARM interpreter and return what it printed.

        Raises:
            EdgeFiqaError: If it fails.
        """
        return self._start([self.root.python, *arguments])

    def _start(self, command: Sequence[str | Path]) -> str:
        environment = {
            "HOME": str(self.prefix),
            "LANG": "C.UTF-8",
            "ORT_DISABLE_TELEMETRY": "1",
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{self.packages}:{self.root.site}",
            "QEMU_CPU": self.option,
        }
        return _run([QEMU, "-L", self.prefix, *command], environment)


@contextmanager
def opened_emulator(root: EmulatorRoot, processor: Processor) -> Iterator[Emulator]:
    """Give an emulated processor whose features have been asked for.

    Args:
        root: The ARM programs.
        processor: Which model.

    Raises:
        EdgeFiqaError: If the root is incomplete or nothing runs in it.
    """
    root.check()
    with TemporaryDirectory(prefix="edgefiqa-arm-") as scratch:
        prefix, packages = Path(scratch, "prefix"), Path(scratch, "packages")
        for folder in (prefix, packages):
            folder.mkdir()
        for name in ("usr", "lib", "etc"):
            (prefix / name).symlink_to((root.path / name).resolve())
        (packages / "edgefiqa").symlink_to(Path(edgefiqa.__file__).resolve().parent)
        write_system_files(prefix, processor, ())
        blank = Emulator(
            root=root,
            processor=processor,
            option=cpu_option(processor, qemu_version()),
            prefix=prefix,
            packages=packages,
        )
        features = tuple(blank.python("-m", processor_module.__name__).split())
        write_system_files(prefix, processor, features)
        yield replace(blank, features=features)


def qemu_version() -> str:
    """Return QEMU's version, as it prints it.

    Raises:
        EdgeFiqaError: If it is not installed.
    """
    first, *_ = _run([QEMU, "--version"], dict(os.environ)).splitlines()
    return first
