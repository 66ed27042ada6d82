"""Write the tables of the documents from records: ``make readme``.

With a demo and a bench directory (``make bench``) it takes their records into benchmarks/records
first. Records of other weights than the default student's are refused.
"""

import json
import re
import statistics
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from edgefiqa.benchmarks.latency.table import latency_rows, ratio_text
from edgefiqa.benchmarks.report.data import with_interval
from edgefiqa.benchmarks.report.tables import Table
from edgefiqa.benchmarks.studies.accuracy.table import accuracy_tables
from edgefiqa.convert import parity_table
from edgefiqa.demo.pictures import Scored, write_pictures, write_sheet
from edgefiqa.distill.ablation_table import render
from edgefiqa.files import write_text
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.paired_ratios import CONFIDENCE
from edgefiqa.measuring.records import DriftRecord, LatencyRecord
from edgefiqa.measuring.run_directory import load_run
from edgefiqa.models import ModelCard, default_model_dir
from edgefiqa.models.card import CARD_NAME
from edgefiqa.quantize.measured import MeasuredFile
from edgefiqa.quantize.report import (
    QuantizationRecord,
    bounded_table,
    describe_images,
    short_table,
)

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "benchmarks" / "records"
ROUTES = RECORDS / "tflite_routes_student_288_1_thread.json"
STARTUP = RECORDS / "startup.json"
QUANTIZED = RECORDS / "quantization_default_student.json"
QUANTIZED_MSPT = RECORDS / "quantization_mspt.json"
OTHER_RECIPES = ("static_w8a8_per_channel", "dynamic_w8", "weight_only_w8")
EXPORT = RECORDS / "export_default_student.json"
LATENCY = RECORDS / "latency_default_student.json"
DRIFT = RECORDS / "drift_default_student.json"
COREML = RECORDS / "coreml_default_student.json"
CONFORMANCE = RECORDS / "mil_conformance.json"
ACCURACY = RECORDS / "accuracy_default_student.json"
ABLATION = RECORDS / "ablation.json"
TRAINING_SPEED = RECORDS / "training_speed.json"
LABELLING = RECORDS / "labelling.json"
FLOATS = ("fp32", "fp16")


class DriftRecords(BaseModel):
    """The drift of every file of one export.

    Attributes:
        images: What they were measured on, in words.
        label: What the labels mean.
        files: One record a file and runtime, without the worst images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str
    label: str | None
    files: list[DriftRecord]


LATENCIES: TypeAdapter[list[LatencyRecord]] = TypeAdapter(list[LatencyRecord])


def replace_between(document: Path, mark: str, text: str) -> None:
    """Replace what stands between ``<!-- mark:begin … -->`` and ``<!-- mark:end -->``."""
    marked = re.compile(rf"(<!-- {mark}:begin[^>]*-->\n).*?(<!-- {mark}:end -->)", re.DOTALL)
    content, count = marked.subn(
        lambda found: f"{found[1]}{text}\n{found[2]}", document.read_text(encoding="utf-8")
    )
    if count != 1:
        sys.exit(f"error: {document} has {count} places marked {mark}")
    document.write_text(content, encoding="utf-8")


def routes_table() -> str:
    """Return the comparison of the ways to a ``.tflite``, from its record."""
    record = json.loads(ROUTES.read_text())
    rows = ["| file | median ms | p90 ms | ratio, paired | sha256 |", "|---|---|---|---|---|"]
    for file in record["files"]:
        ratios = file["paired_ratios"]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        figures = f"{file['median_ms']:.2f} | {file['p90_ms']:.2f} | {spread}"
        rows.append(f"| {file['file']} | {figures} | `{file['sha256'][:12]}` |")
    rows.append(
        f"\n{record['runtime']}, {record['threads']} thread, {record['processor']}; "
        f"{record['rounds']} rounds of {record['runs']} inferences, interleaved."
    )
    return "\n".join(rows)


def startup_line() -> str:
    """Return the size and start-up of a ``[tflite]`` installation, from its record."""
    record = json.loads(STARTUP.read_text())
    seconds = f"{record['median_seconds']:.2f} s (median of {record['runs']}"
    return (
        f"An installation of `edgefiqa[tflite]` takes {record['installed_mb']:.0f} MB; from "
        f"process start to the first score: {seconds}, at most {record['max_seconds']:.2f} s), "
        f"file `{record['sha256'][:12]}`."
    )


def load_card() -> ModelCard:
    """Return the default student's card."""
    return ModelCard.load(default_model_dir() / CARD_NAME)


def check_weights(found: str, card: ModelCard, what: Path, next_step: str) -> None:
    """Refuse a record of other weights: its figures would stand beside those of these."""
    if found != card.sha256:
        sys.exit(
            f"error: {what.relative_to(ROOT)} is of the weights {found[:12]}, the default student "
            f"is {card.sha256[:12]}. Next: {next_step}"
        )


def student_table(card: ModelCard) -> str:
    """Return the default student's figures, from its card."""
    rows = ["| data | images | SRCC | PLCC |", "|---|---|---|---|"]
    rows += [
        f"| {entry['data']} | {entry['n']} | {entry['srcc']:.3f} | {entry['plcc']:.3f} |"
        for entry in card.metrics
    ]
    return "\n".join(rows)


def export_table(card: ModelCard) -> str:
    """Return each float file's distance to torch."""
    manifest = Manifest.model_validate_json(EXPORT.read_bytes())
    check_weights(manifest.card["sha256"], card, EXPORT, "make demo bench")
    kept = [own for own in manifest.artifacts if own.precision in FLOATS]
    floats = manifest.model_copy(update={"artifacts": kept})  # INT8 files have a table of their own
    photos = "; ".join(dict.fromkeys(p.photos for a in kept for p in a.parity))
    what = f"Default student `{card.sha256[:12]}`, {manifest.contract['size']} px"
    return f"{parity_table(floats)}\n\n{what}; images: {photos}."


def quantized_table(card: ModelCard) -> str:
    """Return the INT8 files of the default student beside the vendors' plain paths."""
    record = QuantizationRecord.model_validate_json(QUANTIZED.read_bytes())
    command = "edgefiqa quantize --compare, and its RECIPE.json into benchmarks/records"
    check_weights(record.parent_sha256, card, QUANTIZED, command)
    return f"{short_table(record)}\n\n{describe_images(record)}"


def recipes_table(card: ModelCard) -> str:
    """Return the default student's files by the recipes that are not the default."""
    records = []
    for recipe in OTHER_RECIPES:
        path = QUANTIZED.with_stem(f"{QUANTIZED.stem}_{recipe}")
        records.append(QuantizationRecord.model_validate_json(path.read_bytes()))
        command = f"edgefiqa quantize --recipe {recipe}, and its JSON into benchmarks/records"
        check_weights(records[-1].parent_sha256, card, path, command)
    return f"{short_table(*records)}\n\n{describe_images(records[0])}"


def mspt_table() -> str:
    """Return the INT8 files of an MSPT, whose weights are not part of the package."""
    static = QUANTIZED_MSPT.with_stem(f"{QUANTIZED_MSPT.stem}_static_w8a8_per_channel")
    record, other = (
        QuantizationRecord.model_validate_json(path.read_bytes())
        for path in (QUANTIZED_MSPT, static)
    )
    if other.parent_sha256 != record.parent_sha256:
        sys.exit(f"error: {static} and {QUANTIZED_MSPT} are of different weights")
    recipe = "`train/recipes/mspt_cpu.yaml` on a labelled and two pseudo-labelled sets"
    what = f"MSPT `{record.parent_sha256[:12]}`, trained by {recipe}."
    return f"{short_table(record, other)}\n\n{what} {describe_images(record)}"


def latency_table(card: ModelCard) -> str:
    """Return how long each file takes, and each INT8 file beside its float file."""
    records = LATENCIES.validate_json(LATENCY.read_bytes())
    manifest = Manifest.model_validate_json(EXPORT.read_bytes())
    check_weights(manifest.card["sha256"], card, EXPORT, "make demo bench")
    known = {own.sha256 for own in manifest.artifacts}
    for own in records:
        if own.executed.sha256 not in known:
            sys.exit(f"error: {own.executed.file} is of another export. Next: make demo bench")
    table = Table(heads=["file", "in", "p50 ms", "p90 ms", "time / float file", "sha256"], rows=[])
    for row in latency_rows(records):
        ran, times = row.record.executed, row.inference
        cells = [ran.file, ran.runtime_version, f"{times.p50_ms:.2f}", f"{times.p90_ms:.2f}"]
        table.rows.append([*cells, ratio_text(row.ratio), f"`{ran.sha256[:12]}`"])
    return f"{table.markdown()}\n\n{describe_latency(records)}"


def _noise_of(records: list[LatencyRecord]) -> list[str]:
    """Say each kind of noise once, with its least and greatest share and how many files had it."""
    kinds: dict[str, list[str]] = {}
    for own in records:
        for phrase in own.noise.split("; ") if own.noise else ():
            kinds.setdefault(re.sub(r"\d+%", "%", phrase), []).append(phrase)
    said = []
    for kind, phrases in kinds.items():
        shares = [int(share) for phrase in phrases for share in re.findall(r"(\d+)%", phrase)]
        span = f"{min(shares)}–{max(shares)}%" if shares else "%"
        said.append(f"{len(phrases)} of {len(records)} files: {kind.replace('%', span)}")
    return said


def describe_latency(records: list[LatencyRecord]) -> str:
    """Say in a paragraph how the times were measured."""
    first = records[0]
    noise = "; ".join(_noise_of(records))
    return (
        f"{first.host.processor}, {first.executed.threads} thread; {first.rules.rounds} rounds of "
        f"fresh processes, files in turns, at least {first.rules.min_count} samples of each, none "
        f"left out. Ratios are paired, with {CONFIDENCE:.0%} intervals. "
        + (f"The run was noisy ({noise})." if noise else "No noise was found.")
        + " Core ML needs macOS: no time here. An x86 processor says little about a phone."
    )


def drift_table(card: ModelCard) -> str:
    """Return each file's distance to the float model on labelled images."""
    record = DriftRecords.model_validate_json(DRIFT.read_bytes())
    reference = record.files[0].reference
    check_weights(reference.sha256, card, DRIFT, "make demo bench")
    heads = ["file", "in", "ΔSRCC", "SRCC to float", "p99 error", "bias", "sha256"]
    table = Table(heads=heads, rows=[])
    forms = {"delta_srcc": "+.4f", "srcc_reference": ".5f", "p99_error": ".1e", "bias": "+.1e"}
    for own in record.files:
        ran, figures = own.executed, own.slices["all"].figures
        cells = [with_interval(figures[name], form) for name, form in forms.items()]
        table.rows.append([ran.file, ran.runtime_version, *cells, f"`{ran.sha256[:12]}`"])
    images, part = record.files[0].images, record.files[0].slices["all"]
    return (
        f"{table.markdown()}\n\n{images.count} images: {record.images} (sha256 "
        f"`{images.sha256[:12]}`). Intervals are {record.files[0].confidence:.0%}, bootstrap over "
        f"{part.clusters} photographs."
    )


def coreml_table(card: ModelCard) -> str:
    """Return what becomes of the default student in Core ML's forms."""
    record = json.loads(COREML.read_text())
    check_weights(record["parent_sha256"], card, COREML, "scripts/mil_rows.py")
    rows = {name: MeasuredFile.model_validate(own) for name, own in record["rows"].items()}
    images, runtime = record["evaluation"], next(iter(rows.values())).runtime
    what = f"{images['images']} images of {images['name']} (sha256 `{images['sha256'][:12]}`)"
    table = bounded_table(rows, record["bounds"])
    return f"{table}\n\nDefault student `{card.sha256[:12]}`; {what}; {runtime}."


def conformance_table() -> str:
    """Return how many of coremltools' own op tests pass on the MIL evaluator."""
    record = json.loads(CONFORMANCE.read_text())
    heads = ["selection", "tests", "run", "with claimed ops", "pass", "fail", "share"]
    table = Table(heads=heads, rows=[])
    for own in record["runs"]:
        ran = -(-own["collected"] // own["every"])
        counts = [own["collected"], ran, own["claimed"], own["passed"], len(own["failed"])]
        table.rows.append([own["precision"], *map(str, counts), f"{own['rate']:.2%}"])
    tools = ", ".join(f"{name} {version}" for name, version in record["tools"].items())
    return f"{table.markdown()}\n\n`{record['command']}`, {tools}."


def accuracy_table(card: ModelCard) -> str:
    """Return the default student beside its teachers, the other models and the baselines."""
    record = json.loads(ACCURACY.read_text())
    (student,) = (own for own in record["scorers"] if own["name"] == "student")
    command = "python -m edgefiqa.benchmarks.studies.accuracy.run SET --model student=default …"
    check_weights(student["sha256"], card, ACCURACY, command)
    return accuracy_tables(record).rstrip("\n")


def ablation_tables() -> str:
    """Return what each set of pseudo-labels adds, below the document's own title."""
    title, _, rest = render(json.loads(ABLATION.read_text())).partition("\n\n")
    assert title.startswith("# ")
    return rest.rstrip("\n")


def training_speed_table() -> str:
    """Return how fast training is beside a plain torch loop, a model after the other."""
    records = json.loads(TRAINING_SPEED.read_text())
    heads = ["model", "crop, batch", "plain loop"]
    heads += [head for kind in ("float32", "bfloat16") for head in (f"ours, {kind}", "ratio")]
    table = Table(heads=heads, rows=[])
    for own in records:
        rates, ratios, plain = own["images_per_second"], own["ratio"], own["best_plain"]
        row = [
            own["settings"]["model"],
            f"{own['settings']['crop']}², {own['settings']['batch']}",
            f"{rates[plain]:.1f} ({plain.removeprefix('plain, ')})",
        ]
        for kind in ("float32", "bfloat16"):
            loops = [name for name in ratios if name.split(", ")[1] == kind]
            best = max(loops, key=lambda name: float(ratios[name]["centre"]))
            ratio, processes = ratios[best], best.count(", ") == 2
            row += [
                f"{rates[best]:.1f} ({best.split(', ')[2] if processes else '1 process'})",
                f"**{ratio['centre']:.2f}** ({ratio['low']:.2f} to {ratio['high']:.2f})",
            ]
        table.rows.append(row)
    first, rounds = records[0], min(own["settings"]["rounds"] for own in records)
    settings = first["settings"]
    packages = ", ".join(f"{name} {version}" for name, version in first["packages"].items())
    return (
        f"{table.markdown()}\n\nImages a second; random weights, photographs of "
        f"{settings['size']}², {settings['photos']} of them; {first['processor']}, "
        f"{settings['threads']} cores, with{'' if first['has_bfloat16'] else 'out'} instructions "
        "for bfloat16. The plain loop is in float32, the better of it without and with worker "
        "processes, ours the better of one process and of one a core; "
        f"loops take turns of a few steps, {rounds} rounds or more; ratios are paired "
        f"within a round, with {ratio['confidence']:.0%} intervals. {packages}."
    )


def labelling_table() -> str:
    """Return how fast pseudo-labelling is beside one image a forward pass."""
    records = json.loads(LABELLING.read_text())
    heads = ["model", "way", "largest difference", "images/s", "ratio, paired"]
    table = Table(heads=heads, rows=[])
    for own in records:
        for way in own["ways"]:
            ratios = [] if way["way"] == "single" else way["paired_ratios"]
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
            table.rows.append(
                [
                    f"{own['model']} {own['size']}² `{own['sha256'][:12]}`",
                    way["way"],
                    f"{way['max_abs_difference']:.1e}",
                    f"{way['images_per_second']:.1f}",
                    f"{statistics.median(ratios):.2f} {spread}" if ratios else "–",
                ]
            )
    first = records[0]
    return (
        f"{table.markdown()}\n\n{first['images']} photographs, {first['rounds']} rounds in turn, "
        f"{first['workers']} cores, {first['processor']}."
    )


def take_records(demo: Path, bench: Path) -> None:
    """Write the committed records from a demo and the measurements of its files."""
    run = load_run(bench)
    if run.images is None:
        sys.exit(f"error: {bench} has no drift. Next: make bench")
    write_text(EXPORT, (demo / "export" / "manifest.json").read_text(encoding="utf-8"))
    write_text(LATENCY, LATENCIES.dump_json(list(run.latency)).decode() + "\n")
    drift = DriftRecords(
        images=run.images.source,
        label=run.images.label,
        files=[own.model_copy(update={"worst": ()}) for own in run.drift],
    )
    write_text(DRIFT, drift.model_dump_json() + "\n")
    draw_astronaut(demo)


def draw_astronaut(demo: Path) -> None:
    """Draw docs/demo.png: the portrait of scikit-image alone, never a user's photographs."""
    scored = Scored.model_validate_json((demo / "pictures.json").read_bytes())
    own = [name.startswith("pictures/astronaut_") for name in scored.pictures]
    scores = scored.columns[0].scores
    with tempfile.TemporaryDirectory() as folder:
        pictures = write_pictures(Path(folder), None)
        shown = [score for score, is_own in zip(scores, own, strict=True) if is_own]
        write_sheet(pictures, shown, ROOT / "docs" / "demo.png")


def build_tables() -> dict[tuple[Path, str], str]:
    """Return the text of each marked place of both documents, from committed records."""
    card, readme, benchmarks = load_card(), ROOT / "README.md", ROOT / "benchmarks" / "README.md"
    ablation = ROOT / "docs" / "ablation.md"
    coreml, quantize = ROOT / "docs" / "coreml-on-linux.md", ROOT / "quantize" / "README.md"
    return {
        (readme, "parity"): export_table(card),
        (readme, "student"): student_table(card),
        (readme, "quantized"): quantized_table(card),
        (quantize, "recipes"): recipes_table(card),
        (quantize, "mspt"): mspt_table(),
        (readme, "latency"): latency_table(card),
        (benchmarks, "routes"): routes_table(),
        (benchmarks, "startup"): startup_line(),
        (benchmarks, "drift"): drift_table(card),
        (benchmarks, "accuracy"): accuracy_table(card),
        (ablation, "ablation"): ablation_tables(),
        (benchmarks, "training_speed"): training_speed_table(),
        (benchmarks, "labelling"): labelling_table(),
        (coreml, "rows"): coreml_table(card),
        (coreml, "conformance"): conformance_table(),
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        take_records(*map(Path, sys.argv[1:3]))
    for (document, mark), table in build_tables().items():
        replace_between(document, mark, table)
