"""Does a converted file say what the torch model says? Asked of every runtime that can run it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from edgefiqa.errors import MissingExtraError, ParityError, PlatformError
from edgefiqa.files import sha256_of
from edgefiqa.goldens import allowed_error
from edgefiqa.manifest import NotExecuted, Parity
from edgefiqa.runtimes import RUNTIMES, Format, Scorer, load, load_stand_in, runtime_for

__all__ = ["ParityReference", "check_parity", "compare", "load_tolerances"]


@dataclass(frozen=True, kw_only=True)
class ParityReference:
    """The torch model's scores on a set of images.

    Attributes:
        names: One name an image.
        images: uint8 ``[n, S, S, 3]``.
        scores: float32 ``[n]``, from the network as trained.
        runtime: What computed them.
        photos: Where the images come from, in words.
    """

    names: list[str]
    images: NDArray[np.uint8]
    scores: NDArray[np.float32]
    runtime: str
    photos: str


def load_tolerances() -> dict[str, float]:
    """Read the allowed errors by precision."""
    path = Path(__file__).parent / "recipes" / "parity.yaml"
    tolerances: dict[str, float] = yaml.safe_load(path.read_text())["tolerances"]
    return tolerances


def compare(
    scores: NDArray[np.float32],
    reference: ParityReference,
    *,
    file: Path,
    runtime: str,
    tolerance: float,
) -> Parity:
    """Compare scores with the reference.

    Raises:
        ParityError: If any score is not finite or further from torch's than ``allowed_error``; the
            message names the image and both scores.
    """
    errors = np.abs(scores.astype(np.float64) - reference.scores)
    errors[~np.isfinite(errors)] = np.inf
    allowed = allowed_error(tolerance, reference.scores)
    worst = int((errors / allowed if tolerance else errors).argmax())
    if errors[worst] > allowed[worst]:
        raise ParityError(
            f"{runtime} scores {reference.names[worst]!r} {scores[worst]:.6f}, "
            f"{reference.runtime} scores it {reference.scores[worst]:.6f}; "
            f"{int((errors > allowed).sum())} of {len(errors)} images are off",
            value=file.name,
            allowed=f"a difference of {allowed[worst]:g}",
            next_step="nothing was written; please report the model and the versions",
        )
    return Parity(
        sha256=sha256_of(file),
        runtime=runtime,
        reference=reference.runtime,
        photos=reference.photos,
        images=len(errors),
        max_abs_error=float(errors.max()),
        mean_abs_error=float(errors.mean()),
        worst_image=reference.names[int(errors.argmax())],
        tolerance=tolerance,
    )


def check_parity(
    file: Path, format_: Format, reference: ParityReference, *, tolerance: float
) -> tuple[list[Parity], list[NotExecuted]]:
    """Run a file in every runtime of its format and compare each with torch.

    Args:
        file: The exported file.
        format_: Its format.
        reference: The torch model's scores.
        tolerance: Largest allowed |score − torch score|.

    Returns:
        The comparisons, and the runtimes that could not run it here, with the reason. Where
        something stands in for such a runtime there are both.

    Raises:
        ParityError: If a runtime disagrees.
        MissingExtraError: If the format's runtime is not installed. Only a second opinion
            may be missing.
    """
    done, missing = [], []
    for name, row in RUNTIMES:
        if row.format is not format_:
            continue
        scorer: Scorer | None
        try:
            scorer = load(file, runtime=name, threads=1)
        except PlatformError as error:
            missing.append(NotExecuted(runtime=name, reason=error.what))
            scorer = load_stand_in(file, threads=1)
            if scorer is None:
                continue
        except MissingExtraError as error:
            if row is runtime_for(format_):
                raise
            missing.append(NotExecuted(runtime=name, reason=error.what))
            continue
        scores = scorer.score(reference.images)
        done.append(
            compare(scores, reference, file=file, runtime=scorer.runtime, tolerance=tolerance)
        )
    return done, missing
