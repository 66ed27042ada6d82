"""The JSON schema of job and report, for other languages; generated from the classes."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgefiqa.benchmarks.latency.protocol.agent_job import AgentJob
from edgefiqa.benchmarks.latency.protocol.agent_report import AgentReport
from edgefiqa.files import write_text

__all__ = ["SCHEMA_PATH", "build_schema", "write_schema"]

SCHEMA_PATH = Path(str(files("edgefiqa.benchmarks.latency.protocol") / "agent.schema.json"))
"""The JSON schema of both files."""


def build_schema() -> dict[str, Any]:
    """Return the JSON schema of both files, as ``agent.schema.json`` holds it."""
    definitions: dict[str, Any] = {}
    for model in (AgentJob, AgentReport):
        schema = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= schema.pop("$defs", {})
        definitions[model.__name__] = schema
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgefiqa agent protocol, version 1",
        "description": "A document is an AgentJob (host to device) or an AgentReport (back).",
        "$defs": dict(sorted(definitions.items())),
        "anyOf": [{"$ref": "#/$defs/AgentJob"}, {"$ref": "#/$defs/AgentReport"}],
    }


def write_schema() -> None:
    """Write ``agent.schema.json`` again; needed after these classes have changed."""
    write_text(SCHEMA_PATH, json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n")
