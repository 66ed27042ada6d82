"""What a measurement is: the typed, versioned records of one run.

::

    images.json      ImagesRecord     which images, their labels, and what slices are made of
    scores/*.json    ScoreRecord      one file in one runtime: a score for each image
    failures/*.json  FailureRecord    one file in one runtime that gave no scores, and why
    drift/*.json     DriftRecord      one file against the float reference, with intervals
    latency/*.json   LatencyRecord    one file on one device: every sample, in order
    waterfall/*.json WaterfallRecord  a score change, stage by stage
    layers/*.json    LayersRecord     one file's intermediate results against the float ones

Everything measured names the sha256 of the file that was executed; without it a record of a metric
cannot be constructed. Unknown keys, other schema versions and numbers that are not finite are
refused, in memory and on disk. `edgefiqa.benchmarks.run_directory` reads and writes them.
"""

from typing import TypeAlias

from edgefiqa.measuring.records.base import (
    Executed,
    FileInRuntime,
    FileName,
    HostState,
    Record,
    SchemaVersion,
    Sha256,
    Twin,
)
from edgefiqa.measuring.records.drift import (
    DriftRecord,
    Figure,
    SliceFigures,
    WorstImage,
)
from edgefiqa.measuring.records.latency import (
    LatencyPhase,
    LatencyRecord,
    RecordedRules,
)
from edgefiqa.measuring.records.scores import (
    Attempt,
    FailureRecord,
    ImageFacts,
    ImageScore,
    ImagesIdentity,
    ImagesRecord,
    ScoreRecord,
)
from edgefiqa.measuring.records.stages import (
    LayerNumerics,
    LayersRecord,
    WaterfallRecord,
    WaterfallStep,
)

__all__ = [
    "AnyRecord",
    "Attempt",
    "DriftRecord",
    "Executed",
    "FailureRecord",
    "Figure",
    "FileInRuntime",
    "FileName",
    "HostState",
    "ImageFacts",
    "ImageScore",
    "ImagesIdentity",
    "ImagesRecord",
    "LatencyPhase",
    "LatencyRecord",
    "LayerNumerics",
    "LayersRecord",
    "Record",
    "RecordedRules",
    "SchemaVersion",
    "ScoreRecord",
    "Sha256",
    "SliceFigures",
    "Twin",
    "WaterfallRecord",
    "WaterfallStep",
    "WorstImage",
]

AnyRecord: TypeAlias = (
    ImagesRecord
    | ScoreRecord
    | FailureRecord
    | DriftRecord
    | LatencyRecord
    | WaterfallRecord
    | LayersRecord
)
