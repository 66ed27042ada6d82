"""Calls in processes of their own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgefiqa.errors import EdgeFiqaError
from edgefiqa.isolation import call_isolated


def wait_for_ever(pid: Path) -> None:
    pid.with_suffix(".partial").write_text(str(os.getpid()))
    pid.with_suffix(".partial").rename(pid)
    time.sleep(600)


def fail() -> None:
    print("before the end")
    os._exit(3)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_process_ends_with_the_one_that_waits_for_it(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from edgefiqa.isolation import call_isolated\n"
        "from tests.core.test_isolation import wait_for_ever\n"
        "if __name__ == '__main__':\n"
        f"    call_isolated(None, wait_for_ever, Path({str(tmp_path / 'pid')!r}))\n"
    )
    main = tmp_path / "main.py"
    main.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    caller = subprocess.Popen([sys.executable, str(main)], env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline
        assert caller.poll() is None
        time.sleep(0.05)
    worker = int((tmp_path / "pid").read_text())
    assert alive(worker)
    caller.kill()
    caller.wait()
    while alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_that_dies_leaves_its_log(tmp_path: Path) -> None:
    log = tmp_path / "call.log"
    with pytest.raises(EdgeFiqaError, match=r"the process of fail died.*call\.log"):
        call_isolated(log, fail)
