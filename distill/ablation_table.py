"""The ablation's figures: intervals, differences, and the tables made of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefiqa.markdown import Table, heading
from edgefiqa.metrics import Interval, bootstrap_clusters, plcc, srcc

__all__ = ["MeasuredStudent", "describe", "render"]

Array = NDArray[np.float64]
METRICS: Mapping[str, Callable[..., float]] = {"srcc": srcc, "plcc": plcc}


@dataclass(frozen=True, kw_only=True)
class MeasuredStudent:
    """One student and its scores of all held-back images.

    Attributes:
        arm: Names of the pseudo-labelled sets it learned from, besides the labelled images.
        size: Size of its images, in pixels.
        seed: Seed of everything random.
        sha256: SHA-256 of its weights.
        steps: Optimiser steps.
        scores: float64 ``[n]``.
        labels: float64 ``[n]``.
        clusters: int64 ``[n]``, the independent units.
    """

    arm: tuple[str, ...]
    size: int
    seed: int
    sha256: str
    steps: int
    scores: Array
    labels: Array
    clusters: NDArray[np.int64]


Group = Sequence[MeasuredStudent]
"""Students that differ in their seeds only."""


def describe(
    students: Sequence[MeasuredStudent], *, resolutions: Sequence[int], resamples: int
) -> dict[str, Any]:
    """Compute all figures.

    Args:
        students: Students of all seeds; those of Table 2 have the size of the one with the shortest
            arm.
        resolutions: Resolutions of Table 3.
        resamples: Number of resamples of each bootstrap.

    Returns:
        Values for ``ablation.json``: ``table_2``, ``differences``, ``table_3``, ``students`` and
        ``order_holds``.
    """
    size = min(students, key=lambda student: len(student.arm)).size
    arms = sorted({student.arm for student in students}, key=len)
    groups = {
        arm: [student for student in students if (student.arm, student.size) == (arm, size)]
        for arm in arms
    }
    whole = {
        resolution: [s for s in students if (s.arm, s.size) == (arms[-1], resolution)]
        for resolution in resolutions
    }
    means = [np.mean([srcc(s.scores, s.labels) for s in group]) for group in groups.values()]
    return {
        "images": len(students[0].labels),
        "clusters": len(np.unique(students[0].clusters)),
        "order_holds": bool(means[0] < means[1] <= means[2]),
        "table_2": [
            {"sets": _label(arm), "size": size, **_means(group, resamples)}
            for arm, group in groups.items()
        ],
        "differences": [
            {
                "of": _label(second),
                "to": _label(first),
                **{name: _difference(name, groups[first], groups[second], resamples)
                   for name in METRICS},
            }
            for first, second in pairwise(arms)
        ],
        "table_3": [
            {"sets": _label(arms[-1]), "size": resolution, **_means(group, resamples)}
            for resolution, group in whole.items()
        ],
        "students": [_one(student, resamples) for student in students],
    }  # fmt: skip


def _label(arm: Sequence[str]) -> str:
    return " + ".join(["labelled", *arm])


def _finite(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _interval(found: Interval) -> dict[str, Any]:
    return {name: _finite(v) if isinstance(v, float) else v for name, v in asdict(found).items()}


def _one(student: MeasuredStudent, resamples: int) -> dict[str, Any]:
    """Return a student's figures with intervals over resampled clusters."""
    figures = {
        name: _interval(
            bootstrap_clusters(
                metric, student.scores, student.labels, clusters=student.clusters, n=resamples
            )
        )
        for name, metric in METRICS.items()
    }
    about = {"sets": _label(student.arm), "size": student.size, "seed": student.seed}
    return {**about, "steps": student.steps, "sha256": student.sha256, **figures}


def _means(group: Group, resamples: int) -> dict[str, Any]:
    return {name: _mean(name, group, resamples) for name in METRICS}


def _mean(name: str, group: Group, resamples: int) -> dict[str, Any]:
    """Return the mean over seeds; all seeds' students are measured on the same resamples."""
    metric = METRICS[name]

    def mean(labels: Array, *scores: Array) -> float:
        return float(np.mean([metric(score, labels) for score in scores]))

    found = bootstrap_clusters(
        mean,
        group[0].labels,
        *(student.scores for student in group),
        clusters=group[0].clusters,
        n=resamples,
    )
    values = [_finite(metric(student.scores, student.labels)) for student in group]
    return {**_interval(found), "seeds": values}


def _difference(name: str, first: Group, second: Group, resamples: int) -> dict[str, Any]:
    """Compare students seed by seed.

    Returns:
        The mean difference with two intervals: over resampled clusters (other photographs), and
        Student's t over seeds (other labelled images and weights), null for a single seed.
    """
    metric, count = METRICS[name], len(first)

    def mean(labels: Array, *scores: Array) -> float:
        values = [metric(score, labels) for score in scores]
        return float(np.mean(values[count:]) - np.mean(values[:count]))

    found = bootstrap_clusters(
        mean,
        first[0].labels,
        *(student.scores for student in (*first, *second)),
        clusters=first[0].clusters,
        n=resamples,
    )
    differences = np.array(
        [metric(b.scores, b.labels) - metric(a.scores, a.labels)
         for a, b in zip(first, second, strict=True)]
    )  # fmt: skip
    values = [_finite(value) for value in differences]
    return {**_interval(found), "seeds": values, "t_interval": _t_interval(differences)}


def _t_interval(differences: Array, confidence: float = 0.95) -> list[float | None] | None:
    if len(differences) < 2:
        return None
    from scipy.stats import t

    half = t.ppf(0.5 + confidence / 2, len(differences) - 1)
    half *= differences.std(ddof=1) / math.sqrt(len(differences))
    return [_finite(differences.mean() - half), _finite(differences.mean() + half)]


def render(record: Mapping[str, Any]) -> str:
    """Write the tables as Markdown.

    Args:
        record: What ``ablation.json`` holds.

    Returns:
        The text.
    """
    data, students = record["data"], record["students"]
    batch = "/".join(str(phase["batch"]) for phase in record["recipe"]["student"]["phases"])
    labelled, unlabelled = data["labelled_images"], data["unlabelled_images"]
    lines = [
        heading("Ablation: pseudo-labels and resolutions", 1),
        "",
        f"Students of {len(labelled)} seeds, measured on {record['images']} held-back images of "
        f"{record['clusters']} photographs. Each seed draws its labelled images "
        f"({_range(labelled)}), by photograph; D1 and D2 are {unlabelled[0]} and {unlabelled[1]} "
        "images that the teacher and teacher+ labelled.",
        f"All students take {students[0]['steps']} optimiser steps of {batch} images, divided "
        "evenly among their sets.",
        "Brackets: 95 % intervals over resampled photographs; in the differences also Student's t "
        "over seeds.",
        "",
        f"Label: {data['labelled']['label']}. Sets (sha256 of the index): labelled "
        f"`{data['labelled']['identity'][:12]}`, unlabelled "
        + ", ".join(f"`{name[:12]}`" for name in data["unlabelled"])
        + ".",
        "",
        heading("What the student learned from"),
        "",
        _mean_table(record["table_2"]),
        "",
        Table(
            heads=["difference", "SRCC", "over seeds", "PLCC", "over seeds"],
            rows=[_difference_cells(entry) for entry in record["differences"]],
        ).markdown(),
        "",
        "Mean SRCC rises from labelled to + D1, and does not fall with + D2: "
        + ("yes." if record["order_holds"] else "**no**."),
    ]
    if record["table_3"]:
        lines += ["", heading("Resolution"), "", _mean_table(record["table_3"])]
    lines += [
        "",
        heading("All students"),
        "",
        Table(
            heads=["learned from", "size", "seed", "SRCC", "PLCC", "sha256"],
            rows=[_student_cells(student) for student in students],
        ).markdown(),
    ]
    return "\n".join(lines) + "\n"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _number(value: float | None, sign: str = "") -> str:
    return "undefined" if value is None else f"{value:{sign}.4f}"


def _cell(found: Mapping[str, Any], sign: str = "") -> str:
    ends = f"{_number(found['low'], sign)}, {_number(found['high'], sign)}"
    return f"{_number(found['value'], sign)} [{ends}]"


def _mean_table(rows: Sequence[Mapping[str, Any]]) -> str:
    return Table(
        heads=["learned from", "size", "mean SRCC", "mean PLCC"],
        rows=[
            [row["sets"], f"{row['size']}²", _cell(row["srcc"]), _cell(row["plcc"])] for row in rows
        ],
    ).markdown()


def _difference_cells(entry: Mapping[str, Any]) -> list[str]:
    cells = [f"{entry['to']} → {entry['of']}"]
    for name in METRICS:
        ends = entry[name]["t_interval"]
        over = "one seed" if ends is None else f"[{_number(ends[0], '+')}, {_number(ends[1], '+')}]"
        cells += [_cell(entry[name], "+"), over]
    return cells


def _student_cells(student: Mapping[str, Any]) -> list[str]:
    about = [student["sets"], f"{student['size']}²", str(student["seed"])]
    figures = [_cell(student["srcc"]), _cell(student["plcc"])]
    return [*about, *figures, f"`{student['sha256'][:12]}`"]
