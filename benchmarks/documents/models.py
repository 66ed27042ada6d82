"""Trained models beside each other: accuracy beside baselines, and what pseudo-labels add."""

import json

from edgefiqa.benchmarks.documents.sources import Sources, check_weights, committed
from edgefiqa.benchmarks.studies.accuracy.records import AccuracyRecord
from edgefiqa.benchmarks.studies.accuracy.table import accuracy_tables
from edgefiqa.distill import ablation_markdown

__all__ = ["ablation_tables", "accuracy_table"]

_ACCURACY = "accuracy_default_student"
_STUDENT = "student"


def accuracy_table(sources: Sources) -> str:
    """Return the default student beside its teachers, the other models and the baselines."""
    record, path = sources.load(_ACCURACY, AccuracyRecord), sources.path(_ACCURACY)
    (student,) = (scorer for scorer in record.scorers if scorer.name == _STUDENT)
    command = (
        f"edgefiqa study accuracy SET --model {_STUDENT}=default … --out {committed(_ACCURACY)}"
    )
    check_weights(student.sha256 or "", sources.card, path, command)
    return accuracy_tables(record).rstrip("\n")


def ablation_tables(sources: Sources) -> str:
    """Return what each set of pseudo-labels adds, below the document's title."""
    record = json.loads(sources.path("ablation").read_text(encoding="utf-8"))
    title, _, rest = ablation_markdown(record).partition("\n\n")
    assert title.startswith("# ")
    return rest.rstrip("\n")
