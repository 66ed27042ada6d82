"""Freed memory is kept, and comes in huge pages; each in a separate process."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap is on Linux only")

_START = """
import resource, sys
from pathlib import Path
import torch
from edgefiqa.memory import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
"""
_FAULTS = """
torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
_FLAGS = """
place = torch.ones(1 << 24).data_ptr() + (1 << 25)
for text in Path("/proc/self/smaps").read_text().splitlines():
    name = text.split()[0]
    if "-" in name:
        first, last = (int(end, 16) for end in name.split("-"))
    if name == "VmFlags:" and first <= place < last:
        print(text)
"""


def _print(code: str, way: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _START + code, way], check=True, capture_output=True, text=True
    )
    return done.stdout


def test_a_block_that_was_freed_is_there_again() -> None:
    small_pages = (4 << 24) // 4096
    assert int(_print(_FAULTS, "kept")) < small_pages / 100
    assert int(_print(_FAULTS, "as torch does")) > 0


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="the kernel has no huge pages"
)
def test_the_heap_asks_for_huge_pages() -> None:
    assert "hg" in _print(_FLAGS, "kept").split()
    assert "hg" not in _print(_FLAGS, "as torch does").split()
