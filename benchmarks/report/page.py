"""One report of a run, for people: HTML in one file without network, Markdown, and JSON.

::

    run directory ─▶ ReportData ─▶ tables and sentences, drawings ─▶ report.html, .md, .json

Every number comes from a record, and the provenance table names the bytes behind it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgefiqa.benchmarks.drift.waterfall import waterfall_table
from edgefiqa.benchmarks.report.content import Report, report_content
from edgefiqa.benchmarks.report.data import ReportData
from edgefiqa.benchmarks.report.drawings import draw, worst_photographs
from edgefiqa.errors import MissingExtraError
from edgefiqa.files import write_text
from edgefiqa.markdown import Table, heading
from edgefiqa.measuring.gate import Verdict, verdict_line
from edgefiqa.measuring.policy import Policy
from edgefiqa.measuring.run_directory import Run

__all__ = ["write_report"]

_TEMPLATE = "report.html.j2"
_NEGATIVE = re.compile(r"(?:(?<![\w.])|(?<=\de))-(?=[\d.])")


def write_report(run: Run, out: Path, *, policy: Policy | None = None) -> list[Path]:
    """Write ``report.html``, ``report.md`` and ``report.json``.

    Args:
        run: The records.
        out: The folder to write to.
        policy: Rules to apply; None shows no gate.

    Returns:
        The three files.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    data = ReportData.of(run)
    content = report_content(data, policy=policy)
    texts = {
        "report.html": _html(content, data),
        "report.md": _markdown(content, run),
        "report.json": json.dumps(_json(content, run), indent=1, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        write_text(out / name, text)
    return [out / name for name in texts]


def _json(content: Report, run: Run) -> dict[str, Any]:
    drift = [record.model_dump(mode="json", exclude={"worst"}) for record in run.drift]
    return {
        "schema_version": 1,
        **asdict(content),
        "drift": drift,
        "waterfalls": [waterfall.model_dump(mode="json") for waterfall in run.waterfalls],
    }


def _markdown(content: Report, run: Run) -> str:
    parts = [heading(content.title, 1), content.caption, *content.notes]
    if content.verdicts:
        lines = "\n".join(f"- {verdict_line(verdict)}" for verdict in content.verdicts)
        parts += [heading(f"Gate: {content.policy}"), lines]
    parts += [heading("Summary"), content.summary.markdown()]
    if content.failures:
        heads = ["file", "runtime", "why"]
        parts += [heading("Not measured"), Table(heads=heads, rows=content.failures).markdown()]
    if content.latency.rows:
        parts += [heading("Latency"), content.latency.markdown()]
    for record in run.waterfalls:
        parts += [heading(f"Drift waterfall: {record.name}"), waterfall_table(record)]
    if content.layers.rows:
        parts += [heading("Layers"), content.layers.markdown()]
    if content.slices.rows:
        parts += [heading("Slices"), content.slices.markdown()]
    parts += [heading("Provenance"), content.provenance.markdown(), *content.provenance_notes]
    return "\n\n".join(parts) + "\n"


def _html(content: Report, data: ReportData) -> str:
    try:
        import matplotlib as _  # noqa: F401
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "report") from error
    loader = PackageLoader("edgefiqa.benchmarks.report", package_path="")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    page.filters["minus"] = _minus
    page.filters["breakable"] = _breakable
    return page.get_template(_TEMPLATE).render(
        **{name: getattr(content, name) for name in content.__dataclass_fields__}
        | {"gate": _gate(content.verdicts), "slices_of": _by_file(content.slices)}
        | {"charts": draw(data), "worst_of": worst_photographs(data)}
    )


def _minus(text: str) -> str:
    """Set the minus sign of numbers: a hyphen would let a line end after it."""
    return _NEGATIVE.sub("−", text)


def _breakable(text: str) -> Any:
    """Let long names end a line after an underscore, not inside a word."""
    from markupsafe import Markup, escape

    return escape(_minus(text)).replace("_", Markup("_<wbr>"))


def _gate(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Group verdicts by file; a file that was not measured says so once."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.subject, []).append(verdict)
    return [
        {
            "subject": subject,
            "passed": all(judged.passed for judged in group),
            "count": f"{sum(judged.passed for judged in group)} of {len(group)} rules hold",
            "rules": _rules(group),
        }
        for subject, group in groups.items()
    ]


def _rules(group: Sequence[Verdict]) -> list[dict[str, Any]]:
    details = {verdict.detail for verdict in group if verdict.value is None and not verdict.passed}
    if len(group) > 1 and len(details) == 1 and all(verdict.value is None for verdict in group):
        return [{"passed": False, "text": f"every rule: {details.pop()}"}]
    prefix = f"{group[0].subject}: "
    lines = [verdict_line(verdict).partition("  ")[2].removeprefix(prefix) for verdict in group]
    return [
        {"passed": verdict.passed, "text": line} for verdict, line in zip(group, lines, strict=True)
    ]


def _by_file(slices: Table) -> list[dict[str, Any]]:
    """Give each file a separate table: all in one are hundreds of rows."""
    files: dict[str, list[list[str]]] = {}
    for name, *rest in slices.rows:
        files.setdefault(name, []).append(rest)
    return [{"name": name, "rows": rows} for name, rows in files.items()]
