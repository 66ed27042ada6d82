"""Where latency is measured: this machine, another over ssh, a phone over adb, an external tool.

::

    host            a Python process here             takes turns with the others
    ssh://…         the same process over there       takes turns with the others
    adb[:SERIAL]    the Android agent, a job a round  a round is one turn
    NAME=PATH       benchmark_model, executor_runner  a round is one turn

All give the same records, and in all of them the process that executes a file hashes it; a tool
cannot, so the file is hashed before and after it here.
"""

from edgefiqa.benchmarks.latency.targets.base import CellSession, CellStart, LatencyTarget, Machine
from edgefiqa.benchmarks.latency.targets.choice import open_target, parse_tool

__all__ = ["CellSession", "CellStart", "LatencyTarget", "Machine", "open_target", "parse_tool"]
