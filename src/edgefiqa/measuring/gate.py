"""Gates: a policy of rules over the records of a run, for people and for CI.

A rule names a metric, the files it holds for, a slice or a stage, and a bound. What is missing (no
such file, no such figure, a crash, a file that says one thing and is another) fails: a gate that
cannot see is shut.
"""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgefiqa.files import sha256_of, write_text
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.policy import LATENCY_METRICS, Judged, Policy, Rule
from edgefiqa.measuring.records import (
    DriftRecord,
    FailureRecord,
    Figure,
    LatencyPhase,
    LatencyRecord,
    ScoreRecord,
    WaterfallRecord,
)
from edgefiqa.measuring.run_directory import Run

__all__ = ["Verdict", "check_gate", "check_hashes", "judge", "verdict_line", "write_junit"]

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one rule for one file.

    Attributes:
        rule: The requirement.
        subject: The file and its runtime; ``-`` where no file fits.
        passed: Whether it holds.
        value: The number that was compared; None where there is none.
        detail: The interval, or why it failed.
    """

    rule: str
    subject: str
    passed: bool
    value: float | None
    detail: str


def check_gate(run: Run, policy: Policy) -> list[Verdict]:
    """Apply a policy to the records of a run.

    Args:
        run: The records.
        policy: The rules.

    Returns:
        One verdict a rule and file, in the policy's order; a rule that fits no file fails.
    """
    return [verdict for rule in policy.rules for verdict in _apply(rule, run)]


def _apply(rule: Rule, run: Run) -> Iterator[Verdict]:
    if rule.stage is not None:
        yield from _apply_to_stage(rule, run)
        return
    measured: Sequence[DriftRecord | LatencyRecord]
    measured = run.latency if rule.metric in LATENCY_METRICS else run.drift
    fitting = [
        candidate
        for candidate in measured
        if rule.fits(candidate.executed.names, candidate.executed.runtime)
    ]
    failures = [failed for failed in run.failures if rule.fits(failed.names, failed.runtime)]
    for record in fitting:
        yield _judge(rule, record, run)
    for failure in failures:
        yield _fail(rule, failure.cell, f"not measured: {failure.error}")
    if not fitting and not failures:
        patterns = f"file {rule.file}, precision {' or '.join(rule.precision)}"
        yield _fail(rule, "-", f"missing: no record fits {patterns}, runtime {rule.runtime}")


def _apply_to_stage(rule: Rule, run: Run) -> Iterator[Verdict]:
    """Judge one stage of each waterfall that ends with a file that is meant."""
    ends = [(chain, chain.total.after) for chain in run.waterfalls]
    fitting = [chain for chain, end in ends if rule.fits(end.names, end.runtime)]
    for waterfall in fitting:
        yield _judge_stage(rule, waterfall, run)
    if not fitting:
        next_step = "`edgefiqa waterfall` writes them"
        yield _fail(rule, "-", f"missing: no waterfall ends with such a file; {next_step}")


def _judge_stage(rule: Rule, waterfall: WaterfallRecord, run: Run) -> Verdict:
    subject = waterfall.total.after.cell
    scored = {score.executed.cell: score.executed.sha256 for score in run.scores}
    # Links of other runs (another decoder, another device) are not in this one.
    stale = [
        change.after.cell
        for change in waterfall.steps
        if scored.get(change.after.cell, change.after.sha256) != change.after.sha256
    ]
    if stale:
        return _fail(rule, subject, f"stale: the scores in this run are of other bytes: {stale[0]}")
    step = next((change for change in waterfall.steps if change.stage == rule.stage), None)
    if step is None:
        return _fail(rule, subject, f"missing: the waterfall does not measure {rule.stage}")
    reason = "a stage has no interval"
    figures = {
        "mean_error": Figure(value=step.mean_error, reason=reason),
        "p99_error": Figure(value=step.p99_error, reason=reason),
        "bias": Figure(value=step.bias, reason=reason),
        "srcc_reference": step.srcc,
        "delta_srcc": step.delta_srcc,
    }
    figure = figures[rule.metric]
    if figure.value is None:
        return _fail(rule, subject, f"missing: {figure.reason}")
    return judge(rule, subject, figure)


def _fail(rule: Rule, subject: str, detail: str) -> Verdict:
    return Verdict(
        rule=rule.text, subject=subject, passed=False, value=None, detail=" ".join(detail.split())
    )


def _judge(rule: Rule, record: DriftRecord | LatencyRecord, run: Run) -> Verdict:
    subject = record.executed.cell
    precisions = {precision for _, precision in record.executed.names}
    if len(precisions) > 1:
        same = ", ".join(f"{file} ({precision})" for file, precision in record.executed.names)
        return _fail(rule, subject, f"files of different precision hold the same bytes: {same}")
    scored = {score.executed.cell: score.executed.sha256 for score in run.scores}
    # A run of latency alone has no scores; a drift without its scores cannot be.
    is_known = subject in scored or isinstance(record, DriftRecord)
    if is_known and scored.get(subject) != record.executed.sha256:
        return _fail(rule, subject, "stale: the scores in this run are of other bytes")
    figure = _figure(rule, record)
    if isinstance(figure, str):
        return _fail(rule, subject, f"missing: {figure}")
    return judge(rule, subject, figure)


def _figure(rule: Rule, record: DriftRecord | LatencyRecord) -> Figure | str:
    """Return the figure a rule asks for, or why there is none."""
    counted = "a count has no interval"
    if rule.metric == "size_bytes":
        return Figure(value=record.executed.size_bytes, reason=counted)
    if isinstance(record, LatencyRecord):
        return _latency(rule.metric, record)
    if rule.metric == "failed_images":
        return Figure(value=record.failed, reason=counted)
    part = record.slices.get(rule.slice)
    if part is None:
        return f"no image is in the slice {rule.slice}"
    figure = part.figures.get(rule.metric)
    if figure is None or figure.value is None:
        return (figure.reason if figure else None) or "the record does not hold this figure"
    return figure


def _latency(metric: str, record: LatencyRecord) -> Figure | str:
    phase, _, quantile = metric.removeprefix("latency_").removesuffix("_ms").rpartition("_p")
    samples = record.samples_ms.get(LatencyPhase(phase), ())
    if not samples:
        return f"no samples of {phase}"
    if record.inferences and phase == LatencyPhase.INFERENCE and quantile != "50":
        return f"{record.executed.runtime} tells means of many inferences, not each"
    value = float(np.quantile(samples, int(quantile) / 100))
    return Figure(value=value, reason="see the samples")


def judge(rule: Rule, subject: str, figure: Figure) -> Verdict:
    """Hold one figure against a rule; it must have a value."""
    assert figure.value is not None
    numbers = [figure.value]
    if rule.judged is Judged.INTERVAL:
        if figure.low is None or figure.high is None:
            return _fail(rule, subject, f"missing: no interval ({figure.reason})")
        numbers = [figure.low, figure.high]
    sizes = [abs(number) for number in numbers] if rule.absolute else numbers
    high = rule.max if rule.max is not None else math.inf
    low = rule.min if rule.min is not None else -math.inf
    smallest = min(sizes)
    if rule.absolute and min(numbers) <= 0 <= max(numbers):
        smallest = 0.0
    interval = ""
    if figure.low is not None and figure.high is not None:
        interval = f"[{figure.low:.5g}, {figure.high:.5g}]"
    return Verdict(
        rule=rule.text,
        subject=subject,
        passed=low <= smallest and max(sizes) <= high,
        value=figure.value,
        detail=interval,
    )


def check_hashes(run: Run, export: Path) -> list[Verdict]:
    """Check that what was measured is what lies in an export directory now.

    Args:
        run: The records.
        export: A directory with a manifest.

    Returns:
        One verdict a file of the manifest; a file that was never measured fails.

    Raises:
        ArtifactError: There is no manifest.
    """
    measured: dict[str, set[str]] = {}
    records: list[ScoreRecord | LatencyRecord] = [*run.scores, *run.latency]
    for record in records:
        for file, _ in record.executed.names:
            measured.setdefault(file, set()).add(record.executed.sha256)
    failed: dict[str, FailureRecord] = {failure.file: failure for failure in run.failures}
    verdicts = []
    for artifact in Manifest.load(export).artifacts:
        path = export / artifact.file
        now = sha256_of(path) if path.exists() else "missing"
        found = measured.get(artifact.file, set())
        detail = f"{now[:16]}…"
        if found != {now}:
            detail = f"measured {', '.join(sorted(digest[:16] for digest in found)) or 'nothing'}"
            detail += f", the directory holds {now[:16]}"
            if artifact.file in failed and not found:
                detail += f" ({' '.join(failed[artifact.file].error.split())})"
        verdicts.append(
            Verdict(
                rule="the measured bytes are the ones in the export",
                subject=artifact.file,
                passed=found == {now},
                value=None,
                detail=detail,
            )
        )
    return verdicts


def verdict_line(verdict: Verdict) -> str:
    """Return a verdict as one line."""
    word = "PASS" if verdict.passed else "FAIL"
    value = "" if verdict.value is None else f" = {verdict.value:.6g}"
    detail = f"  {verdict.detail}" if verdict.detail else ""
    return f"{word}  {verdict.subject}: {verdict.rule}{value}{detail}"


def write_junit(verdicts: Sequence[Verdict], path: Path, *, name: str) -> None:
    """Write verdicts as JUnit XML, one test case each.

    Args:
        verdicts: The verdicts.
        path: The file.
        name: Name of the test suite.
    """
    failures = str(sum(not verdict.passed for verdict in verdicts))
    counts = {"tests": str(len(verdicts)), "failures": failures, "errors": "0", "skipped": "0"}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": name, **counts})
    for verdict in verdicts:
        about = {"classname": _NOT_XML.sub("?", verdict.subject), "name": verdict.rule}
        case = ET.SubElement(suite, "testcase", about)
        if not verdict.passed:
            ET.SubElement(case, "failure", {"message": _NOT_XML.sub("?", verdict_line(verdict))})
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode", xml_declaration=False)
    write_text(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')
