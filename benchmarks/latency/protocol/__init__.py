"""The agent protocol: one job file to the device, one report file back.

::

    host                                   device
    ────                                   ──────
    model, goldens/, job.json  ──push──▶   a separate folder
    am instrument -e job …     ──run───▶   one fresh process for one (model, threads) cell
    report.json                ◀──pull──   written whole or not at all

File names in a job are relative to the job file's folder. Both sides hash what they handle: the
host names the model's and the goldens' sha256, the device reports the ones it computed, and
``check_answer`` refuses a report that is about anything else. ``agent.schema.json`` is the same
definition for other languages; it is generated from these classes.
"""

from edgefiqa.benchmarks.latency.protocol.agent_job import (
    AgentJob,
    JobGoldens,
    JobModel,
    RunRules,
    Runtime,
)
from edgefiqa.benchmarks.latency.protocol.agent_report import (
    AgentError,
    AgentReport,
    DeviceInfo,
    DeviceState,
    EndToEndSample,
    GoldenCheck,
    GoldenResult,
    LatencyStatistics,
    Named,
    ReportedModel,
)
from edgefiqa.benchmarks.latency.protocol.agent_schema import (
    SCHEMA_PATH,
    build_schema,
    write_schema,
)
from edgefiqa.benchmarks.latency.protocol.exchange import (
    check_answer,
    load_report,
    write_job,
)

__all__ = [
    "SCHEMA_PATH",
    "AgentError",
    "AgentJob",
    "AgentReport",
    "DeviceInfo",
    "DeviceState",
    "EndToEndSample",
    "GoldenCheck",
    "GoldenResult",
    "JobGoldens",
    "JobModel",
    "LatencyStatistics",
    "Named",
    "ReportedModel",
    "RunRules",
    "Runtime",
    "build_schema",
    "check_answer",
    "load_report",
    "write_job",
    "write_schema",
]
