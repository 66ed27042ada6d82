"""The record of a quantisation, its table and its picture."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from edgefiqa.files import staged_path, write_text
from edgefiqa.markdown import Table, heading
from edgefiqa.measuring.records import Figure
from edgefiqa.quantize.engine import BlockSensitivity
from edgefiqa.quantize.images import Images
from edgefiqa.quantize.measured import MeasuredFile
from edgefiqa.quantize.settings import QuantizeRecipe

__all__ = [
    "Failure",
    "ImagesNote",
    "QuantizationRecord",
    "bounded_table",
    "describe_images",
    "exceeds",
    "render",
    "short_table",
    "write_report",
]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImagesNote(_Record):
    """Which images.

    Attributes:
        name: Where they come from.
        sha256: Over their keys and contents, in order.
        keys: Their names, in order.
    """

    name: str
    sha256: str
    keys: tuple[str, ...]

    @classmethod
    def of(cls, images: Images) -> Self:
        """Note down images."""
        return cls(name=images.name, sha256=images.identity, keys=tuple(images.keys))


class Failure(_Record):
    """What was not made.

    Attributes:
        name: The format, or the vendor's path.
        reason: Why.
        plain: Whether it is a vendor's plain path, which is a result of the comparison.
    """

    name: str
    reason: str
    plain: bool = False


class QuantizationRecord(_Record):
    """All that one run measured.

    Attributes:
        recipe: The recipe.
        parent_sha256: SHA-256 of the float weights.
        model: Their name.
        calibration: Images that ranges come from.
        evaluation: Images that everything here is measured on.
        differing_halves: Figures that two halves of the calibration images do not agree on.
        sensitivities: Sensitivities of the blocks.
        results: Format → every file that was built, the last one shipped if it has no faults.
        plain: The vendors' plain paths.
        failures: What was not made.
    """

    schema_version: Literal[1] = 1
    producer: str
    recipe: QuantizeRecipe
    parent_sha256: str
    model: str
    calibration: ImagesNote
    evaluation: ImagesNote
    differing_halves: tuple[str, ...]
    sensitivities: tuple[BlockSensitivity, ...]
    results: dict[str, tuple[MeasuredFile, ...]]
    plain: tuple[MeasuredFile, ...]
    failures: tuple[Failure, ...]

    @property
    def failed(self) -> bool:
        """Whether a format has no file."""
        return any(not failure.plain for failure in self.failures)


_COLUMNS = (
    "format",
    "made by",
    "executed by",
    "blocks in float",
    "int8 multiply-adds",
    "size / fp32",
    "ΔSRCC",
    "ΔPLCC",
    "SRCC to float",
    "p99 error",
    "max error",
    "bias",
    "ms",
    "policy",
)


def _figure(figure: Figure | None, form: str, *, interval: bool = False) -> str:
    if figure is None or figure.value is None:
        return "–"
    text = format(figure.value, form)
    if interval and figure.low is not None and figure.high is not None:
        text += f" [{figure.low:{form}}, {figure.high:{form}}]"
    return text


def _row(measured: MeasuredFile, *, judged: bool) -> list[str]:
    figures = measured.figures
    share = "–" if measured.int8_share is None else f"{measured.int8_share:.1%}"
    verdict = "–"
    if judged:
        verdict = "kept" if not measured.faults else f"broken: {len(measured.faults)}"
    return [
        measured.format,
        measured.recipe,
        measured.runtime,
        str(len(measured.float_blocks)),
        share,
        f"{measured.size_ratio:.3f}",
        _figure(figures.get("delta_srcc"), "+.4f", interval=True),
        _figure(figures.get("delta_plcc"), "+.4f", interval=True),
        _figure(figures.get("srcc_reference"), ".5f"),
        _figure(figures.get("p99_error"), ".4f"),
        _figure(figures.get("max_error"), ".4f"),
        _figure(figures.get("bias"), "+.4f"),
        f"{measured.median_ms:.1f}",
        verdict,
    ]


def _rows(record: QuantizationRecord) -> Iterator[list[str]]:
    judged = record.recipe.policy is not None
    for rungs in record.results.values():
        for rung in rungs:
            yield _row(rung, judged=judged)
    for rung in record.plain:
        yield _row(rung, judged=judged)


def short_table(*records: QuantizationRecord) -> str:
    """Return the shipped file of each format and the vendors' plain paths, as a Markdown table."""
    titles = (
        *("format", "made by", "executed by", "int8 multiply-adds", "size / fp32", "ΔSRCC"),
        *("SRCC to float", "p99 error", "bias", "policy"),
    )
    lines = []
    for record in records:
        judged = record.recipe.policy is not None
        for result in (*(rungs[-1] for rungs in record.results.values()), *record.plain):
            cells = dict(zip(_COLUMNS, _row(result, judged=judged), strict=True))
            lines.append([cells[title] for title in titles])
        for failure in record.failures:
            if failure.plain or failure.name not in record.results:
                made_by = "plain" if failure.plain else record.recipe.name
                reason = failure.reason.partition(": ")[0]
                cells = {"format": failure.name, "made by": made_by}
                cells["executed by"] = f"not made: {reason}"
                lines.append([cells.get(title, "") for title in titles])
    return Table(heads=titles, rows=lines).markdown()


def bounded_table(rows: Mapping[str, MeasuredFile], bounds: Mapping[str, float | None]) -> str:
    """Return named files beside the largest |ΔSRCC| that each may have, as a Markdown table."""
    titles = ("row", "size / fp32", "ΔSRCC", "ΔPLCC", "SRCC to float", "p99 error", "bias", "bound")
    lines = []
    for name, row in rows.items():
        bound = bounds[name]
        broken = exceeds(row, bound)
        verdict = "–" if bound is None else f"≤ {bound:g}: {'broken' if broken else 'kept'}"
        figures = row.figures
        cells = (
            *(f"`{name}`", f"{row.size_ratio:.3f}"),
            _figure(figures["delta_srcc"], "+.5f"),
            _figure(figures["delta_plcc"], "+.5f"),
            _figure(figures["srcc_reference"], ".6f"),
            _figure(figures["p99_error"], ".4f"),
            *(_figure(figures["bias"], "+.5f"), verdict),
        )
        lines.append(cells)
    return Table(heads=titles, rows=lines).markdown()


def exceeds(measured: MeasuredFile, bound: float | None) -> bool:
    """Return whether a file's |ΔSRCC| is above its bound; an undefined one is."""
    found = measured.figures["delta_srcc"].value
    return bound is not None and (found is None or abs(found) > bound)


def describe_images(record: QuantizationRecord) -> str:
    """Say in a paragraph what the figures were measured on."""
    return (
        f"Drift to the float model on {len(record.evaluation.keys)} images of "
        f"{record.evaluation.name} (sha256 `{record.evaluation.sha256[:12]}`), each file in its "
        f"runtime on one thread; ranges from {len(record.calibration.keys)} images of "
        f"{record.calibration.name} (`{record.calibration.sha256[:12]}`). Labels are those of the "
        "image set. Intervals are 95 %, bootstrap over clusters."
    )


def render(record: QuantizationRecord) -> str:
    """Write the record as Markdown."""
    lines = [
        heading(f"{record.model}, {record.recipe.name}", 1),
        "",
        f"{describe_images(record)} Times are medians while measuring, not interleaved.",
        "",
        Table(heads=_COLUMNS, rows=list(_rows(record))).markdown(),
        "",
        "Two random halves of the calibration images "
        + (
            f"disagree on {', '.join(record.differing_halves)}: take more of them."
            if record.differing_halves
            else "give the same drift within the intervals."
        ),
        "",
    ]
    for failure in record.failures:
        lines.append(f"- **{failure.name}: not made.** {failure.reason}")
    for name, rungs in record.results.items():
        lines += ["", heading(name), "", *_details(rungs[-1])]
    if record.sensitivities:
        heads = ["block", "share of multiply-adds", "RMS change of the score"]
        ranked = sorted(record.sensitivities, key=lambda sensitivity: -sensitivity.rmse)
        rows = [[f"`{found.block}`", f"{found.share:.2%}", f"{found.rmse:.5f}"] for found in ranked]
        lines += ["", heading("Each block alone in int8 (format-neutral model)"), ""]
        lines.append(Table(heads=heads, rows=rows).markdown())
    return "\n".join([*lines, ""])


def _details(measured: MeasuredFile) -> Iterator[str]:
    """Say what is not in int8, and why."""
    yield f"`{measured.sha256[:16]}…` in {measured.runtime}"
    yield ""
    for fault in measured.faults:
        yield f"- breaks: {fault}"
    total = sum(layer.macs for layer in measured.layers) or 1
    for layer in measured.layers:
        if layer.mode in ("float", "weight"):
            why = layer.reason or (
                "returned by the search" if _in_blocks(layer.name, measured) else "as planned"
            )
            yield f"- {layer.mode}: `{layer.name}`, {layer.macs / total:.2%}: {why}"


def _in_blocks(name: str, measured: MeasuredFile) -> bool:
    return any(name == block or name.startswith(f"{block}.") for block in measured.float_blocks)


def write_report(record: QuantizationRecord, folder: Path) -> None:
    """Write ``RECIPE.json``, ``RECIPE.md`` and ``RECIPE.svg``."""
    name = record.recipe.name
    write_text(folder / f"{name}.json", record.model_dump_json(indent=1) + "\n")
    write_text(folder / f"{name}.md", render(record) + f"\n![Pareto]({name}.svg)\n")
    with staged_path(folder / f"{name}.svg") as stage:
        _draw(record, stage)


def _draw(record: QuantizationRecord, path: Path) -> None:
    """Draw p99 error over size, a colour a format; the vendors' plain paths are crosses."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8, 5), layout="constrained")
    axes = canvas.add_subplot()
    colours = {name: f"C{number}" for number, name in enumerate(record.results)}
    for name, rungs in record.results.items():
        points = [(rung.size_ratio, rung.figures["p99_error"].value) for rung in rungs]
        shown = [(x, y) for x, y in points if y is not None]
        if shown:
            axes.plot(*zip(*shown, strict=True), "o-", color=colours[name], label=name)
    for measured in record.plain:
        error = measured.figures["p99_error"].value
        if error is not None:
            axes.plot(measured.size_ratio, error, "x", color=colours.get(measured.format, "grey"))
            axes.annotate(
                measured.recipe,
                (measured.size_ratio, error),
                xytext=(6, -2),
                textcoords="offset points",
                fontsize=7,
            )
    axes.margins(x=0.25)
    axes.set(xlabel="size / fp32", ylabel="p99 |score − float|", yscale="log")
    axes.set_title(f"{record.model}, {record.recipe.name}: plans of each format, × vendors' plain")
    axes.grid(visible=True, alpha=0.3)
    if record.results:
        axes.legend()
    canvas.savefig(path, format="svg", metadata={"Date": None})
