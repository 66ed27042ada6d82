"""How a process treats memory that torch frees."""

import ctypes
import functools
import mmap
import sys

__all__ = ["keep_memory"]

# Addresses, not memory: a page is there once something is written to it.
_HEAP_BYTES = 8 << 30
_HUGE_PAGE = 2 << 20


@functools.cache
def keep_memory() -> None:
    """Let this process keep freed memory, and take it in huge pages where the system has them.

    glibc maps blocks above 32 MB anew each time, and the first touch of every page is a fault:
    batches lose a quarter of their speed to it. Maps of activations span thousands of small pages,
    more than a processor remembers the places of. Does nothing on other systems.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        mallopt = getattr(libc, "mallopt", None)
        if mallopt is not None:
            m_trim_threshold, m_mmap_max = -1, -4
            mallopt(m_mmap_max, 0)
            mallopt(m_trim_threshold, -1)
            _ask_for_huge_pages(libc)


def _ask_for_huge_pages(libc: ctypes.CDLL) -> None:
    """Advise them for the heap that is to come: it keeps the advice when the block is freed."""
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None
    block = libc.malloc(_HEAP_BYTES)
    if block is not None:
        first = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        libc.madvise(first, _HEAP_BYTES - _HUGE_PAGE, mmap.MADV_HUGEPAGE)
        libc.free(block)
