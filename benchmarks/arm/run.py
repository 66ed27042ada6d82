"""Golden scores on emulated ARM processors: ``make arm EXPORT=DIR``.

``edgefiqa study arm EXPORT --root ROOT --out DIR`` executes each ONNX, TFLite and ExecuTorch file
of an export on this machine and on each processor model, prints the table of differences, and
writes it beside the record. Exit code 1: a file is beyond its golden tolerance.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgefiqa.benchmarks.arm.emulator import (
    Emulator,
    EmulatorRoot,
    opened_emulator,
    qemu_version,
    score_here,
)
from edgefiqa.benchmarks.arm.processor import Processor
from edgefiqa.benchmarks.arm.records import (
    ArmRecord,
    EmulatedRun,
    FileRecord,
    HostRun,
    largest_difference,
)
from edgefiqa.benchmarks.arm.table import arm_table
from edgefiqa.errors import ArtifactError, EdgeFiqaError
from edgefiqa.files import sha256_of, write_text
from edgefiqa.goldens import GOLDENS_DIR, GOLDENS_NAME, Goldens, read_tensor
from edgefiqa.manifest import Artifact, Manifest
from edgefiqa.measuring.machine import processor_name
from edgefiqa.runtimes.formats import Format

__all__ = ["RECORD_NAME", "TABLE_NAME", "check_export", "write_record"]

RECORD_NAME, TABLE_NAME = "arm_numerics.json", "arm_numerics.md"

_log = logging.getLogger(__name__)
_FORMATS = (Format.ONNX, Format.TFLITE, Format.EXECUTORCH)
_APPLE_TARGETS = ("executorch-coreml",)


def _read_goldens(export: Path, manifest: Manifest) -> Goldens:
    found = sha256_of(export / GOLDENS_DIR / GOLDENS_NAME)
    if found != manifest.goldens_sha256:
        raise ArtifactError(
            "the golden vectors have changed since they were recorded", value=export / GOLDENS_DIR
        )
    return Goldens.load(export / GOLDENS_DIR)


def _write_tensors(export: Path, goldens: Goldens, target: Path) -> None:
    folder = export / GOLDENS_DIR
    tensors = [read_tensor(folder / case.tensor) for case in goldens.cases]
    np.concatenate(tensors).tofile(target)


def _reason_to_leave_out(artifact: Artifact) -> str:
    if artifact.format not in {format_.value for format_ in _FORMATS}:
        return f"no runtime for {artifact.format} files on Linux for ARM"
    return "delegated to Core ML" if artifact.target in _APPLE_TARGETS else ""


def _run_here(export: Path, artifact: Artifact, tensors: Path, goldens: Goldens) -> FileRecord:
    record = FileRecord(
        file=artifact.file,
        format=artifact.format,
        precision=artifact.precision,
        tolerance=goldens.tolerances.get(artifact.precision, 0.0),  # unknown: nothing is allowed
        golden=tuple(case.score for case in goldens.cases),
        left_out=_reason_to_leave_out(artifact),
    )
    if record.left_out:
        return record
    path = export / artifact.file
    if sha256_of(path) != artifact.sha256:
        raise ArtifactError(
            "a file of the export has changed since it was recorded",
            value=path,
            next_step="run edgefiqa convert again",
        )
    host = HostRun.model_validate(score_here(path, tensors))
    return record.model_copy(update={"host": host})


def _run_emulated(emulator: Emulator, path: Path, tensors: Path, side: int) -> EmulatedRun:
    try:
        answer = emulator.score(path, tensors, side=side)
    except EdgeFiqaError as error:
        return EmulatedRun(processor=emulator.processor, error=str(error))
    return EmulatedRun(processor=emulator.processor, **answer)


def check_export(
    export: Path,
    root: EmulatorRoot,
    processors: tuple[Processor, ...] = tuple(Processor),
    *,
    tell: Callable[[str], object] = _log.info,
) -> ArmRecord:
    """Execute an export's golden cases here and on each processor model.

    Args:
        export: What ``edgefiqa convert`` or ``edgefiqa quantize`` wrote.
        root: The ARM programs.
        processors: The models.
        tell: Receives a line after each file: emulation takes minutes.

    Raises:
        ArtifactError: If the export is damaged.
        EdgeFiqaError: If a file does not run on this machine, or nothing runs in the root.
    """
    manifest = Manifest.load(export)
    goldens = _read_goldens(export, manifest)
    features: dict[Processor, tuple[str, ...]] = {}
    options: dict[Processor, str] = {}
    with TemporaryDirectory(prefix="edgefiqa-arm-") as scratch:
        tensors = Path(scratch, "tensors.u8")
        _write_tensors(export, goldens, tensors)
        files = [_run_here(export, artifact, tensors, goldens) for artifact in manifest.artifacts]
        runs: dict[str, list[EmulatedRun]] = {file.file: [] for file in files}
        for processor in processors:
            with opened_emulator(root, processor) as emulator:
                features[processor] = emulator.features
                options[processor] = emulator.option
                for file in _executable(files):
                    run = _run_emulated(emulator, export / file.file, tensors, goldens.size)
                    runs[file.file].append(run)
                    tell(f"{file.file} on {processor.value}: {_summary(file, run)}")
    return ArmRecord(
        recorded_at=datetime.now(UTC).isoformat("T", "seconds"),
        host=processor_name(),
        qemu=qemu_version(),
        options=options,
        features=features,
        parent_sha256=manifest.card["sha256"],
        goldens_sha256=manifest.goldens_sha256,
        cases=tuple(case.name for case in goldens.cases),
        files=tuple(f.model_copy(update={"emulated": tuple(runs[f.file])}) for f in files),
    )


def write_record(record: ArmRecord, out: Path) -> None:
    """Write a record and its table into a folder."""
    write_text(out / RECORD_NAME, record.model_dump_json(indent=2) + "\n")
    write_text(out / TABLE_NAME, arm_table(record))


def _summary(file: FileRecord, run: EmulatedRun) -> str:
    if run.error:
        return run.error
    largest = largest_difference(run.scores, file.golden)
    return f"largest difference to a golden score {largest:.1e}, allowed {file.tolerance:g}"


def _executable(files: list[FileRecord]) -> Iterator[FileRecord]:
    found = [file for file in files if not file.left_out]
    if not found:
        raise ArtifactError(
            "the export holds no file that runs on ARM",
            allowed=", ".join(format_.value for format_ in _FORMATS),
            next_step="edgefiqa convert --to onnx,tflite,executorch adds some",
        )
    yield from found
