"""Which table stands where, and writing all of them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from edgefiqa.benchmarks.documents.coreml import conformance_table, coreml_table
from edgefiqa.benchmarks.documents.devices import arm_numerics_table, routes_table, startup_line
from edgefiqa.benchmarks.documents.exported import (
    drift_table,
    export_table,
    latency_table,
    student_table,
)
from edgefiqa.benchmarks.documents.int8 import mspt_table, quantized_table, recipes_table
from edgefiqa.benchmarks.documents.models import ablation_tables, accuracy_table
from edgefiqa.benchmarks.documents.sources import ROOT, Sources
from edgefiqa.benchmarks.documents.speed import labelling_table, training_speed_table
from edgefiqa.errors import DataError

__all__ = ["TABLES", "replace_between", "write_documents"]

_README, _BENCHMARKS, _COREML = "README.md", "benchmarks/README.md", "docs/coreml-on-linux.md"
_QUANTIZE, _ABLATION = "quantize/README.md", "docs/ablation.md"

TABLES: Mapping[tuple[str, str], Callable[[Sources], str]] = {
    (_README, "parity"): export_table,
    (_README, "student"): student_table,
    (_README, "quantized"): quantized_table,
    (_README, "latency"): latency_table,
    (_QUANTIZE, "recipes"): recipes_table,
    (_QUANTIZE, "mspt"): mspt_table,
    (_BENCHMARKS, "routes"): routes_table,
    (_BENCHMARKS, "startup"): startup_line,
    (_BENCHMARKS, "arm"): arm_numerics_table,
    (_BENCHMARKS, "drift"): drift_table,
    (_BENCHMARKS, "accuracy"): accuracy_table,
    (_BENCHMARKS, "training_speed"): training_speed_table,
    (_BENCHMARKS, "labelling"): labelling_table,
    (_ABLATION, "ablation"): ablation_tables,
    (_COREML, "rows"): coreml_table,
    (_COREML, "conformance"): conformance_table,
}
"""Document in the checkout and mark in it → what makes its text."""


def write_documents(root: Path = ROOT, sources: Sources | None = None) -> list[DataError]:
    """Write every table into its document.

    Args:
        root: The checkout.
        sources: What the tables are made from; the committed records if None.

    Returns:
        Why tables were left as they are: their records are of other weights.

    Raises:
        DataError: A document is missing, or does not have a mark exactly once.
    """
    sources, faults = sources or Sources(), list[DataError]()
    for (document, mark), build in TABLES.items():
        try:
            text = build(sources)
        except DataError as fault:
            faults.append(fault)
            continue
        replace_between(root / document, mark, text)
    return faults


def replace_between(document: Path, mark: str, text: str) -> None:
    """Replace what stands between ``<!-- mark:begin … -->`` and ``<!-- mark:end -->``.

    Raises:
        DataError: The document is missing, or does not have the mark exactly once.
    """
    if not document.is_file():
        next_step = "run it in a checkout that is installed with pip install -e"
        raise DataError("there is no such document", value=document, next_step=next_step)
    marked = re.compile(rf"(<!-- {mark}:begin[^>]*-->\n).*?(<!-- {mark}:end -->)", re.DOTALL)
    content, count = marked.subn(
        lambda found: f"{found[1]}{text}\n{found[2]}", document.read_text(encoding="utf-8")
    )
    if count != 1:
        what = f"the document has {count} places marked {mark}"
        raise DataError(what, value=document, allowed="exactly one")
    document.write_text(content, encoding="utf-8")
