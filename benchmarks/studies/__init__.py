"""Measurements made once, for a document or a decision: one module a study.

The names below are what `edgefiqa study` may use, see ``edgefiqa.lazy``.
"""

from typing import TYPE_CHECKING

from edgefiqa import lazy

if TYPE_CHECKING:
    from edgefiqa.benchmarks.arm.emulator import EmulatorRoot
    from edgefiqa.benchmarks.arm.processor import Processor
    from edgefiqa.benchmarks.arm.run import check_export
    from edgefiqa.benchmarks.arm.run import write_record as write_arm_record
    from edgefiqa.benchmarks.arm.table import arm_table
    from edgefiqa.benchmarks.documents.exported import DRIFT, LATENCY
    from edgefiqa.benchmarks.documents.sources import LATENCIES, ROOT, DriftRecords, Sources
    from edgefiqa.benchmarks.documents.write import write_documents
    from edgefiqa.benchmarks.studies.accuracy.baselines import BASELINES
    from edgefiqa.benchmarks.studies.accuracy.run import Protocol, write_comparison
    from edgefiqa.benchmarks.studies.accuracy.run import compare as compare_scorers
    from edgefiqa.benchmarks.studies.accuracy.table import accuracy_tables
    from edgefiqa.benchmarks.studies.labelling import measure_labelling
    from edgefiqa.benchmarks.studies.latency_repeats import is_enough, measure_repeats, repeat_line
    from edgefiqa.benchmarks.studies.mil.agreement import measure_mil_agreement
    from edgefiqa.benchmarks.studies.mil.choices import ROWS as COREML_ROWS
    from edgefiqa.benchmarks.studies.mil.choices import OpTestPrecision
    from edgefiqa.benchmarks.studies.mil.conformance import REQUIRED as REQUIRED_PASS_RATE
    from edgefiqa.benchmarks.studies.mil.conformance import measure_conformance
    from edgefiqa.benchmarks.studies.mil.records import AgreementRecord, ConformanceRun
    from edgefiqa.benchmarks.studies.mil.rows import RowOptions, broken_rows, measure_rows
    from edgefiqa.benchmarks.studies.records import (
        LabellingRecord,
        Repeat,
        RoutesRecord,
        TrainingSettings,
        TrainingSpeedRecord,
    )
    from edgefiqa.benchmarks.studies.startup import measure_startup
    from edgefiqa.benchmarks.studies.teacher_runtimes import measure_teacher_runtimes
    from edgefiqa.benchmarks.studies.tflite_routes import measure_routes
    from edgefiqa.benchmarks.studies.training_speed import measure_training_speed

__all__ = [
    "BASELINES",
    "COREML_ROWS",
    "DRIFT",
    "LATENCIES",
    "LATENCY",
    "REQUIRED_PASS_RATE",
    "ROOT",
    "AgreementRecord",
    "ConformanceRun",
    "DriftRecords",
    "EmulatorRoot",
    "LabellingRecord",
    "OpTestPrecision",
    "Processor",
    "Protocol",
    "Repeat",
    "RoutesRecord",
    "RowOptions",
    "Sources",
    "TrainingSettings",
    "TrainingSpeedRecord",
    "accuracy_tables",
    "arm_table",
    "broken_rows",
    "check_export",
    "compare_scorers",
    "is_enough",
    "measure_conformance",
    "measure_labelling",
    "measure_mil_agreement",
    "measure_repeats",
    "measure_routes",
    "measure_rows",
    "measure_startup",
    "measure_teacher_runtimes",
    "measure_training_speed",
    "repeat_line",
    "write_arm_record",
    "write_comparison",
    "write_documents",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept any name
    __getattr__ = lazy.attach(__name__)
