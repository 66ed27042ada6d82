"""One suite for every exported format and every runtime: the scorer contract."""

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from tests.conftest import FACES
from tests.warm_processes import call_warm
from torch import nn

from edgefiqa.errors import PlatformError, UsageError
from edgefiqa.manifest import Artifact, Manifest
from edgefiqa.models import default_model_dir
from edgefiqa.preprocess import load_tensor
from edgefiqa.runtimes import RUNTIMES, load, read_metadata

pytestmark = pytest.mark.slow

# Core ML's delegate exists on macOS only; elsewhere the evaluator runs the package inside.
DELEGATE = "executorch" if platform.system() == "Darwin" else "mil-reference"
# target, precision, runtime; what cannot run on this system is listed too, and must say so
CASES = [
    ("onnx", "fp32", "onnxruntime"),
    ("tflite", "fp32", "litert"),
    ("tflite", "fp32", "tensorflow"),
    ("tflite-tf", "fp32", "litert"),
    ("tflite-tf", "fp32", "tensorflow"),
    ("executorch", "fp32", "executorch"),
    ("executorch-coreml", "fp16", DELEGATE),
    ("coreml", "fp16", "coreml"),
    ("coreml", "fp32", "coreml"),
    ("coreml", "fp16", "mil-reference"),
    ("coreml", "fp32", "mil-reference"),
]
TOLERANCE = {"fp32": 1e-4, "fp16": 5e-3}
TIGHTER = {("mil-reference", "fp32"): 1e-5}
SAYS = {"mil-reference": "MIL reference evaluator"}  # in records; the others give their name


def find(export_dir: Path, target: str, precision: str) -> Artifact:
    (artifact,) = (
        a
        for a in Manifest.load(export_dir).artifacts
        if (a.target, a.precision) == (target, precision)
    )
    return artifact


@dataclass(frozen=True)
class Probe:
    """What one file did in one runtime, in a separate process."""

    faces: NDArray[np.float32]
    one_thread: NDArray[np.float32]
    two_threads: NDArray[np.float32]
    refusals: list[str]


NOISE = np.random.default_rng(0).integers(0, 256, (4, 288, 288, 3), dtype=np.uint8)
WRONG: tuple[NDArray[Any], ...] = (
    np.zeros((1, 288, 288, 3), np.float32),
    np.zeros((1, 3, 288, 288), np.uint8),
    np.zeros((1, 224, 224, 3), np.uint8),
    np.zeros((288, 288, 3), np.uint8),
)


def probe(path: Path, runtime: str, faces: NDArray[np.uint8]) -> Probe:
    """Load a file and ask everything that the tests below want to know."""
    scorer = load(path, runtime=runtime, threads=1)
    refusals = []
    for images in WRONG:
        try:
            scorer.score(images)
        except UsageError as error:
            refusals.append(str(error))
    scores = scorer.score(faces), scorer.score(NOISE)
    reversed_ = load(path, runtime=runtime, threads=2).score(NOISE[::-1])
    return Probe(*scores, reversed_[::-1], refusals)


@pytest.fixture(scope="session", params=CASES, ids="-".join)
def probed(
    request: pytest.FixtureRequest, export_dir: Path, tensors: NDArray[np.uint8]
) -> tuple[float, Probe]:
    """Every file in every runtime; skipped, visibly, where the system cannot run it."""
    target, precision, runtime = request.param
    path = export_dir / find(export_dir, target, precision).file
    try:
        tolerance = TIGHTER.get((runtime, precision), TOLERANCE[precision])
        return tolerance, call_warm(None, probe, path, runtime, tensors)
    except PlatformError as error:
        pytest.skip(str(error))


class PlainStudent(nn.Module):
    """The paper's student written down again from its description, without edgefiqa."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.backbone = timm.create_model("edgenext_xx_small", num_classes=0)
        self.backbone.head = nn.Identity()
        self.head = nn.Sequential(nn.Linear(168, 128), nn.Linear(128, 1))
        self.load_state_dict(load_file(weights))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.backbone.forward_features(x)
        scores: torch.Tensor = self.head(maps.mean((2, 3)))
        return scores[:, 0]


@pytest.fixture(scope="session")
def expected(faces: list[Path]) -> NDArray[np.float32]:
    """Scores of the photographs by torchvision's transforms and the plain network."""
    transform = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(288, antialias=True),
            torchvision.transforms.CenterCrop(288),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    model = PlainStudent(default_model_dir() / "model.safetensors").eval()
    with torch.inference_mode():
        batch = torch.stack([transform(Image.open(path).convert("RGB")) for path in faces])
        scores: NDArray[np.float32] = torch.cat([model(part) for part in batch.split(20)]).numpy()
    return scores


@pytest.fixture(scope="session")
def tensors(request: pytest.FixtureRequest) -> NDArray[np.uint8]:
    """The photographs as tensors; none where there is no folder of them."""
    if not os.environ.get(FACES):
        return np.empty((0, 288, 288, 3), np.uint8)
    faces: list[Path] = request.getfixturevalue("faces")
    return np.concatenate([load_tensor(path, 288) for path in faces])


@pytest.mark.faces
def test_scores_equal_the_plain_network_on_real_faces(
    probed: tuple[float, Probe], expected: NDArray[np.float32]
) -> None:
    tolerance, result = probed
    assert result.faces.dtype == np.float32
    assert result.faces.shape == (100,)
    assert np.ptp(expected) > 0.1, "the photographs must not all score alike"
    np.testing.assert_allclose(result.faces, expected, rtol=0, atol=tolerance)


def test_scores_do_not_depend_on_threads_or_order(probed: tuple[float, Probe]) -> None:
    _, result = probed
    np.testing.assert_allclose(result.one_thread, result.two_threads, rtol=0, atol=1e-6)
    assert len(set(result.one_thread.tolist())) == 4


def test_wrong_images_are_refused(probed: tuple[float, Probe]) -> None:
    _, result = probed
    assert len(result.refusals) == len(WRONG)
    assert all("uint8 [n, 288, 288, 3]" in refusal for refusal in result.refusals)


@pytest.mark.parametrize(("target", "precision"), sorted({case[:2] for case in CASES}))
def test_metadata_is_inside_the_file(export_dir: Path, target: str, precision: str) -> None:
    artifact = find(export_dir, target, precision)
    found = call_warm(None, read_metadata, export_dir / artifact.file)
    card = json.loads((default_model_dir() / "card.json").read_text())
    assert found["name"] == card["name"]
    assert found["version"] == card["version"]
    assert found["licence"] == card["licence"]
    assert found["score_range"] == card["score_range"]
    assert found["parent_sha256"] == card["sha256"]
    assert found["precision"] == precision
    assert found["contract"]["size"] == 288
    assert found["contract"]["layout"] == "NHWC"


@pytest.mark.parametrize(("target", "precision", "runtime"), CASES)
def test_manifest_says_what_was_and_was_not_executed(
    export_dir: Path, target: str, precision: str, runtime: str
) -> None:
    artifact = find(export_dir, target, precision)
    name = SAYS.get(runtime, runtime)
    executed = [parity for parity in artifact.parity if parity.runtime.startswith(name)]
    refused = [entry for entry in artifact.not_executed if entry.runtime == runtime]
    assert len(executed) + len(refused) == 1
    for parity in executed:
        assert parity.sha256 == artifact.sha256
        assert parity.max_abs_error <= parity.tolerance
        assert parity.images >= 20


def test_every_runtime_is_covered() -> None:
    assert {runtime for _, _, runtime in CASES} == {name for name, _ in RUNTIMES} - {"torch"}


def test_the_core_ml_delegate_is_evaluated_where_it_cannot_run(export_dir: Path) -> None:
    artifact = find(export_dir, "executorch-coreml", "fp16")
    (parity,) = artifact.parity
    for refused in artifact.not_executed:
        assert refused.runtime == "executorch"
        assert parity.runtime.startswith("MIL reference evaluator")
        assert parity.runtime.endswith("of the package in the delegate")
    assert 0 < parity.max_abs_error <= 5e-3
