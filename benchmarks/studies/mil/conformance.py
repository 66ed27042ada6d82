"""coremltools' op tests, run against the MIL evaluator: ``edgefiqa study mil-conformance``.

The tests come with coremltools. Off macOS they only convert, because nothing can predict; here
``MLModel.predict`` is the evaluator, so that they also compare numbers, with their tolerances:
wide for float16, ``atol=1e-4, rtol=1e-5`` for float32. A test counts if it reaches a prediction and
its program holds only ops the evaluator claims; the others are listed by the op they would need.
The fp32 selection holds tests whose parameters are float16 all the same: those that fail are told
apart, because their tolerances are finer than float16's steps.
"""

import contextlib
import gc
import io
import os
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from edgefiqa.benchmarks.studies.mil.choices import OpTestPrecision
from edgefiqa.benchmarks.studies.mil.records import ConformanceRecord, ConformanceRun
from edgefiqa.convert import versions
from edgefiqa.errors import ArtifactError, EdgeFiqaError
from edgefiqa.isolation import call_isolated
from edgefiqa.runtimes.imports import import_coremltools
from edgefiqa.runtimes.mil import MilModel, UnsupportedOp

__all__ = ["REQUIRED", "measure_conformance"]

REQUIRED = 0.95
"""Share of the counted tests that must pass."""

# At import, because pytest takes standard error away while tests run, and so does the process.
PROGRESS = os.fdopen(os.dup(2), "w", buffering=1)


@dataclass
class Outcomes:
    """What became of the tests; also the pytest plugin that finds it out."""

    precision: str
    sample: int = 1
    collected: int = 0
    passed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    unclaimed: Counter[str] = field(default_factory=Counter)
    unreached: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    predictions: int = 0
    done: int = 0
    missing: set[str] = field(default_factory=set)

    @pytest.hookimpl(trylast=True)  # after -k
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[Any]) -> None:
        """Keep the tests of one precision; those that name none are float16's."""
        kept = [item for item in items if _precision(item) == self.precision]
        self.collected = len(kept)
        kept = kept[:: self.sample]
        PROGRESS.write(f"{self.precision}: {len(kept)} tests\n")
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
        # Each conversion collects garbage; two thirds of the time went to what lives all along.
        gc.collect()
        gc.freeze()

    def pytest_runtest_setup(self) -> None:
        """Start counting anew."""
        self.predictions, self.missing = 0, set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Sort a finished test into its class."""
        if report.when == "call" and not report.skipped:
            self._sort(report)
        elif report.skipped:
            self.skipped += 1

    def _sort(self, report: pytest.TestReport) -> None:
        self.done += 1
        if self.done % 100 == 0:
            found = f"{self.passed} passed, {len(self.failed)} failed"
            PROGRESS.write(f"{self.precision}: {self.done} tests run, {found}\n")
        if self.missing:
            self.unclaimed.update(self.missing)
        elif not self.predictions:
            self.unreached[_reason(report) if report.failed else "compares no numbers"] += 1
        elif report.passed:
            self.passed += 1
        else:
            name, reason = _name(report.nodeid), _reason(report)
            self.failed[name] = reason
            PROGRESS.write(f"{self.precision}: failed {name}: {reason}\n")

    @property
    def rate(self) -> float:
        """Share of the counted tests that passed."""
        return self.passed / max(self.passed + len(self.failed), 1)

    def is_of_float16(self, test: str) -> bool:
        """Tell whether a test of float32 has float16 parameters."""
        return self.precision == "fp32" and "numpy.float16" in test

    def record(self) -> ConformanceRun:
        """Return it as a record."""
        return ConformanceRun(
            precision=self.precision,
            collected=self.collected,
            every=self.sample,
            claimed=self.passed + len(self.failed),
            passed=self.passed,
            rate=self.rate,
            failed=self.failed,
            failed_of_float16=sum(map(self.is_of_float16, self.failed)),
            not_claimed=dict(self.unclaimed),
            no_prediction=dict(self.unreached),
            skipped=self.skipped,
        )


def _name(nodeid: str) -> str:
    """Shorten a test's name to its opset's folder, file, function and parameters."""
    path, _, test = nodeid.partition("::")
    return f"{'/'.join(Path(path).parts[-2:])}::{test}"


def _precision(item: Any) -> str:
    backend = getattr(getattr(item, "callspec", None), "params", {}).get("backend")
    if isinstance(backend, tuple):  # ("mlprogram", "fp16"), or coremltools' BackendConfig
        return str(backend[1])
    return str(getattr(backend, "precision", "fp16"))


def _reason(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if "rror" in line or "ismatch" in line or "ax abs" in line]
    return "; ".join((kept or lines)[:4])[:300]


def _patch(outcomes: Outcomes) -> Any:
    """Make coremltools' tests believe in a Mac whose predictions come from the evaluator."""
    ct = import_coremltools()
    from coremltools.converters.mil import testing_utils

    def predict(model: Any, data: dict[str, Any], state: object = None) -> dict[str, Any]:
        try:
            if state is not None:
                raise UnsupportedOp("read_state")
            evaluator = MilModel.load(model.package_path)
        except UnsupportedOp as error:
            outcomes.missing.add(error.op_type)
            raise
        outcomes.predictions += 1
        try:
            return evaluator.predict(data)
        except UnsupportedOp:
            raise
        except ArtifactError as error:  # as Core ML puts it
            msg = f"Unable to compute the prediction using ML Program: {error}"
            raise RuntimeError(msg) from error

    def make_state(model: Any) -> object:
        outcomes.missing.add("read_state")
        raise UnsupportedOp("read_state")

    testing_utils._IS_MACOS = True
    ct.models.utils._macos_version = lambda: (15, 4)
    ct.models.MLModel.predict = predict
    ct.models.MLModel.make_state = make_state
    return ct


def _run_tests(outcomes: Outcomes, select: str) -> Outcomes:
    """Run the tests of one precision in this process."""
    torch.set_num_threads(1)
    ct = _patch(outcomes)
    tests = Path(ct.__file__).parent / "converters/mil/mil/ops/tests"
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        code = pytest.main(
            [
                *(str(folder) for folder in sorted(tests.glob("iOS*"))),
                *("-q", "--tb=native", "-c", os.devnull),
                *(f"--rootdir={tests}", "-p", "no:cacheprovider", "-p", "no:anyio"),
                *("-W", "ignore", "-k", select or "not nothing"),
            ],
            plugins=[outcomes],
        )
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise EdgeFiqaError(f"pytest ended with {code!r}", value=log.getvalue()[-2000:])
    return outcomes


def measure_conformance(
    precision: OpTestPrecision = OpTestPrecision.BOTH, *, select: str = "", sample: int = 1
) -> ConformanceRecord:
    """Run the tests, each precision in a separate process.

    Args:
        precision: Precision of the tests.
        select: A ``pytest -k`` expression; empty selects all.
        sample: Only every so manieth test is run.

    Raises:
        EdgeFiqaError: If pytest itself fails.
    """
    # Read by coremltools' tests when they are imported.
    os.environ["PYMIL_TEST_TARGETS"] = "mlprogram"
    os.environ["INCLUDE_MIL_FP32_UNIT_TESTS"] = "1"
    # A process each: the second collection in one process finds almost no test.
    found = [
        call_isolated(None, _run_tests, Outcomes(single, sample), select)
        for single in precision.single
    ]
    return ConformanceRecord(
        command=_command(precision, select, sample),
        tools=versions("coremltools", "torch", "numpy"),
        runs=tuple(outcomes.record() for outcomes in found),
    )


def _command(precision: OpTestPrecision, select: str, sample: int) -> str:
    parts = ["edgefiqa study mil-conformance"]
    if precision is not OpTestPrecision.BOTH:
        parts.append(f"--precision {precision}")
    if select:
        parts.append(f"--select {shlex.quote(select)}")
    if sample > 1:
        parts.append(f"--sample {sample}")
    return " ".join(parts)
