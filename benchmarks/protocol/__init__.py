"""What the host and an on-device agent say to each other: job in, report out."""

from edgefiqa.benchmarks.protocol.agent import (
    SCHEMA_PATH,
    AgentJob,
    AgentReport,
    check_answer,
    load_report,
    write_job,
)

__all__ = ["SCHEMA_PATH", "AgentJob", "AgentReport", "check_answer", "load_report", "write_job"]
