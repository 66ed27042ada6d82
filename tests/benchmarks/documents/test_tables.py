"""The committed records and the tables of the documents that are made from them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from edgefiqa.benchmarks.arm.records import ArmRecord
from edgefiqa.benchmarks.documents.sources import RECORDS, ROOT, DriftRecords, Sources, check_files
from edgefiqa.benchmarks.documents.write import TABLES, replace_between, write_documents
from edgefiqa.benchmarks.studies.accuracy.records import AccuracyRecord
from edgefiqa.benchmarks.studies.mil.records import ConformanceRecord, CoremlRowsRecord
from edgefiqa.benchmarks.studies.records import (
    LabellingRecord,
    LatencyRepeatsRecord,
    RoutesRecord,
    StartupRecord,
    TeacherRuntimesRecord,
    TrainingSpeedRecord,
)
from edgefiqa.errors import DataError
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.records import LatencyRecord
from edgefiqa.models import ModelCard
from edgefiqa.quantize import QuantizationRecord

KINDS: dict[str, Any] = {
    "accuracy_default_student": AccuracyRecord,
    "arm_numerics_default_student": ArmRecord,
    "coreml_default_student": CoremlRowsRecord,
    "drift_default_student": DriftRecords,
    "export_default_student": Manifest,
    "labelling": list[LabellingRecord],
    "latency_default_student": list[LatencyRecord],
    "latency_repeats": LatencyRepeatsRecord,
    "mil_conformance": ConformanceRecord,
    "startup": StartupRecord,
    "teacher_runtimes": TeacherRuntimesRecord,
    "tflite_routes_student_288_1_thread": RoutesRecord,
    "training_speed": list[TrainingSpeedRecord],
}
RECORD_OF = {
    "arm": "arm_numerics_default_student",
    "routes": "tflite_routes_student_288_1_thread",
    "startup": "startup",
}
"""Tables whose record may be missing: then they say so and show no figure."""

WITHOUT_WEIGHTS = {"conformance", "training_speed"}
"""Tables of operators, and of networks with random weights."""

OF_OTHER_WEIGHTS = {"mspt", "labelling", "ablation"}
TABLE = pytest.mark.parametrize(("document", "mark"), TABLES, ids=[mark for _, mark in TABLES])


def kind_of(name: str) -> Any:
    return QuantizationRecord if name.startswith("quantization_") else KINDS[name]


# What distillation writes is read by the tests of distillation.
@pytest.mark.parametrize(
    "name", sorted(path.stem for path in RECORDS.glob("*.json") if path.stem != "ablation")
)
def test_each_committed_record_is_of_its_type(name: str) -> None:
    adapter, text = TypeAdapter(kind_of(name)), (RECORDS / f"{name}.json").read_text()
    record = adapter.validate_json(text)
    # Nothing is dropped and nothing renamed on the way through the type.
    written = adapter.dump_json(record, exclude_unset=True, by_alias=True)
    assert json.loads(written) == json.loads(text)


def test_each_place_has_its_table() -> None:
    assert {mark for _, mark in TABLES} == {
        *("parity", "student", "quantized", "latency", "routes", "startup", "drift"),
        *("rows", "conformance", "mspt", "recipes", "training_speed", "labelling"),
        *("accuracy", "ablation", "arm"),
    }
    for document, mark in TABLES:
        content = (ROOT / document).read_text()
        assert content.count(f"<!-- {mark}:begin ") == content.count(f"<!-- {mark}:end -->") == 1
        assert f"<!-- {mark}:begin (make readme writes this from " in content


@TABLE
def test_the_table_is_that_of_its_record(document: str, mark: str) -> None:
    """Fails where the record is of other weights; the message names the command that measures."""
    sources = Sources()
    text = TABLES[document, mark](sources)
    content = (ROOT / document).read_text()
    written = content.split(f"<!-- {mark}:begin")[1].split(f"<!-- {mark}:end")[0]
    assert written.partition("-->\n")[2] == f"{text}\n", f"{mark}: make readme"
    weights = {
        "mspt": sources.load("quantization_mspt", QuantizationRecord).parent_sha256,
        "labelling": ModelCard.load(ROOT / "distill/weights/teacher-plus/card.json").sha256,
        "ablation": json.loads(sources.path("ablation").read_text())["students"][0]["sha256"],
    }
    if mark not in WITHOUT_WEIGHTS:
        assert f"`{weights.get(mark, sources.card.sha256)[:12]}`" in text


@pytest.mark.parametrize(
    ("document", "mark"),
    [
        pytest.param(document, mark, id=mark)
        for document, mark in TABLES
        if mark not in WITHOUT_WEIGHTS | OF_OTHER_WEIGHTS | {"student"}
    ],
)
def test_figures_of_other_weights_are_refused(document: str, mark: str) -> None:
    card = Sources().card.model_copy(update={"sha256": "0" * 64})
    if mark in RECORD_OF and not Sources().path(RECORD_OF[mark]).exists():
        text = TABLES[document, mark](Sources(card=card))
        assert "`000000000000`: not measured yet. Next: `" in text
        assert not any(digit in text.partition("Next")[0] for digit in "123456789")
        return
    with pytest.raises(DataError, match=r"a committed record is of .* Next: (make|edgefiqa) "):
        TABLES[document, mark](Sources(card=card))


def test_files_of_the_export_or_of_its_weights_are_accepted() -> None:
    sources = Sources()
    known = [artifact.sha256 for artifact in sources.export().artifacts]
    where = (sources, Path("record.json"), "make bench")
    check_files(known, None, *where)
    check_files(["1" * 64], sources.card.sha256, *where)
    with pytest.raises(DataError, match="of the file 111111111111, not of the weights"):
        check_files([*known, "1" * 64], None, *where)
    with pytest.raises(DataError, match="of the weights 222222222222"):
        check_files(known, "2" * 64, *where)


def _measured(document: Path) -> list[str]:
    """Return a document's lines, but those that say that there is no record."""
    return [line for line in document.read_text().splitlines() if "not measured yet" not in line]


def test_a_stale_record_leaves_its_place_and_the_others_are_written(tmp_path: Path) -> None:
    for document in {document for document, _ in TABLES}:
        copy = tmp_path / document
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((ROOT / document).read_text())
    card = Sources().card
    metrics = [{**entry, "srcc": 0.123} for entry in card.metrics]
    sources = replace(Sources(), card=card.model_copy(update={"metrics": metrics, "sha256": "0"}))
    faults = write_documents(tmp_path, sources)
    missing = [name for name in RECORD_OF.values() if not sources.path(name).exists()]
    refused = len(TABLES) - len(WITHOUT_WEIGHTS | OF_OTHER_WEIGHTS | {"student"}) - len(missing)
    assert len(faults) == refused
    assert any("edgefiqa study mil-rows" in str(fault) for fault in faults)
    assert "| 0.123 |" in (tmp_path / "README.md").read_text()
    for document in ("benchmarks/README.md", "docs/coreml-on-linux.md"):
        assert _measured(tmp_path / document) == _measured(ROOT / document)


def test_a_place_must_be_there_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such document"):
        replace_between(tmp_path / "gone.md", "x", "text")
    document = tmp_path / "a.md"
    document.write_text("<!-- x:begin -->\nold\n<!-- x:end -->\n")
    replace_between(document, "x", "new")
    assert document.read_text() == "<!-- x:begin -->\nnew\n<!-- x:end -->\n"
    with pytest.raises(DataError, match="0 places marked y"):
        replace_between(document, "y", "new")
