"""The whole way in one command: photographs → every format → INT8 → latency → drift → report.

::

    photographs ─ degraded copies ─┬─ calibration ─▶ INT8 of each format ─┐
    default student ─▶ each format ┼──────────────────────────────────────┼─▶ scores, drift, gate
                                   └─ evaluation, labelled ───────────────┘   latency ─▶ report.html

The output folder is a run directory too: ``edgefiqa report``, ``gate`` and ``compare`` read it.
What is finished is kept: the same command goes on where it stopped.
"""

from edgefiqa.demo.run import Demo, run
from edgefiqa.demo.settings import Settings

__all__ = ["Demo", "Settings", "run"]
