"""Each vendor's path on a small network: the file runs, keeps the contract, follows the float."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.models import save_lively

from edgefiqa.convert.run import run as convert
from edgefiqa.convert.targets import parse_targets
from edgefiqa.files import size_of
from edgefiqa.isolation import call_isolated
from edgefiqa.manifest import FileMetadata, Manifest
from edgefiqa.models import load_model
from edgefiqa.quantize.vendor import VENDORS, Scheme, VendorJob, quantize_with_vendor
from edgefiqa.runtimes import Format, load, read_metadata
from edgefiqa.runtimes.torch import score_with_torch

pytestmark = pytest.mark.slow

SIZE = 64
CASES = [(name, scheme) for name, vendor in VENDORS for scheme in vendor.schemes]
# Minutes each; the others are run by EDGEFIQA_VENDORS=1.
QUICK = {
    ("onnxruntime", Scheme.STATIC),
    ("ai-edge-quantizer", Scheme.DYNAMIC),
    ("ai-edge-quantizer", Scheme.STATIC),
    ("coreml-weights", Scheme.WEIGHT_ONLY),
}
# LiteRT refuses what the tool makes of this network ("num_scales must be 1 …"): a finding about the
# plain path, not a fault of ours. It runs the default student's.
REFUSED = {("ai-edge-quantizer", Scheme.STATIC)}
# The Keras twin exists of four architectures only.
MODELS = {"tflite-tf": "mobilenetv2"}
# The operator that shows it; the other pairs keep their operators and show it in their size alone.
SIGNS = {
    (Format.ONNX, Scheme.STATIC): "quantizelinear",
    (Format.ONNX, Scheme.DYNAMIC): "matmulinteger",
    (Format.ONNX, Scheme.WEIGHT_ONLY): "matmulnbits",
    (Format.TFLITE, Scheme.STATIC): "'quantize'",
    (Format.TFLITE, Scheme.WEIGHT_ONLY): "'dequantize'",
    (Format.COREML, Scheme.STATIC): "'quantize'",
    (Format.COREML, Scheme.WEIGHT_ONLY): "constexpr_",
    (Format.TORCH, Scheme.STATIC): "quantize_per_tensor",
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model directory and its export."""

    model: Path
    files: Path
    calibration: Path
    images: NDArray[np.uint8]
    scores: NDArray[np.float32]


def _images() -> NDArray[np.uint8]:
    """Noise of many brightnesses and contrasts: scores that differ."""
    random = np.random.default_rng(1)
    centre, spread = random.uniform(30, 220, (12, 1, 1, 3)), random.uniform(5, 60, (12, 1, 1, 1))
    noise = random.normal(size=(12, SIZE, SIZE, 3))
    return (centre + spread * noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """The float exports that paths start from."""
    found, images = {}, _images()
    for name, targets in {"timm:test_convnext": "onnx,tflite,coreml", "mobilenetv2": ""}.items():
        folder = tmp_path_factory.mktemp(name.replace(":", "_"))
        save_lively(name, SIZE, folder / "model")
        np.save(folder / "calibration.npy", images)
        if targets:
            convert(str(folder / "model"), parse_targets(targets), out=folder / "export")
        model, _ = load_model(folder / "model")
        found[name] = Exported(
            model=folder / "model",
            files=folder / "export",
            calibration=folder / "calibration.npy",
            images=images,
            scores=score_with_torch(model, images),
        )
    return found


def _job(name: str, scheme: Scheme, source: Exported, out: Path) -> VendorJob:
    vendor, float_file = VENDORS.get(name), None
    _, card = load_model(source.model)
    if vendor.starts_from is not None:
        wanted = (vendor.starts_from.target, vendor.starts_from.precision)
        artifacts = Manifest.load(source.files).artifacts
        (float_file,) = (
            source.files / a.file for a in artifacts if (a.target, a.precision) == wanted
        )
    return VendorJob(
        vendor=name,
        scheme=scheme,
        source=str(source.model),
        size=SIZE,
        calibration=source.calibration,
        out=out / f"int8{vendor.suffix}",
        float_file=float_file,
        metadata=FileMetadata(
            name=card.name,
            model=card.model,
            version=card.version,
            licence=card.licence,
            score_range=card.score_range,
            parent_sha256=card.sha256,
            precision=f"int8-{scheme.value}",
            contract={"size": SIZE},
        ),
    )


def _score_torch_program(
    path: Path, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], dict[str, object]]:
    from edgefiqa.quantize.vendor.nncf_fx import TorchProgramScorer

    scorer = TorchProgramScorer(path)
    return scorer.score(images), scorer.metadata


def _score(path: Path, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], dict[str, object]]:
    return load(path, threads=1).score(images), read_metadata(path)


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_a_path_writes_a_smaller_file_that_follows_the_float(
    name: str, scheme: Scheme, exported: dict[str, Exported], tmp_path: Path
) -> None:
    if (name, scheme) not in QUICK and not os.environ.get("EDGEFIQA_VENDORS"):
        pytest.skip("EDGEFIQA_VENDORS is not set: this vendor's path takes minutes")
    source, vendor = exported[MODELS.get(name, "timm:test_convnext")], VENDORS.get(name)
    job = _job(name, scheme, source, tmp_path)
    notes = call_isolated(tmp_path / "log", quantize_with_vendor, job)
    assert (notes.failure is not None) is ((name, scheme) in REFUSED)
    if notes.failure is not None:
        return
    assert notes.tools
    assert notes.seconds > 0
    assert SIGNS.get((vendor.format, scheme), "") in str(notes.structure).lower()
    if job.float_file is not None:
        assert size_of(job.out) < size_of(job.float_file)
    elif vendor.runnable:  # the program of a small network is larger than its weights
        assert size_of(job.out) < size_of(source.model / "model.safetensors")
    if vendor.format is Format.COREML:
        assert read_metadata(job.out)["precision"] == f"int8-{scheme.value}"
        return
    run = _score if vendor.runnable else _score_torch_program
    scores, metadata = call_isolated(None, run, job.out, source.images)
    assert metadata["precision"] == f"int8-{scheme.value}"
    # Activations in int8 spread on MobileNetV2 with random weights, whatever the tool.
    least = 0.98 if scheme is not Scheme.STATIC and name != "tflite-tf" else 0.8
    assert np.corrcoef(scores, source.scores)[0, 1] > least
    assert not np.array_equal(scores, source.scores)


def test_another_file_than_a_program_is_no_reference(tmp_path: Path) -> None:
    from edgefiqa.errors import ArtifactError
    from edgefiqa.quantize.vendor.nncf_fx import TorchProgramScorer

    path = tmp_path / "program.pt2"
    path.write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"torch\.export cannot load"):
        TorchProgramScorer(path)


def test_an_architecture_without_a_twin_is_refused(
    exported: dict[str, Exported], tmp_path: Path
) -> None:
    from edgefiqa.errors import UsageError

    job = _job("tflite-tf", Scheme.STATIC, exported["mobilenetv2"], tmp_path)
    job = dataclasses.replace(job, source=str(exported["timm:test_convnext"].model))
    with pytest.raises(UsageError, match="no Keras twin"):
        call_isolated(tmp_path / "log", quantize_with_vendor, job)
