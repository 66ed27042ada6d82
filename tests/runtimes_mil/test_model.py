"""Prediction: images, arrays, statistics, and what is left behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.runtimes_mil.programs import save

from edgefiqa.errors import UsageError
from edgefiqa.runtimes.imports import import_coremltools
from edgefiqa.runtimes.mil import FP16_MAX, MilModel, MilOp, Mode

pytestmark = pytest.mark.filterwarnings("ignore")  # coremltools warns while it builds programs

PIXELS = np.random.default_rng(5).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def builder() -> Any:
    from coremltools.converters.mil.mil import Builder

    return Builder


def image_package(path: Path, layout: str, **options: Any) -> Path:
    """A program that returns the pixels it is given, halved."""
    ct = import_coremltools()
    channels = 1 if layout == "GRAYSCALE" else 3
    return save(
        path,
        lambda image: builder().mul(x=image, y=0.5, name="half"),
        {"image": (1, channels, 4, 6)},
        inputs=[
            ct.ImageType(
                name="image",
                shape=(1, channels, 4, 6),
                color_layout=getattr(ct.colorlayout, layout),
                **options,
            )
        ],
    )


@pytest.mark.parametrize("layout", ["RGB", "BGR", "GRAYSCALE"])
def test_images_arrive_in_the_models_layout(tmp_path: Path, layout: str) -> None:
    image = Image.fromarray(PIXELS)
    if layout == "GRAYSCALE":
        image = image.convert("L")
    found = MilModel.load(image_package(tmp_path / "a.mlpackage", layout)).predict({"image": image})
    planes = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)[None]
    wanted = planes[:, ::-1] if layout == "BGR" else planes
    np.testing.assert_array_equal(found["half"], wanted * np.float32(0.5))


def test_scale_and_bias_of_an_image_input(tmp_path: Path) -> None:
    path = image_package(tmp_path / "a.mlpackage", "RGB", scale=1 / 128, bias=[-1.0, -0.5, 0.25])
    found = MilModel.load(path).predict({"image": Image.fromarray(PIXELS)})
    bias = np.array([-1.0, -0.5, 0.25], np.float32).reshape(1, 3, 1, 1)
    wanted = (PIXELS.transpose(2, 0, 1)[None] / np.float32(128) + bias) / 2
    np.testing.assert_allclose(found["half"], wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"picture": Image.fromarray(PIXELS)},
        {"image": Image.fromarray(PIXELS).convert("L")},
        {"image": Image.fromarray(PIXELS[:2])},
        {"image": PIXELS},
    ],
)
def test_wrong_inputs_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    model = MilModel.load(image_package(tmp_path / "a.mlpackage", "RGB"))
    with pytest.raises(UsageError, match="image"):
        model.predict(wrong)


def test_arrays_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mlpackage", lambda x: builder().relu(x=x), {"x": (1, 4)})
    with pytest.raises(UsageError, match=r"float32 \[1, 5\].*fp32 \[1, 4\]"):
        MilModel.load(path).predict({"x": np.zeros((1, 5), np.float32)})


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Two ops in float16, of which the second overflows for x > 255."""

    def build(x: Any) -> Any:
        mb = builder()
        third = mb.mul(x=x, y=np.float32(1 / 3), name="third")
        return mb.square(x=mb.add(x=third, y=third, name="twice"), name="squared")

    return save(tmp_path / "chain.mlpackage", build, {"x": (1, 4)}, precision="float16")


def test_modes_differ_by_the_rounding_to_float16(chain: Path) -> None:
    x = np.array([[1.0, 2.0, 3.0, 5.0]], np.float32)
    rounded = MilModel.load(chain).predict({"x": x})["squared"]
    kept = MilModel.load(chain, mode=Mode.FP32).predict({"x": x})["squared"]
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))
    assert not np.array_equal(rounded, kept)
    np.testing.assert_allclose(rounded, kept, rtol=2e-3)


def test_the_largest_intermediate_is_reported(chain: Path) -> None:
    model = MilModel.load(chain)
    found = model.predict({"x": np.array([[3.0, 0, 0, 600.0]], np.float32)})["squared"]
    assert np.isinf(found[0, 3])
    assert model.largest > FP16_MAX
    assert "squared" in model.largest_op
    model.predict({"x": np.ones((1, 4), np.float32)})
    assert model.largest == 1.0


def test_observers_see_inputs_and_every_op_in_order(chain: Path) -> None:
    model = MilModel.load(chain)
    seen: list[MilOp] = []
    tops: dict[str, float] = {}

    def observe(op: MilOp, outputs: tuple[Any, ...]) -> None:
        seen.append(op)
        for declared, value in zip(op.outputs, outputs, strict=True):
            tops[declared.name] = float(value.abs().max())

    model.predict({"x": np.full((1, 4), 3.0, np.float32)}, observe=observe)
    assert [op.type for op in seen] == ["input", *[op.type for op in model.ops]]
    assert tops["x"] == 3.0
    producers = {name for op in seen for name in (o.name for o in op.outputs)}
    assert {n for op in model.ops for n in op.inputs.get("x", ())} <= producers


def test_no_intermediate_is_kept(chain: Path) -> None:
    model = MilModel.load(chain)
    model.predict({"x": np.ones((1, 4), np.float32)})
    assert all(value is None for value in model._program.values)
    assert model.predict({"x": np.ones((1, 4), np.float32)})


def test_it_is_never_called_core_ml(chain: Path) -> None:
    for mode, start in ((Mode.FP16, "("), (Mode.FP32, "without float16 rounding (")):
        runtime = MilModel.load(chain, mode=mode).runtime
        assert runtime.startswith(f"MIL reference evaluator {start}")
        assert "Core ML" not in runtime


def test_two_conversions_have_the_same_op_hash(chain: Path, tmp_path: Path) -> None:
    def build(y: Any) -> Any:
        mb = builder()
        third = mb.mul(x=y, y=np.float32(1 / 3), name="other_name")
        return mb.square(x=mb.add(x=third, y=third))

    again = save(tmp_path / "again.mlpackage", build, {"y": (1, 4)}, precision="float16")
    assert MilModel.load(again).ops_sha256 == MilModel.load(chain).ops_sha256

    def other(y: Any) -> Any:
        mb = builder()
        third = mb.mul(x=y, y=np.float32(1 / 4))
        return mb.square(x=mb.add(x=third, y=third))

    changed = save(tmp_path / "changed.mlpackage", other, {"y": (1, 4)}, precision="float16")
    assert MilModel.load(changed).ops_sha256 != MilModel.load(chain).ops_sha256
