"""How a process treats memory that torch frees."""

import ctypes
import sys

__all__ = ["keep_memory"]


def keep_memory() -> None:
    """Let this process keep freed memory instead of returning it after every layer.

    glibc maps blocks above 32 MB anew each time, and the first touch of every page is a fault:
    batches lose a quarter of their speed to it. Does nothing on other systems.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            m_trim_threshold, m_mmap_max = -1, -4
            mallopt(m_mmap_max, 0)
            mallopt(m_trim_threshold, 2**31 - 1)
