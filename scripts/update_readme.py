"""Write the tables in README.md and benchmarks/README.md from records: ``make readme``."""

import json
import re
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from edgefiqa.manifest import Manifest
from edgefiqa.quantize.report import QuantizationRecord, describe_images, short_table
from edgefiqa.tables import parity_table

ROOT = Path(__file__).parent.parent
ROUTES = ROOT / "benchmarks" / "records" / "tflite_routes_student_288_1_thread.json"
STARTUP = ROOT / "benchmarks" / "records" / "startup.json"
QUANTIZED = ROOT / "benchmarks" / "records" / "quantization_default_student.json"


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


def student_table(card: dict[str, Any]) -> str:
    """Return the default student's figures, from its card."""
    rows = ["| data | images | SRCC | PLCC |", "|---|---|---|---|"]
    rows += [
        f"| {entry['data']} | {entry['n']} | {entry['srcc']:.3f} | {entry['plcc']:.3f} |"
        for entry in card["metrics"]
    ]
    return "\n".join(rows)


def quantized_table() -> str:
    """Return the INT8 files of the default student beside the vendors' plain paths."""
    record = QuantizationRecord.model_validate_json(QUANTIZED.read_bytes())
    return f"{short_table(record)}\n\n{describe_images(record)}"


def main(demo: Path) -> None:
    """Rewrite the tables and docs/demo.png."""
    manifest = Manifest.load(demo / "export")
    card = manifest.card
    photos = next(parity.photos for a in manifest.artifacts for parity in a.parity)
    what = f"Default student `{card['sha256'][:12]}`, {manifest.contract['size']} px"
    parity = f"{parity_table(manifest)}\n\n{what}; images: {photos}."
    replace_between(ROOT / "README.md", "parity", parity)
    replace_between(ROOT / "README.md", "student", student_table(card))
    replace_between(ROOT / "README.md", "quantized", quantized_table())
    replace_between(ROOT / "benchmarks" / "README.md", "routes", routes_table())
    replace_between(ROOT / "benchmarks" / "README.md", "startup", startup_line())
    shutil.copy(demo / "scores.png", ROOT / "docs" / "demo.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
