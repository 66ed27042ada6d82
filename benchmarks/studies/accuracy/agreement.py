"""How well one scorer's scores agree with labels, with intervals that respect repeated photographs.

An image set holds several variants of each photograph, and near duplicates share a cluster: its
rows are not independent. The bootstrap therefore draws whole clusters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefiqa.data.image_set import ImageSet, Split
from edgefiqa.errors import DataError
from edgefiqa.metrics import (
    Interval,
    bootstrap_clusters,
    fit_logistic,
    krcc,
    plcc,
    rmse,
    srcc,
)

__all__ = ["Agreement", "Group", "bootstrap_clusters", "list_groups", "measure_agreement"]

_FEWEST_ROWS = 4  # the logistic map has four parameters


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows of an image set that are compared together.

    Attributes:
        name: A split, or ``held_out_types/<degradation>``.
        rows: Rows of the set that have a label.
    """

    name: str
    rows: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The figures of one scorer on one group.

    Attributes:
        n: Rows.
        clusters: Independent units among them.
        srcc: Spearman's correlation.
        plcc: Pearson's, of the scores as they are.
        plcc_fitted: Pearson's after the logistic map; the interval holds the map fixed.
        krcc: Kendall's tau-b.
        rmse: Root mean squared error, in units of the label.
        rmse_fitted: Whether the scores passed the logistic map before `rmse`.
    """

    n: int
    clusters: int
    srcc: Interval
    plcc: Interval
    plcc_fitted: Interval
    krcc: Interval
    rmse: Interval
    rmse_fitted: bool


def list_groups(images: ImageSet) -> list[Group]:
    """List what is reported apart: both test splits, and each left-out kind of degradation.

    Rows without a label are left out, and so are groups of fewer than four rows.
    """
    labelled = np.isfinite(images.labels)
    kinds: dict[str, list[int]] = {}
    groups = []
    for split in (Split.HELD_BACK, Split.HELD_OUT_TYPES):
        rows = images.rows(split)
        groups.append(Group(name=split.value, rows=rows[labelled[rows]]))
    for row in groups[-1].rows:
        names = {step["name"] for step in images.records[row].get("degradations", ())}
        if len(names) == 1:
            kinds.setdefault(names.pop(), []).append(int(row))
    for kind, rows_of_kind in sorted(kinds.items()):
        name = f"{Split.HELD_OUT_TYPES.value}/{kind}"
        groups.append(Group(name=name, rows=np.array(rows_of_kind, np.int64)))
    return [group for group in groups if len(group.rows) >= _FEWEST_ROWS]


def measure_agreement(
    scores: ArrayLike, labels: ArrayLike, clusters: ArrayLike, *, fit_rmse: bool, resamples: int
) -> Agreement:
    """Measure one scorer on one group.

    Args:
        scores: Higher is better.
        labels: Labels of the same rows.
        clusters: Clusters of the same rows.
        fit_rmse: Map the scores to the label's scale before the RMSE; for those on another.
        resamples: Number of resamples of each bootstrap.

    Returns:
        The figures; nan where one is undefined.

    Raises:
        DataError: There are fewer than 4 rows, or a value is not finite.
    """
    x, y = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    if len(x) < _FEWEST_ROWS:
        raise DataError("too few images to compare", value=len(x), allowed="4 or more")
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        found = f"{bad.size} of {x.size}, the first at row {bad[0]}"
        raise DataError("the scorer gave no finite score", value=found)
    units = np.asarray(clusters)

    def interval(metric: Callable[..., float], values: NDArray[np.float64]) -> Interval:
        return bootstrap_clusters(metric, values, y, clusters=units, n=resamples)

    # A constant scorer has no map, and stays where it is.
    mapped = fit_logistic(x, y)(x) if np.ptp(x) > 0 else x
    return Agreement(
        n=len(x),
        clusters=len(np.unique(units)),
        srcc=interval(srcc, x),
        plcc=interval(plcc, x),
        plcc_fitted=interval(plcc, mapped),
        krcc=interval(krcc, x),
        rmse=interval(rmse, mapped if fit_rmse else x),
        rmse_fitted=fit_rmse,
    )
