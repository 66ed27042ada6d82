"""Calling a function in a separate process.

Machine learning runtimes do not bear each other: TensorFlow and ExecuTorch in one process crash
it, import order decides about others, and each keeps its memory. So whatever loads more than one
of them gives each a fresh process, and what they print goes to a log.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

from edgefiqa.errors import EdgeFiqaError
from edgefiqa.workers import end_with_parent

__all__ = ["call_isolated"]

P = ParamSpec("P")
R = TypeVar("R")


def _call_logged(
    log: Path, function: Callable[..., R], args: tuple[object, ...], kwargs: dict[str, object]
) -> R:
    """Send everything printed, by C++ too, to the log; put the traceback of a fault there."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        return function(*args, **kwargs)
    except EdgeFiqaError:
        raise
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        raise EdgeFiqaError(
            f"{function.__name__} failed ({type(error).__name__}: {error})",
            next_step=f"the whole log is {log}",
        ) from None


def call_isolated(
    log: Path | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Call a function in a fresh process and wait for its result.

    Args:
        log: Receives what the process prints; None takes a temporary file that stays only where
            the process fails.
        function: Importable by its name; arguments and result travel by pickle.
        *args: Passed on.
        **kwargs: Passed on.

    Returns:
        What the function returned.

    Raises:
        EdgeFiqaError: As the function raised; or, with the log's path, because it failed in
            another way or its process died.
    """
    temporary = log is None
    if log is None:
        handle, name = tempfile.mkstemp(prefix="edgefiqa-", suffix=".log")
        os.close(handle)
        log = Path(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)  # there is one again as soon as the process calls the function
    with ProcessPoolExecutor(
        max_workers=1, mp_context=get_context("spawn"), initializer=end_with_parent
    ) as pool:
        try:
            result = pool.submit(_call_logged, log, function, args, kwargs).result()
        except BrokenProcessPool:
            raise _death(function.__name__, log) from None
        except EdgeFiqaError:
            # A refusal prints nothing; what failed otherwise names its log.
            if temporary and not log.stat().st_size:
                log.unlink()
            raise
    if temporary:
        log.unlink()
    return result


def _death(function: str, log: Path) -> EdgeFiqaError:
    """Return the error for a process that ended without a result."""
    if log.exists():
        return EdgeFiqaError(
            f"the process of {function} died (out of memory, or a crash inside a native library)",
            next_step=f"its log is {log}",
        )
    # The new process imports the main module first. A script without the guard starts processes
    # again there, which Python refuses.
    return EdgeFiqaError(
        f"the process of {function} died before it began",
        next_step='in a script, call edgefiqa below `if __name__ == "__main__":`, as Python\'s '
        "multiprocessing asks; else see what was printed above",
    )
