"""Latency and drift, measured.

The names below are all that other stages may use; see ``edgefiqa.lazy`` for how they are imported.
"""

from typing import TYPE_CHECKING

from edgefiqa import lazy

if TYPE_CHECKING:
    from edgefiqa.benchmarks.drift.compare import change_line, compare_runs
    from edgefiqa.benchmarks.drift.layers import layers_of_export, layers_table
    from edgefiqa.benchmarks.drift.record_drift import record_drift
    from edgefiqa.benchmarks.drift.run import DriftRules
    from edgefiqa.benchmarks.drift.scoring import score_export
    from edgefiqa.benchmarks.drift.waterfall import waterfall_table, waterfalls_of
    from edgefiqa.benchmarks.latency.cells import list_latency_cells
    from edgefiqa.benchmarks.latency.rules import LatencyRules
    from edgefiqa.benchmarks.latency.run import measure_latency
    from edgefiqa.benchmarks.latency.summary import LatencyOutcome, summarise
    from edgefiqa.benchmarks.latency.table import latency_rows, ratio_text
    from edgefiqa.benchmarks.latency.targets import LatencyTarget, open_target, parse_tool
    from edgefiqa.benchmarks.latency.targets.tool import ToolTarget
    from edgefiqa.benchmarks.latency.targets.tool_output import TOOLS
    from edgefiqa.benchmarks.report.charts import waterfall_chart
    from edgefiqa.benchmarks.report.data import with_interval
    from edgefiqa.benchmarks.report.page import write_report

__all__ = [
    "TOOLS",
    "DriftRules",
    "LatencyOutcome",
    "LatencyRules",
    "LatencyTarget",
    "ToolTarget",
    "change_line",
    "compare_runs",
    "latency_rows",
    "layers_of_export",
    "layers_table",
    "list_latency_cells",
    "measure_latency",
    "open_target",
    "parse_tool",
    "ratio_text",
    "record_drift",
    "score_export",
    "summarise",
    "waterfall_chart",
    "waterfall_table",
    "waterfalls_of",
    "with_interval",
    "write_report",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept any name
    __getattr__ = lazy.attach(__name__)
