"""No-reference baselines: scorers that look at one image and were never trained on our labels.

NIQE and BRISQUE come from libraries whose parameters lie inside the wheel, so that nothing is
downloaded when they run (extra ``baselines``). Which way up a baseline is follows from its
definition, never from the test data: NIQE and BRISQUE measure damage, so their sign is turned.
"""

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.errors import MissingExtraError
from edgefiqa.registry import Registry

__all__ = ["BASELINES", "NOT_OFFLINE", "Baseline", "load_baseline"]

Rgb = NDArray[np.uint8]

NOT_OFFLINE = MappingProxyType(
    {
        "BRISQUE (piq)": "piq downloads its support vectors from GitHub when it is first called",
        "NIQE, BRISQUE (pyiqa)": "pyiqa downloads every metric's parameters from Hugging Face when "
        "it is first called; its licence forbids commercial use",
        "MUSIQ, LIQE, StairIQA": "learned scorers: no package on PyPI holds their weights",
    }
)
"""Baselines that cannot run without a network, and why."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A baseline that is ready to score.

    Attributes:
        name: As it is chosen.
        source: The library and version that computes it.
        parameters_file: What holds its fitted parameters; None where it has none.
        lower_is_better: By its definition; `score` has turned the sign already.
        score: uint8 RGB ``[H,W,3]`` to a number that is higher for better images.
        note: How this implementation departs from its authors'; empty where it does not.
    """

    name: str
    source: str
    parameters_file: Path | None
    lower_is_better: bool
    score: Callable[[Rgb], float]
    note: str = ""


def load_baseline(name: str) -> Baseline:
    """Load a baseline by name.

    Raises:
        UnknownNameError: There is no baseline of this name.
        MissingExtraError: Its library is not installed.
    """
    return BASELINES.get(name)()


def _import(module: str, package: str) -> Any:
    # These libraries are older than the numpy and scipy they run on, and warn on import.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(module)
        except ImportError as missing:
            raise MissingExtraError(package, "baselines") from missing


def _grey(image: Rgb) -> Rgb:
    return np.asarray(Image.fromarray(image).convert("L"))


def _halved(image: NDArray[np.float32], scale: float, interp: str, mode: str) -> NDArray[Any]:
    """Do what ``scipy.misc.imresize`` of SciPy 1.2 did for mode F: let Pillow resize the floats."""
    picture = Image.fromarray(image.astype(np.float32))
    assert (interp, mode, picture.mode) == ("bicubic", "F", "F")
    size = (int(picture.width * scale), int(picture.height * scale))
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


class _Numpy:
    """numpy with the name ``int``, which it dropped in 1.24, for one module."""

    int = int

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _niqe() -> Baseline:
    """NIQE of scikit-video: since 1.2 the authors' model, before that a departure from it."""
    module = _import("skvideo.measure.niqe", "scikit-video")
    release = str(_import("skvideo", "scikit-video").__version__)
    note = ""
    if release.startswith(("0.", "1.0.", "1.1.")):
        _adapt_old_niqe(module)
        note = (
            "scikit-video before 1.2 departs from the authors' NIQE and agrees less with people "
            "(its issue 116); 1.2 and later are not on PyPI: install the tag v1.3.0 of "
            "github.com/scikit-video/scikit-video for the right one"
        )

    def score(image: Rgb) -> float:
        return -float(module.niqe(_grey(image))[0])

    return Baseline(
        name="niqe",
        source=f"scikit-video {release}",
        parameters_file=Path(module.__file__).parent / "data" / "niqe_image_params.mat",
        lower_is_better=True,
        score=score,
        note=note,
    )


def _adapt_old_niqe(module: Any) -> None:
    """Put back two names that numpy and scipy have dropped since, into this one module alone."""
    io, linalg = (importlib.import_module(f"scipy.{part}") for part in ("io", "linalg"))
    module.np = _Numpy()
    module.scipy = SimpleNamespace(misc=SimpleNamespace(imresize=_halved), io=io, linalg=linalg)


def _brisque() -> Baseline:
    """BRISQUE of the package of that name: the authors' support vectors, evaluated by libsvm."""
    module = _import("brisque", "brisque")
    model = module.BRISQUE()
    scale = model.scale_features
    # It passes arrays of one element to float(), which numpy 2.4 refuses.
    model.scale_features = lambda features: scale([np.ravel(value)[0] for value in features])

    def score(image: Rgb) -> float:
        # An image without any texture has no statistics: the score is nan, and no warning.
        with np.errstate(divide="ignore", invalid="ignore"):
            return -float(model.score(image))

    return Baseline(
        name="brisque",
        source=f"brisque {version('brisque')}",
        parameters_file=Path(module.__file__).parent / "models" / "svm.txt",
        lower_is_better=True,
        score=score,
        note="halves the image without antialiasing, where the authors' code has it",
    )


def _laplacian() -> Baseline:
    """Variance of the 3×3 Laplacian of the grey image: the usual sharpness check."""
    try:
        from scipy.ndimage import laplace
    except ImportError as missing:
        raise MissingExtraError("scipy", "train") from missing

    def score(image: Rgb) -> float:
        return float(laplace(_grey(image).astype(np.float64)).var())

    return Baseline(
        name="laplacian",
        source=f"scipy {version('scipy')}",
        parameters_file=None,
        lower_is_better=False,
        score=score,
    )


BASELINES: Registry[Callable[[], Baseline]] = Registry("baseline")
BASELINES.add("niqe", _niqe)
BASELINES.add("brisque", _brisque)
BASELINES.add("laplacian", _laplacian)
