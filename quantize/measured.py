"""Figures of one quantised file, and whether they keep the policy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgefiqa.measuring.figures import PairedScores, measure_figures
from edgefiqa.measuring.gate import judge
from edgefiqa.measuring.policy import Policy
from edgefiqa.measuring.records import Figure
from edgefiqa.quantize.settings import QuantizeRecipe

__all__ = ["FloatReference", "LayerRecord", "MeasuredFile", "broken_rules", "measure"]

_FIGURES = (
    "srcc_labels",
    "plcc_labels",
    "delta_srcc",
    "delta_plcc",
    "srcc_reference",
    "plcc_reference",
    "bias",
    "scale",
    "p99_error",
    "max_error",
)
_RESAMPLES = 200


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerRecord(_Record):
    """How one layer is executed, as read back from the file.

    Attributes:
        name: The layer.
        mode: The mode.
        macs: Multiply-adds of one image.
        reason: Why it is in float, or not as planned; empty where it is as wished.
    """

    name: str
    mode: str
    macs: int
    reason: str = ""


class MeasuredFile(_Record):
    """One file that was built and measured.

    Attributes:
        format: A value of ``edgefiqa.runtimes.Format``.
        recipe: The recipe's name, or the vendor's path.
        sha256: SHA-256 of the file that was executed.
        runtime: What executed it.
        size_bytes: Its size.
        size_ratio: Size as a share of the fp32 file's.
        int8_share: Share of multiply-adds executed in int8, counted in the file; none where the
            file does not tell.
        float_blocks: Blocks that the search returned to float.
        layers: Every layer.
        figures: Drift to the float model and agreement with the labels.
        images: Evaluation images.
        median_ms: Median time of one inference on one thread while measuring; for orientation,
            ``edgefiqa bench latency`` compares files.
        faults: The bounds that it breaks; empty if it may be shipped.
    """

    format: str
    recipe: str
    sha256: str
    runtime: str
    size_bytes: int
    size_ratio: float
    int8_share: float | None
    float_blocks: tuple[str, ...] = ()
    layers: tuple[LayerRecord, ...] = ()
    figures: dict[str, Figure] = {}
    images: int
    median_ms: float
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FloatReference:
    """The float model on the evaluation images.

    Attributes:
        scores: float64 ``[n]``, torch's, of the network as trained.
        labels: float64 ``[n]``, nan where there is none.
        clusters: Cluster of each image.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.float64]
    clusters: Sequence[str]


def measure(scores: NDArray[np.floating], reference: FloatReference) -> dict[str, Figure]:
    """Compute the figures of a file's scores ``[n]``, with 95 % intervals over clusters.

    Scores that are not finite give figures without a value, which no policy accepts.
    """
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        why = f"{count} of {len(scores)} scores are not finite"
        return {name: Figure(value=None, reason=why) for name in _FIGURES}
    pairs = PairedScores(
        np.asarray(scores, np.float64), reference.scores, reference.labels, threshold=None
    )
    found = measure_figures(pairs, reference.clusters, resamples=_RESAMPLES, with_krcc=False)
    return {name: found[name] for name in _FIGURES}


def broken_rules(
    figures: dict[str, Figure],
    *,
    recipe: QuantizeRecipe,
    policy: Policy | None,
    size_ratio: float,
    int8_share: float | None,
) -> tuple[str, ...]:
    """List what a file breaks: rules of the policy, and the recipe's bounds.

    A figure that is missing breaks every rule about it.
    """
    broken = []
    for rule in policy.rules if policy else ():
        figure = figures.get(rule.metric)
        if rule.metric not in _FIGURES:
            continue  # counts and latencies: every image was scored, or there would be no figures
        if figure is None or figure.value is None:
            broken.append(f"{rule.text}: {figure.reason if figure else 'missing'}")
        elif not judge(rule, "", figure).passed:
            broken.append(f"{rule.text}: {figure.value:.4g}")
    if int8_share is not None and int8_share < recipe.min_int8_share:
        broken.append(f"multiply-adds in int8 ≥ {recipe.min_int8_share:.0%}: {int8_share:.1%}")
    if recipe.max_size_ratio is not None and size_ratio > recipe.max_size_ratio:
        broken.append(f"size ≤ {recipe.max_size_ratio:g} × fp32: {size_ratio:.3f}")
    return tuple(broken)
