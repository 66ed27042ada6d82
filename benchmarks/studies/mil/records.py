"""The records of the studies of the MIL reference evaluator."""

from typing import Literal

from pydantic import FiniteFloat

from edgefiqa.measuring.records import Record, Sha256
from edgefiqa.quantize import MeasuredFile

__all__ = [
    "AgreementRecord",
    "ConformanceRecord",
    "ConformanceRun",
    "CoremlRowsRecord",
    "EvaluationImages",
    "PackageAgreement",
]


class PackageAgreement(Record):
    """One package in the evaluator, beside the network in torch.

    Attributes:
        file: Name of the package.
        sha256: SHA-256 of the package that was executed.
        max_abs_error: Largest |score − torch's|.
        mean_abs_error: Mean of the same.
        median_ms: Median processor time of a score.
    """

    file: str
    sha256: Sha256
    max_abs_error: FiniteFloat
    mean_abs_error: FiniteFloat
    median_ms: FiniteFloat


class AgreementRecord(Record):
    """The evaluator beside torch on photographs.

    Attributes:
        parent_sha256: SHA-256 of the network's weights.
        runtime: The evaluator.
        images: Photographs.
        lowest: Lowest of torch's scores.
        highest: Highest of them.
        deviation: Standard deviation of them.
        torch_ms: Median processor time of a score in torch.
        peak_bytes: Peak memory of the whole comparison.
        packages: The packages.
    """

    measurement: Literal["mil_agreement"] = "mil_agreement"
    schema_version: Literal[1] = 1
    parent_sha256: Sha256
    runtime: str
    images: int
    lowest: FiniteFloat
    highest: FiniteFloat
    deviation: FiniteFloat
    torch_ms: FiniteFloat
    peak_bytes: int
    packages: tuple[PackageAgreement, ...]


class ConformanceRun(Record):
    """coremltools' op tests of one precision.

    Attributes:
        precision: "fp16" or "fp32".
        collected: Tests of this precision.
        every: Every so manieth of them was run.
        claimed: Tests that count: they predict, with ops that the evaluator claims.
        passed: Those of them that passed.
        rate: Their share.
        failed: Test → why it failed.
        failed_of_float16: Failed tests whose parameters are float16 all the same.
        not_claimed: Op → tests that need it.
        no_prediction: Reason → tests that make no prediction.
        skipped: Tests that skipped themselves.
    """

    precision: str
    collected: int
    every: int
    claimed: int
    passed: int
    rate: FiniteFloat
    failed: dict[str, str]
    failed_of_float16: int
    not_claimed: dict[str, int]
    no_prediction: dict[str, int]
    skipped: int


class ConformanceRecord(Record):
    """How many of coremltools' op tests pass on the evaluator.

    Attributes:
        command: What was called.
        tools: Package → version.
        runs: One a precision.
    """

    measurement: Literal["mil_conformance"] = "mil_conformance"
    schema_version: Literal[1] = 1
    command: str
    tools: dict[str, str]
    runs: tuple[ConformanceRun, ...]


class EvaluationImages(Record):
    """Which images the rows were measured on."""

    name: str
    sha256: Sha256
    images: int


class CoremlRowsRecord(Record):
    """The Core ML files of one export, measured alike.

    Attributes:
        command: What was called.
        model: Name of the weights.
        parent_sha256: SHA-256 of the weights.
        format: A value of ``edgefiqa.runtimes.Format``.
        evaluation: The images.
        tools: Package → version.
        bounds: Row → largest |ΔSRCC| that it may have; None only reports it.
        rows: Row → what was measured.
    """

    measurement: Literal["coreml_rows"] = "coreml_rows"
    schema_version: Literal[1] = 1
    command: str
    model: str
    parent_sha256: Sha256
    format: str
    evaluation: EvaluationImages
    tools: dict[str, str]
    bounds: dict[str, FiniteFloat | None]
    rows: dict[str, MeasuredFile]
