"""Packages inside ExecuTorch programs, and programs that hold none."""

import platform
from pathlib import Path

import numpy as np
import pytest

from edgefiqa.errors import ArtifactError, PlatformError, UsageError
from edgefiqa.runtimes import load, load_stand_in
from edgefiqa.runtimes.mil_reference import MilReferenceScorer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NOISE = np.random.default_rng(0).integers(0, 256, (2, 288, 288, 3), dtype=np.uint8)


@pytest.fixture
def delegated(export_dir: Path) -> Path:
    """The default student, lowered to Core ML."""
    (path,) = export_dir.glob("*_coreml.pte")
    return path


def test_the_delegate_holds_the_network(delegated: Path, export_dir: Path) -> None:
    scorer = load_stand_in(delegated, threads=1)
    assert scorer is not None
    assert scorer.size == 288
    (package,) = export_dir.glob("*fp16.mlpackage")
    wanted = MilReferenceScorer(package, threads=1).score(NOISE)
    np.testing.assert_allclose(scorer.score(NOISE), wanted, rtol=0, atol=5e-3)
    assert scorer.score(NOISE[:0]).shape == (0,)
    with pytest.raises(UsageError, match=r"uint8 \[n, 288, 288, 3\]"):
        scorer.score(NOISE.astype(np.float32))


@pytest.mark.skipif(platform.system() == "Darwin", reason="ExecuTorch runs it here")
def test_it_is_scored_by_default_and_executorch_itself_is_refused(
    delegated: Path, export_dir: Path
) -> None:
    for runtime in (None, "mil-reference"):
        scorer = load(delegated, runtime=runtime, threads=1)
        assert scorer.runtime.startswith("MIL reference evaluator")
        assert scorer.runtime.endswith("of the package in the delegate")
    with pytest.raises(PlatformError, match="needs macOS or iOS"):
        load(delegated, runtime="executorch")
    (plain,) = export_dir.glob("*fp32.pte")
    with pytest.raises(ArtifactError, match="not one CoreMLBackend delegate"):
        load(plain, runtime="mil-reference")


def test_programs_without_a_delegate_for_core_ml_are_refused(export_dir: Path) -> None:
    (path,) = export_dir.glob("*fp32.pte")
    with pytest.raises(
        ArtifactError, match=r"not one CoreMLBackend delegate but \d+, with .*Xnnpack"
    ):
        load_stand_in(path, threads=1)


@pytest.mark.parametrize("share", [1e-5, 0.001, 0.5])
def test_truncated_programs_are_refused(delegated: Path, tmp_path: Path, share: float) -> None:
    content = delegated.read_bytes()
    path = tmp_path / "truncated.pte"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ArtifactError):
        load_stand_in(path, threads=1)


def test_other_formats_need_none(export_dir: Path) -> None:
    for pattern in ("*.onnx", "*fp16.mlpackage"):
        (path,) = export_dir.glob(pattern)
        assert load_stand_in(path, threads=1) is None
