"""Measure the Core ML files of an export alike: float16, int8 weights, palettes, W8A8.

    python scripts/mil_rows.py EXPORT --calibration SET --evaluation SET --out DIR [--rows NAME…]

The table shows what each changes of the float model's agreement with the labels, in the MIL
reference evaluator, or in Core ML on macOS. A row that breaks its bound makes the exit code 1.
Rows of the same files and images are kept in DIR: the same command goes on where it stopped.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from edgefiqa.convert import versions
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
    bounded_table,
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

ROWS = {  # largest |ΔSRCC|; None reports
    "float16": 0.0005,
    "coreml-weights": 0.001,
    "coreml-palette-6bit": None,
    "coreml-palette-4bit": None,
    "coreml-palette-6bit-ios18": None,
    "coreml-palette-4bit-ios18": None,
    "weight_only_w8": 0.001,
    "mixed_w8a8_srcc": 0.002,
}


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


def open_bench(options: argparse.Namespace) -> Bench:
    """Read the images and prove the two sets disjoint."""
    manifest = Manifest.load(options.export)
    size, recipe = int(manifest.contract["size"]), load_quantize_recipe("weight_only_w8")
    specs = (
        SourceSpec(path=options.calibration, limit=recipe.calibration_images),
        SourceSpec(path=options.evaluation, labels=options.labels, limit=options.images),
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
        sys.exit(f"error: {record.failures[0].reason}")
    return record.results["coreml"][-1]


def _by_vendor(bench: Bench, name: str, reference: np.ndarray) -> MeasuredFile:
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
    own = VendorRun(
        job=bench.job, vendor=vendor, reference=reference, float_size=bench.package("fp32")[1]
    )
    measured: MeasuredFile = call_isolated(bench.out / f"{name}.log", run_vendor, own)
    return measured


def _as_exported(bench: Bench, reference: np.ndarray) -> MeasuredFile:
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


def measure_row(bench: Bench, name: str) -> MeasuredFile:
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


def main() -> None:
    """Parse the command line, measure, print the table, write the record."""
    parser = argparse.ArgumentParser(description="the Core ML rows of a quantised export")
    parser.add_argument("export", type=Path)
    parser.add_argument("--calibration", type=Path, required=True, help="set or photographs")
    parser.add_argument("--evaluation", type=Path, required=True, help="other ones")
    parser.add_argument("--labels", type=Path, help="of evaluation photographs")
    parser.add_argument("--reference", default="default", help="float weights of the export")
    parser.add_argument("--images", type=int, default=1200, help="evaluation images at most")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    bench = open_bench(options)
    rows: dict[str, MeasuredFile] = {}
    for name in track(options.rows, console=Console(stderr=True), description="rows"):
        rows[name] = measure_row(bench, name)
    print(bounded_table(rows, ROWS))
    runtime = next(iter(rows.values())).runtime
    print(f"\n{bench.job.evaluation.name}: {len(bench.job.evaluation.keys)} images; {runtime}")
    record = {
        "command": "scripts/mil_rows.py",
        "model": bench.manifest.card["name"],
        "parent_sha256": bench.manifest.card["sha256"],
        "format": Format.COREML.value,
        "evaluation": {
            "name": bench.job.evaluation.name,
            "sha256": bench.job.evaluation.identity,
            "images": len(bench.job.evaluation.keys),
        },
        "tools": versions("coremltools", "torch", "numpy"),
        "bounds": {name: ROWS[name] for name in rows},
        "rows": {name: own.model_dump(mode="json") for name, own in rows.items()},
    }
    write_text(bench.out / "coreml_rows.json", json.dumps(record, indent=1) + "\n")
    sys.exit(any(exceeds(own, ROWS[name]) for name, own in rows.items()))


if __name__ == "__main__":
    main()
