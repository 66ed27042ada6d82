"""Write what the host side writes, for the Kotlin tests to read: ``jobs.py DIR``.

Three job files, and a ``bundle.json`` in the folder ``bundle``.
"""

import json
import sys
from pathlib import Path

from edgefiqa.benchmarks.latency.protocol import (
    AgentJob,
    JobGoldens,
    JobModel,
    RunRules,
    Runtime,
    write_job,
)
from edgefiqa.bundling import bundle_document
from edgefiqa.manifest import Artifact, Manifest
from edgefiqa.preprocess import InputContract


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rules = RunRules(minimum_count=1, minimum_duration_ns=0, maximum_duration_ns=3_600_000_000_000)
    goldens = JobGoldens(directory="goldens", sha256="0123456789abcdef" * 4)
    for threads, runtime in enumerate(Runtime, start=1):
        job = AgentJob(
            job_id=f"{runtime}-{threads}_threads",
            model=JobModel(file=f"models/default student.{runtime}", sha256="f" * 64),
            runtime=runtime,
            precision="static_w8a8_per_channel",
            threads=threads,
            size=288,
            rules=rules if threads == 1 else RunRules(),
            goldens=goldens if threads == 1 else None,
            end_to_end_count=threads,
        )
        write_job(job, folder / f"{runtime}.json")


def _write_bundle(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    artifact = Artifact(
        file="student.tflite",
        format="tflite",
        target="tflite",
        precision="fp32",
        sha256="a" * 64,
        size_bytes=5_116_624,
        folded=[],
        structure={},
        tools={},
        parity=[],
        not_executed=[],
        seconds=0,
    )
    manifest = Manifest(
        card={"name": "student", "score_range": (0.0, 1.0)},
        contract=InputContract(size=288).to_dict(),
        goldens_sha256="b" * 64,
        artifacts=[artifact],
    )
    document = bundle_document(manifest, manifest.artifacts, "litert")
    (folder / "bundle.json").write_text(json.dumps(document))


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
    _write_bundle(Path(sys.argv[1]) / "bundle")
