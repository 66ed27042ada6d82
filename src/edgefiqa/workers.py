"""Worker processes: how many there may be, and that none outlives the process that started it."""

import os
import threading
from multiprocessing import parent_process

__all__ = ["end_with_parent", "processor_count"]


def processor_count() -> int:
    """Return the processors that this process may run on.

    A container or ``taskset`` may allow fewer than the machine has; systems without affinity
    (macOS, Windows) tell all of them.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def end_with_parent() -> None:
    """End this worker process as soon as its parent is gone; an initializer of process pools.

    A parent that is killed (SIGKILL, out of memory) tells its workers nothing, and they would wait
    for work for ever.
    """
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
