"""What is refused before a vendor's tool is loaded, and what is kept when one fails."""

import ast
import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from edgefiqa.convert.targets import TARGETS
from edgefiqa.errors import DataError, MissingExtraError, UnknownNameError, UsageError
from edgefiqa.manifest import FileMetadata
from edgefiqa.preprocess import InputContract
from edgefiqa.quantize.vendor import VENDORS, Scheme, Vendor, VendorJob, quantize_with_vendor
from edgefiqa.quantize.vendor import run as vendor_run
from edgefiqa.quantize.vendor.calibration_images import open_calibration, single_images
from edgefiqa.registry import Registry
from edgefiqa.runtimes import Format
from edgefiqa.runtimes.formats import SUFFIXES

SIZE = 32


@pytest.fixture
def job(tmp_path: Path) -> VendorJob:
    """A job that only a tool can refuse."""
    np.save(tmp_path / "calibration.npy", np.zeros((2, SIZE, SIZE, 3), np.uint8))
    (tmp_path / "float.onnx").write_bytes(b"\x08")
    return VendorJob(
        vendor="nncf-onnx",
        scheme=Scheme.STATIC,
        source="default",
        size=SIZE,
        calibration=tmp_path / "calibration.npy",
        out=tmp_path / "out" / "int8.onnx",
        float_file=tmp_path / "float.onnx",
        metadata=FileMetadata(
            name="n",
            model="m",
            version="1",
            licence="Apache-2.0",
            score_range=(0.0, 1.0),
            parent_sha256="0",
            precision="int8",
            contract=InputContract(size=SIZE).to_dict(),
        ),
    )


def broken(function: str) -> Registry[Vendor]:
    vendor = Vendor(
        name="broken",
        format=Format.TFLITE,
        suffix=".tflite",
        schemes=(Scheme.STATIC,),
        function=f"tests.quantize.vendor.broken_paths:{function}",
        provides=("broken",),
    )
    registry: Registry[Vendor] = Registry("vendor")
    registry.add("broken", vendor)
    return registry


@pytest.fixture
def broken_job(job: VendorJob) -> VendorJob:
    return dataclasses.replace(job, vendor="broken", out=job.out.with_suffix(".tflite"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"vendor": "nncf-onx"}, UnknownNameError, "nncf-onnx"),
        ({"scheme": Scheme.DYNAMIC}, UsageError, "dynamic_w8.*Allowed: static_w8a8"),
        ({"float_file": None}, UsageError, "convert default --to onnx"),
        ({"float_file": Path("nowhere.onnx")}, UsageError, "nowhere.onnx"),
        ({"out": Path("int8.tflite")}, UsageError, "int8.tflite.*Allowed: .onnx"),
        ({"calibration": Path("nowhere.npy")}, DataError, "FileNotFoundError.*nowhere"),
        ({"size": 64}, UsageError, r"\[2, 32, 32, 3\].*\[n, 64, 64, 3\]"),
    ],
)
def test_a_wrong_job_is_refused(
    job: VendorJob, change: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        quantize_with_vendor(dataclasses.replace(job, **change))  # type: ignore[arg-type]
    assert not job.out.exists()


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((0, SIZE, SIZE, 3), np.uint8), DataError, "the calibration set is empty"),
        (np.zeros((2, SIZE, SIZE, 3), np.float32), UsageError, "float32"),
        (np.zeros((SIZE, SIZE, 3), np.uint8), UsageError, "wrong type or shape"),
    ],
)
def test_calibration_photographs_are_checked(
    job: VendorJob, images: np.ndarray, error: type[Exception], message: str
) -> None:
    np.save(job.calibration, images)
    with pytest.raises(error, match=message):
        quantize_with_vendor(job)


def test_a_file_that_is_no_array_is_refused(job: VendorJob) -> None:
    job.calibration.write_bytes(b"JPEG")
    with pytest.raises(DataError, match="cannot be read"):
        open_calibration(job.calibration, SIZE)


def test_single_images_are_copies(job: VendorJob) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    np.save(job.calibration, images)
    found = list(single_images(open_calibration(job.calibration, SIZE)))
    np.testing.assert_array_equal(np.concatenate(found), images)
    found[0][:] = 0  # the mapped file is read only; tools may write into what they get


def test_a_missing_package_names_its_extra(job: VendorJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edgefiqa.quantize.vendor.nncf_onnx", raising=False)
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtraError, match=r"'nncf'.*edgefiqa\[quantize\]"):
        quantize_with_vendor(job)
    assert not job.out.exists()


def test_a_fault_of_somebody_else_is_not_called_a_missing_extra(
    broken_job: VendorJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor_run, "VENDORS", broken("need_a_package_of_somebody_else"))
    with pytest.raises(ModuleNotFoundError, match="elsewhere"):
        quantize_with_vendor(broken_job)


def test_a_file_that_its_runtime_refuses_is_kept_and_said(
    broken_job: VendorJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor_run, "VENDORS", broken("write_what_no_runtime_loads"))
    notes = quantize_with_vendor(broken_job)
    assert notes.failure is not None
    assert "cannot load this file" in notes.failure
    assert notes.tools == {"broken": "1"}
    assert broken_job.out.is_file()


def test_a_path_that_stops_leaves_no_file(
    broken_job: VendorJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor_run, "VENDORS", broken("stop_half_way"))
    with pytest.raises(UsageError, match="stopped half way"):
        quantize_with_vendor(broken_job)
    assert not list(broken_job.out.parent.iterdir())


@pytest.mark.parametrize("name", VENDORS.names())
def test_rows_name_what_exists(name: str) -> None:
    """Without importing: the tools do not tolerate each other in one process."""
    vendor = VENDORS.get(name)
    module, _, function = vendor.function.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert vendor.schemes
    if vendor.runnable:
        assert SUFFIXES[vendor.suffix] is vendor.format
    if vendor.starts_from is not None:
        target = TARGETS.get(vendor.starts_from.target)
        assert target.format is vendor.format
        assert vendor.starts_from.precision in target.precisions
