"""Fresh processes that have torch already: each is forked from one that did nothing but import it.

Importing torch, torchvision and timm takes seconds of processor time, and the tests start hundreds
of processes that begin with it. Python's fork server imports them once; a process forked from it
shares nothing with any other, nor with the tests. Only the order of imports differs from a process
started by hand, so this is for functions that import torch first of all; some tests of the
commands start Python itself (`run_python`), and so do those of the README and of the installation.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest import mock

from edgefiqa import isolation

__all__ = ["call_warm", "run_warm", "use_warm_processes"]

PRELOADED = [
    *("torch", "torchvision", "timm", "scipy.stats", "onnx", "onnxscript"),
    *("edgefiqa.models", "edgefiqa.cli"),
]
# Where these functions load a network, a program or a package, torch is what they import first.
CALLERS = (
    "edgefiqa.benchmarks.drift.layers",
    "edgefiqa.benchmarks.drift.scoring",
    "edgefiqa.convert.run",
    "edgefiqa.quantize.steps",
    "edgefiqa.verify",
)


P = ParamSpec("P")
R = TypeVar("R")

# Without torch there is nothing to import, and the modules that cannot be are passed over.
_server = get_context("forkserver")
_server.set_forkserver_preload(PRELOADED)


def use_warm_processes() -> None:
    """Let what edgefiqa calls in processes of their own be called in warm ones."""
    for name in CALLERS:
        module = importlib.import_module(name)
        assert module.call_isolated is isolation.call_isolated
        module.call_isolated = call_warm  # type: ignore[attr-defined]


def call_warm(log: Path | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function as `edgefiqa.isolation.call_isolated` does, in a warm process."""
    with mock.patch.object(isolation, "ProcessPoolExecutor", _warm_pool):
        return isolation.call_isolated(log, function, *args, **kwargs)


def _warm_pool(
    max_workers: int, mp_context: object, initializer: Callable[[], None]
) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        max_workers,
        mp_context=_server,
        initializer=_start,
        initargs=(dict(os.environ), initializer),
    )


def _start(environment: Mapping[str, str], initializer: Callable[[], None]) -> None:
    _take_environment(environment)
    initializer()


def _take_environment(environment: Mapping[str, str]) -> None:
    """Replace the environment of the server, which may be older than a test's change to it."""
    os.environ.clear()
    os.environ.update(environment)


def run_warm(arguments: Sequence[str], cwd: Path | None) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m edgefiqa`` with arguments in a warm process."""
    command = [sys.executable, "-m", "edgefiqa", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _server.Process(
            target=_command, args=(command, cwd or Path.cwd(), dict(os.environ), printed)
        )
        process.start()
        process.join()
        texts = [path.read_text(encoding="utf-8") for path in printed]
        code = process.exitcode
        process.close()
    assert code is not None
    return subprocess.CompletedProcess(command, code, *texts)


def _command(
    command: list[str], cwd: Path, environment: Mapping[str, str], printed: list[Path]
) -> None:
    from edgefiqa.cli import main

    _take_environment(environment)
    os.chdir(cwd)
    for descriptor, path in zip((1, 2), printed, strict=True):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    sys.argv = [str(Path(isolation.__file__).with_name("__main__.py")), *command[3:]]
    main()
