"""How many worker processes there may be."""

import os
import subprocess
import sys

import pytest

from edgefiqa.workers import processor_count

COUNT = "from edgefiqa.workers import processor_count; print(processor_count())"


def test_the_processors_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert processor_count() == 3


@pytest.mark.parametrize(("found", "counted"), [(6, 6), (None, 1)])
def test_systems_without_affinity(
    monkeypatch: pytest.MonkeyPatch, found: int | None, counted: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: found)
    assert processor_count() == counted


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_that_is_kept_to_one_processor() -> None:
    code = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}); {COUNT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
