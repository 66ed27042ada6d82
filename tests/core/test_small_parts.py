"""Registry, atomic files, isolation: the parts everything stands on."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edgefiqa.errors import EdgeFiqaError, UnknownNameError, UsageError
from edgefiqa.files import sha256_of, size_of, staged_path, write_text
from edgefiqa.isolation import call_isolated
from edgefiqa.registry import Registry


def test_registry() -> None:
    registry: Registry[int] = Registry("number")
    registry.add("one", 1)
    assert registry.get("one") == 1
    assert "one" in registry
    with pytest.raises(ValueError, match="twice"):
        registry.add("one", 2)
    with pytest.raises(UnknownNameError, match=r"unknown number: 'onne'.*one.*did you mean 'one'"):
        registry.get("onne")


def test_messages_say_what_value_allowed_and_next() -> None:
    error = UsageError("too many", value=7, allowed="1 to 6", next_step="take fewer")
    assert str(error) == "too many: 7. Allowed: 1 to 6. Next: take fewer"


def test_staged_files_are_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    write_text(target, "first")
    with pytest.raises(RuntimeError), staged_path(target) as stage:
        stage.write_text("half")
        raise RuntimeError
    assert target.read_text() == "first"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_staged_directories_replace_directories(tmp_path: Path) -> None:
    target = tmp_path / "package"
    for content in ("one", "two"):
        with staged_path(target) as stage:
            stage.mkdir()
            (stage / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["two"]


def test_directory_hashes_see_content_and_names(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / ("x" if name != "b" else "y")).write_text("1")
    (tmp_path / "c" / "sub" / "x").write_text("2")
    assert len({sha256_of(tmp_path / name) for name in ("a", "b", "c")}) == 3
    (tmp_path / "c" / "sub" / "x").write_text("1")
    assert sha256_of(tmp_path / "c") == sha256_of(tmp_path / "a")
    assert size_of(tmp_path / "a") == 1


def add(a: int, b: int) -> int:
    os.write(1, b"noise")
    return a + b


def refuse() -> None:
    raise UsageError("refused", value=3)


def fail() -> None:
    raise ZeroDivisionError


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_isolated_calls_return_and_keep_the_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    assert call_isolated(log, add, 1, b=2) == 3
    assert log.read_text() == "noise"
    assert capfd.readouterr().out == ""


def test_isolated_faults_come_back_as_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UsageError, match="refused: 3"):
        call_isolated(None, refuse)
    assert not list(tmp_path.iterdir()), "an empty log that no message names"
    log = tmp_path / "log"
    with pytest.raises(EdgeFiqaError, match=r"ZeroDivisionError.*log"):
        call_isolated(log, fail)
    assert "Traceback" in log.read_text()
    with pytest.raises(EdgeFiqaError, match="died"):
        call_isolated(log, crash)


def wait_for_ever(pid: Path) -> None:
    pid.with_suffix(".partial").write_text(str(os.getpid()))
    pid.with_suffix(".partial").rename(pid)
    time.sleep(600)


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
        "from tests.core.test_small_parts import wait_for_ever\n"
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
