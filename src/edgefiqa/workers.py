"""Worker processes that do not outlive the process that started them."""

import os
import threading
from multiprocessing import parent_process

__all__ = ["end_with_parent"]


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
