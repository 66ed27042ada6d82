"""A file that disagrees with torch must not exist."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from tests.models import lively, save_lively

from edgefiqa.convert import parity
from edgefiqa.convert.exporters import onnx as onnx_exporter
from edgefiqa.convert.exporters.base import Notes
from edgefiqa.convert.parity import ParityReference, compare, load_tolerances
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.convert.targets import TARGETS, parse_targets
from edgefiqa.convert.worker import ExportJob, load_reference, run_job, save_reference
from edgefiqa.errors import MissingExtraError, ParityError, UnknownNameError, UsageError
from edgefiqa.manifest import FileMetadata
from edgefiqa.preprocess import InputContract
from edgefiqa.runtimes.torch import score_with_torch

SIZE = 64


@pytest.fixture
def job(tmp_path: Path) -> ExportJob:
    model = lively("mspt")
    card = save_lively("mspt", SIZE, tmp_path / "model")
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    reference = ParityReference(
        names=["one", "two", "three"],
        images=images,
        scores=score_with_torch(model, images),
        runtime="torch",
        photos="noise",
    )
    save_reference(reference, tmp_path / "reference.npz")
    return ExportJob(
        source=str(tmp_path / "model"),
        target="onnx",
        size=SIZE,
        path=tmp_path / "out" / "test.onnx",
        metadata=FileMetadata(
            name=card.name,
            model=card.model,
            version=card.version,
            licence=card.licence,
            score_range=card.score_range,
            parent_sha256=card.sha256,
            precision="fp32",
            contract=InputContract(size=SIZE).to_dict(),
        ),
        reference=tmp_path / "reference.npz",
        tolerance=1e-4,
    )


@pytest.mark.slow
def test_a_good_export_is_written(job: ExportJob) -> None:
    artifact = run_job(job)
    assert job.path.is_file()
    assert artifact.parity[0].images == 3
    assert artifact.parity[0].max_abs_error < 1e-4


@pytest.mark.slow
def test_a_wrong_export_leaves_no_file(job: ExportJob, monkeypatch: pytest.MonkeyPatch) -> None:
    export = onnx_exporter.export

    def with_wrong_mean(
        scorer: ExportScorer, *, size: int, path: Path, metadata: FileMetadata
    ) -> Notes:
        scorer.normalise.mean.add_(3)  # type: ignore[operator]
        return export(scorer, size=size, path=path, metadata=metadata)

    monkeypatch.setattr(onnx_exporter, "export", with_wrong_mean)
    with pytest.raises(ParityError, match=r"onnxruntime .* scores '(one|two|three)' .* torch"):
        run_job(job)
    assert list(job.path.parent.iterdir()) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.5002])
def test_scores_out_of_tolerance(tmp_path: Path, bad: float) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(b"x")
    reference = ParityReference(
        names=["good", "bad"],
        images=np.zeros((2, 8, 8, 3), np.uint8),
        scores=np.array([0.1, 0.5], np.float32),
        runtime="torch",
        photos="none",
    )
    with pytest.raises(ParityError, match=r"'bad'.*1 of 2 images"):
        compare(np.array([0.1, bad], np.float32), reference, file=file, runtime="r", tolerance=1e-4)
    found = compare(reference.scores, reference, file=file, runtime="r", tolerance=0.0)
    assert (found.max_abs_error, found.images) == (0.0, 2)


def test_the_bound_grows_with_scores_beyond_one(tmp_path: Path) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(b"x")
    reference = ParityReference(
        names=["small", "large"],
        images=np.zeros((2, 8, 8, 3), np.uint8),
        scores=np.array([0.5, -70.0], np.float32),
        runtime="torch",
        photos="none",
    )
    near = np.array([0.50005, -70.005], np.float32)
    found = compare(near, reference, file=file, runtime="r", tolerance=1e-4)
    assert found.worst_image == "large"
    assert found.max_abs_error == pytest.approx(0.005, rel=1e-2)
    for far in ([0.5002, -70.0], [0.5, -70.02]):
        with pytest.raises(ParityError):
            compare(np.array(far, np.float32), reference, file=file, runtime="r", tolerance=1e-4)


def test_references_survive_the_file(job: ExportJob) -> None:
    reference = load_reference(job.reference)
    assert reference.names == ["one", "two", "three"]
    assert reference.images.shape == (3, SIZE, SIZE, 3)
    assert (reference.runtime, reference.photos) == ("torch", "noise")


def test_a_missing_toolkit_names_the_extra(job: ExportJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_args: object, **_kwargs: object) -> Notes:
        raise ModuleNotFoundError(name="onnxscript")

    monkeypatch.setattr(onnx_exporter, "export", absent)
    with pytest.raises(MissingExtraError, match=r"onnxscript.*edgefiqa\[convert\]"):
        run_job(job)


def test_only_a_second_opinion_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Perfect:
        runtime = "litert 0"

        def score(self, images: np.ndarray) -> np.ndarray:
            return np.zeros(len(images), np.float32)

    def load(_file: Path, *, runtime: str, threads: int) -> Perfect:
        assert threads == 1
        if runtime in missing:
            raise MissingExtraError(runtime, "tflite")
        return Perfect()

    monkeypatch.setattr(parity, "load", load)
    file = tmp_path / "x.tflite"
    file.write_bytes(b"x")
    target = TARGETS.get("tflite")
    reference = ParityReference(
        names=["a"],
        images=np.zeros((1, 8, 8, 3), np.uint8),
        scores=np.zeros(1, np.float32),
        runtime="torch",
        photos="none",
    )
    missing = {"tensorflow"}
    done, not_executed = parity.check_parity(file, target.format, reference, tolerance=0.1)
    assert [d.runtime for d in done] == ["litert 0"]
    assert [n.runtime for n in not_executed] == ["tensorflow"]
    missing = {"litert"}
    with pytest.raises(MissingExtraError):
        parity.check_parity(file, target.format, reference, tolerance=0.1)


def test_targets_are_parsed() -> None:
    assert [t.name for t in parse_targets("onnx, tflite")] == ["onnx", "tflite"]
    for text in ("", ",", "onnx,onnx"):
        with pytest.raises(UsageError):
            parse_targets(text)
    with pytest.raises(UnknownNameError, match="executorch-coreml"):
        parse_targets("onnx,keras")


def test_every_precision_has_a_tolerance() -> None:
    tolerances = load_tolerances()
    assert {p for _, target in TARGETS for p in target.precisions} <= tolerances.keys()


def test_errors_come_back_whole_from_a_process() -> None:
    error = pickle.loads(pickle.dumps(MissingExtraError("onnx", "onnx")))
    assert isinstance(error, MissingExtraError)
    assert str(error) == str(MissingExtraError("onnx", "onnx"))
    assert error.exit_code == 2
