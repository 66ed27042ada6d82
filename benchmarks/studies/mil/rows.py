"""The Core ML files of an export, measured alike: float16, int8 weights, palettes, W8A8.

``edgefiqa study mil-rows`` shows what each changes of the float model's agreement with the labels,
in the MIL reference evaluator, or in Core ML on macOS. Rows of the same files and images are kept
in the output folder: the same command goes on where it stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefiqa.benchmarks.studies.mil.choices import ROWS
from edgefiqa.benchmarks.studies.mil.records import CoremlRowsRecord, EvaluationImages
from edgefiqa.convert import versions
from edgefiqa.errors import EdgeFiqaError, UnknownNameError
from edgefiqa.files import write_text
from edgefiqa.isolation import call_isolated
from edgefiqa.manifest import FileMetadata, Manifest
from edgefiqa.measuring.image_source import SourceSpec
from edgefiqa.quantize import (
    VENDORS,
    MeasuredFile,
    QuantizeJob,
    QuantizeOptions,
    Scheme,
    VendorJob,
    VendorRun,
    check_disjoint,
    exceeds,
    load_images,
    load_quantize_recipe,
    measure_file,
    open_sources,
    quantize_export,
    run_vendor,
    score_reference,
)
from edgefiqa.runtimes import Format, read_metadata

__all__ = ["RECORD_NAME", "RowOptions", "broken_rows", "measure_rows"]

RECORD_NAME = "coreml_rows.json"


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """What is measured, on what.

    Attributes:
        export: What ``edgefiqa convert`` wrote.
        calibration: Image set or photographs that ranges come from.
        evaluation: Other ones, that everything is measured on.
        labels: Label file of the evaluation photographs.
        reference: Float weights of the export.
        limit: Evaluation images at most.
        out: Folder for what is made and kept.
    """

    export: Path
    calibration: Path
    evaluation: Path
    labels: Path | None = None
    reference: str = "default"
    limit: int = 1200
    out: Path


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all rows are measured with."""

    export: Path
    out: Path
    manifest: Manifest
    job: QuantizeJob
    specs: tuple[SourceSpec, SourceSpec]

    def package(self, precision: str) -> tuple[Path, int]:
        """Return the export's package of a precision, and its size in bytes."""
        kind = ("coreml", precision)
        artifact = next(a for a in self.manifest.artifacts if (a.target, a.precision) == kind)
        return self.export / artifact.file, artifact.size_bytes


def _open_bench(options: RowOptions) -> Bench:
    """Read the images and prove the two sets disjoint."""
    manifest = Manifest.load(options.export)
    size, recipe = int(manifest.contract["size"]), load_quantize_recipe("weight_only_w8")
    specs = (
        SourceSpec(path=options.calibration, limit=recipe.calibration_images),
        SourceSpec(path=options.evaluation, labels=options.labels, limit=options.limit),
    )
    sources = open_sources(*specs)
    options.out.mkdir(parents=True, exist_ok=True)
    calibration, evaluation = (
        load_images(source, size, options.out / f"{purpose}.npy", purpose=purpose)
        for source, purpose in zip(sources, ("calibration", "evaluation"), strict=True)
    )
    check_disjoint(*sources, calibration, evaluation)
    job = QuantizeJob(
        source=options.reference,
        size=size,
        recipe=recipe,
        calibration=calibration,
        evaluation=evaluation,
        threads=1,
    )
    return Bench(export=options.export, out=options.out, manifest=manifest, job=job, specs=specs)


def _by_recipe(bench: Bench, name: str) -> MeasuredFile:
    """Quantise with the engine; the last rung is what it ships."""
    calibration, evaluation = bench.specs
    options = QuantizeOptions(
        export=bench.export,
        out=bench.out,
        source=bench.job.source,
        calibration=calibration,
        evaluation=evaluation,
        formats=("coreml",),
    )
    record = quantize_export(load_quantize_recipe(name), options)
    if "coreml" not in record.results:
        raise EdgeFiqaError("no Core ML file was made", value=record.failures[0].reason)
    return record.results["coreml"][-1]


def _by_vendor(bench: Bench, name: str, reference: NDArray[np.float64]) -> MeasuredFile:
    """Compress as coremltools documents it."""
    package, _ = bench.package("fp16")
    metadata = FileMetadata.model_validate(read_metadata(package))
    vendor = VendorJob(
        vendor=name,
        scheme=Scheme.WEIGHT_ONLY,
        source=bench.job.source,
        size=bench.job.size,
        calibration=bench.job.calibration.path,
        out=bench.out / f"{name}.mlpackage",
        metadata=metadata.model_copy(update={"precision": f"{name}_{Scheme.WEIGHT_ONLY}"}),
        float_file=package,
    )
    order = VendorRun(
        job=bench.job, vendor=vendor, reference=reference, float_size=bench.package("fp32")[1]
    )
    measured: MeasuredFile = call_isolated(bench.out / f"{name}.log", run_vendor, order)
    return measured


def _as_exported(bench: Bench, reference: NDArray[np.float64]) -> MeasuredFile:
    """Measure the float16 export itself."""
    _, measured = call_isolated(
        bench.out / "float16.log",
        measure_file,
        bench.package("fp16")[0],
        bench.job,
        reference=reference,
        recipe_name="float16",
        float_size=bench.package("fp32")[1],
    )
    return measured


def _measure_row(bench: Bench, name: str) -> MeasuredFile:
    """Return a row, from where it was kept or by measuring it."""
    weights, images = bench.manifest.card["sha256"], bench.job.evaluation.identity
    kept = bench.out / "rows" / f"{name}-{weights[:12]}-{images[:12]}.json"
    if kept.exists():
        return MeasuredFile.model_validate_json(kept.read_bytes())
    if name in VENDORS.names() or name == "float16":
        scores = bench.out / f"float-{weights[:12]}-{images[:12]}.npy"
        if not scores.exists():
            np.save(scores, call_isolated(None, score_reference, bench.job))
        reference = np.load(scores)
        plain = name == "float16"
        found = _as_exported(bench, reference) if plain else _by_vendor(bench, name, reference)
    else:
        found = _by_recipe(bench, name)
    write_text(kept, found.model_dump_json(indent=1) + "\n")
    return found


def measure_rows(
    options: RowOptions,
    names: Sequence[str] = (),
    *,
    on_row: Callable[[str], object] = lambda _: None,
) -> CoremlRowsRecord:
    """Measure rows and write the record; those of the same files and images are kept.

    Args:
        options: What is measured, on what.
        names: Names of ``ROWS``; empty takes all.
        on_row: Told each row before it is measured.

    Raises:
        EdgeFiqaError: If a row cannot be made.
        UnknownNameError: There is no such row.
    """
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise UnknownNameError("unknown row", value=unknown[0], allowed=", ".join(ROWS))
    bench, rows = _open_bench(options), dict[str, MeasuredFile]()
    for name in names or ROWS:
        on_row(name)
        rows[name] = _measure_row(bench, name)
    images = bench.job.evaluation
    record = CoremlRowsRecord(
        command="edgefiqa study mil-rows",
        model=bench.manifest.card["name"],
        parent_sha256=bench.manifest.card["sha256"],
        format=Format.COREML.value,
        evaluation=EvaluationImages(
            name=images.name, sha256=images.identity, images=len(images.keys)
        ),
        tools=versions("coremltools", "torch", "numpy"),
        bounds={name: ROWS[name] for name in rows},
        rows=rows,
    )
    write_text(bench.out / RECORD_NAME, record.model_dump_json(indent=1) + "\n")
    return record


def broken_rows(record: CoremlRowsRecord) -> list[str]:
    """Return the rows that break their bound."""
    return [name for name, row in record.rows.items() if exceeds(row, record.bounds[name])]
