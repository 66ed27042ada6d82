"""The scorers that are compared: torch models and no-reference baselines behind one face."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from edgefiqa.benchmarks.studies.accuracy.baselines import load_baseline
from edgefiqa.data.batches import normalise
from edgefiqa.data.image_set import ImageSet
from edgefiqa.errors import UsageError
from edgefiqa.files import sha256_of
from edgefiqa.models import ModelCard, default_model_dir, measure_cost
from edgefiqa.models.card import CARD_NAME, WEIGHTS_NAME
from edgefiqa.models.store import DEFAULT_MODEL
from edgefiqa.preprocess import resize_and_crop
from edgefiqa.train import LITE0, load_scorer

__all__ = [
    "Candidate",
    "Kind",
    "Speed",
    "open_baseline",
    "open_model",
    "score_rows",
    "time_candidates",
]

Rgb = NDArray[np.uint8]


class Kind(StrEnum):
    """What a scorer is."""

    MODEL = "model"
    BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A scorer that is ready.

    Attributes:
        name: Name of its row.
        kind: Trained on such labels, or a baseline that was not.
        source: Architecture, or library and version.
        sha256: SHA-256 of the file that holds its parameters; None where it has none.
        size: Side of its input in pixels; None takes the set's.
        parameters: How many; None where nobody counts them.
        gflops: Multiply-adds of one image in 10⁹.
        on_label_scale: Its scores mean what the labels mean, so an RMSE needs no map.
        score: uint8 RGB ``[N,S,S,3]`` to N numbers.
        note: What a reader of its row must know.
    """

    name: str
    kind: Kind
    source: str
    sha256: str | None
    size: int | None
    parameters: int | None
    gflops: float | None
    on_label_scale: bool
    score: Callable[[Rgb], NDArray[np.float64]]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast a scorer is, one image at a time on one thread.

    Attributes:
        images_per_second: From the median of the samples.
        samples_ms: Each timed image, in order.
    """

    images_per_second: float
    samples_ms: list[float]


def open_model(name: str, path: Path, *, size: int) -> Candidate:
    """Load a torch scorer.

    Args:
        name: Name of its row.
        path: What `edgefiqa.train.load_scorer` takes, or ``default``.
        size: Side of its input where it has no card.

    Returns:
        The candidate, in evaluation mode, float32 and channels_last.

    Raises:
        CheckpointError: It cannot be loaded.
    """
    folder = default_model_dir() if str(path) == DEFAULT_MODEL else path
    model = load_scorer(folder)
    weights = folder / WEIGHTS_NAME if folder.is_dir() else folder
    beside = weights.parent / CARD_NAME
    card = ModelCard.load(beside) if beside.exists() else None
    size = card.size if card else size
    cost = measure_cost(model, size)
    return Candidate(
        name=name,
        kind=Kind.MODEL,
        source=card.model if card else LITE0,
        sha256=sha256_of(weights),
        size=size,
        parameters=cost.parameters,
        gflops=cost.gflops,
        on_label_scale=True,
        score=_forward(model),
    )


def _forward(model: nn.Module) -> Callable[[Rgb], NDArray[np.float64]]:
    @torch.inference_mode()
    def score(images: Rgb) -> NDArray[np.float64]:
        return np.asarray(model(normalise(images)).double().numpy())

    return score


def open_baseline(name: str) -> Candidate:
    """Load a no-reference baseline by name.

    Raises:
        UnknownNameError: There is no such baseline.
        MissingExtraError: Its library is not installed.
    """
    baseline = load_baseline(name)
    file = baseline.parameters_file
    return Candidate(
        name=name,
        kind=Kind.BASELINE,
        source=baseline.source,
        sha256=sha256_of(file) if file else None,
        size=None,
        parameters=None,
        gflops=None,
        on_label_scale=False,
        score=lambda images: np.array([baseline.score(image) for image in images], np.float64),
        note=baseline.note,
    )


def _inputs(images: ImageSet, rows: Sequence[int] | NDArray[np.int64], size: int) -> Rgb:
    squares = [resize_and_crop(Image.fromarray(images.image(int(row))), size) for row in rows]
    return np.stack(squares)


def score_rows(
    candidate: Candidate,
    images: ImageSet,
    rows: NDArray[np.int64],
    *,
    batch: int,
    advance: Callable[[int], object] = lambda _: None,
) -> NDArray[np.float64]:
    """Score rows of a set: short side to the candidate's size, central square.

    Args:
        candidate: The scorer.
        images: The set.
        rows: Which of its images.
        batch: Images a step.
        advance: Called with the number of images of each step that is done.

    Returns:
        float64, one score a row.
    """
    size = candidate.size or images.size
    parts = [np.empty(0)]
    for first in range(0, len(rows), batch):
        chosen = rows[first : first + batch]
        parts.append(candidate.score(_inputs(images, chosen, size)))
        advance(len(chosen))
    return np.concatenate(parts)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def time_candidates(
    candidates: Sequence[Candidate],
    images: ImageSet,
    rows: NDArray[np.int64],
    *,
    rounds: int,
    on_failure: Callable[[Candidate, Exception], object],
) -> Mapping[str, Speed]:
    """Time scorers in turn (A B C A B C …), one image at a time, on one thread.

    What is timed starts at the uint8 square of the scorer's size and ends at the score. The first
    round is not counted. Taking turns lets what else the machine does hit all alike.

    Args:
        candidates: The scorers.
        images: The set.
        rows: Its images that are scored, one a round.
        rounds: Counted rounds.
        on_failure: Called for a scorer that fails; it is timed no more.

    Returns:
        Name to speed, of those that did not fail.

    Raises:
        UsageError: There is nothing to time.
    """
    if rounds < 1 or not len(rows):
        found = f"{rounds} rounds, {len(rows)} images"
        raise UsageError("nothing to time", value=found, allowed="at least one of each")
    seconds: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    running = list(candidates)
    with _one_thread():
        for turn in range(rounds + 1):
            row = rows[turn % len(rows)]
            for candidate in list(running):
                try:
                    one = _inputs(images, [int(row)], candidate.size or images.size)
                    start = time.perf_counter()
                    candidate.score(one)
                    seconds[candidate.name].append(time.perf_counter() - start)
                except Exception as fault:
                    running.remove(candidate)
                    on_failure(candidate, fault)
    return {candidate.name: _speed(seconds[candidate.name][1:]) for candidate in running}


def _speed(seconds: list[float]) -> Speed:
    return Speed(
        images_per_second=1 / statistics.median(seconds),
        samples_ms=[round(1e3 * value, 3) for value in seconds],
    )
