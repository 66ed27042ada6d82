"""The tables of an accuracy record, in Markdown."""

from edgefiqa.benchmarks.studies.accuracy.records import (
    AccuracyRecord,
    GroupCounts,
    IntervalFigure,
    ScorerRecord,
)
from edgefiqa.data.image_set import Split

__all__ = ["accuracy_tables"]

_NOTE = (
    "Synthetic degradations of held-back photographs; labels are full-reference metrics against "
    "the original; no human labels; not comparable with the papers' tables."
)
_TITLES = {
    Split.HELD_BACK.value: "Held-back photographs, kinds of degradation seen in training",
    Split.HELD_OUT_TYPES.value: "Held-back photographs, kinds of degradation left out of training",
}


def accuracy_tables(record: AccuracyRecord) -> str:
    """Return the tables of a record: one a test split, and one of the left-out kinds.

    Args:
        record: What `edgefiqa.benchmarks.studies.accuracy.run.compare` returned.

    Returns:
        Markdown that names the data, the set's hash, and what did not run.
    """
    parts = [_caption(record)]
    groups = record.images.groups
    parts += [
        f"**{title}** ({_counts(groups[name])})\n\n{_split_table(record, name)}"
        for name, title in _TITLES.items()
        if name in groups
    ]
    kinds = [name for name in groups if "/" in name]
    if kinds:
        parts.append(f"**SRCC of each left-out kind**\n\n{_kinds_table(record, kinds)}")
    parts.append(_foot(record))
    return "\n\n".join(parts) + "\n"


def _caption(record: AccuracyRecord) -> str:
    data, protocol = record.images, record.protocol
    is_synthetic = "degradation" in str(data.source)
    note = _NOTE if is_synthetic else f"Data: {data.source}. Not comparable with other tables."
    confidence = f"{100 * protocol.confidence:.0f} %"
    return (
        f"{note} Image set `{data.name}`, index sha256 `{data.index_sha256[:12]}`, label "
        f"`{data.label}`. In brackets: {confidence} bootstrap intervals, "
        f"{protocol.resamples} resamples of whole near-duplicate clusters."
    )


def _counts(group: GroupCounts) -> str:
    return f"{group.images} images of {group.clusters} photographs"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|" + "---|" * len(cells)]


def _number(value: float | None, digits: int = 4) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"


def _interval(interval: IntervalFigure) -> str:
    if interval.value is None or interval.low is None or interval.high is None:
        return _number(interval.value)
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _split_table(record: AccuracyRecord, group: str) -> str:
    figures = ("SRCC", "PLCC", "PLCC fitted", "KRCC", "RMSE")
    costs = ("parameters, M", "GFLOPs", "input", "images/s", "sha256")
    rows = _head("scorer", *figures, *costs)
    for scorer in record.scorers:
        if scorer.error:
            rows.append(_row(scorer.name, _one_line(scorer.error), *[""] * 9))
        else:
            rows.append(_row(*_scorer_cells(scorer, group, record.images.size)))
    return "\n".join(rows)


def _scorer_cells(scorer: ScorerRecord, group: str, set_size: int) -> list[str]:
    figures, speed = scorer.groups[group], scorer.speed
    correlations = (figures.srcc, figures.plcc, figures.plcc_fitted, figures.krcc)
    cells = [_label(scorer), *map(_interval, correlations)]
    cells.append(_interval(figures.rmse) + (" after fit" if figures.rmse_fitted else ""))
    parameters, gflops = scorer.parameters, scorer.gflops
    cells.append("–" if parameters is None else f"{parameters / 1e6:.3f}")
    cells.append("–" if gflops is None else f"{gflops:.4f}")
    cells.append(f"{scorer.size or set_size}²")
    cells.append("–" if speed is None else f"{speed.images_per_second:.1f}")
    cells.append(f"`{scorer.sha256[:12]}`" if scorer.sha256 else "–")
    return cells


def _label(scorer: ScorerRecord) -> str:
    name, source = scorer.name, scorer.source
    return name if name == source else f"{name} ({source})"


def _kinds_table(record: AccuracyRecord, kinds: list[str]) -> str:
    groups = record.images.groups
    heads = [f"{kind.partition('/')[2]} (n = {groups[kind].images})" for kind in kinds]
    rows = _head("scorer", *heads)
    rows += [
        _row(_label(scorer), *(_interval(scorer.groups[kind].srcc) for kind in kinds))
        for scorer in record.scorers
        if not scorer.error
    ]
    return "\n".join(rows)


def _one_line(text: str) -> str:
    return f"**not measured:** {' '.join(text.split())}".replace("|", "\\|")


def _foot(record: AccuracyRecord) -> str:
    lines = [
        "PLCC is of the scores as they are, PLCC fitted after a four-parameter logistic map. RMSE "
        "is in units of the label. NIQE and BRISQUE count damage: their sign is turned, by "
        "definition, not by looking at these data. GFLOPs: 1 multiply-add = 1. images/s: one "
        f"image, one thread, eager torch, {record.processor}, scorers in turn, median.",
    ]
    notes = [scorer for scorer in record.scorers if scorer.note]
    lines += [f"{_label(scorer)}: {scorer.note}." for scorer in notes]
    if record.not_run:
        reasons = (f"- {name}: {reason}." for name, reason in record.not_run.items())
        lines.append("\n".join(["Not run, because it needs a network:", "", *reasons]))
    return "\n\n".join(lines)
