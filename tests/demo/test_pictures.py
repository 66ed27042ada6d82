"""The demo's pictures with every file of an export: the columns agree with torch."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from edgefiqa.demo import pictures as demo

pytestmark = pytest.mark.slow


def test_every_file_scores_every_picture(tmp_path: Path, export_dir: Path) -> None:
    pictures = demo.write_pictures(tmp_path / "pictures", None)
    scored, is_new = demo.score_pictures("default", export_dir, pictures, tmp_path)
    assert is_new
    columns = {shown.title: shown.scores for shown in scored.columns}
    core_ml = {title for title in columns if title.startswith("coreml")}
    expected = {
        "torch",
        *(f"{name} fp32" for name in ("onnx", "tflite", "tflite-tf", "executorch")),
    }
    assert expected <= set(columns)
    if sys.platform != "darwin":
        assert core_ml == {f"coreml fp{bits}, MIL reference evaluator" for bits in (16, 32)}
    original, _, blurred, *_ = columns["tflite fp32"]
    assert original > blurred
    for title, column in columns.items():
        bound = 5e-3 if "fp16" in title else 1e-4
        assert column == pytest.approx(columns["torch"], abs=bound)
    again, is_new = demo.score_pictures("default", export_dir, pictures, tmp_path)
    assert not is_new and again == scored


def test_the_sheet_and_the_table_name_each_picture(tmp_path: Path) -> None:
    photos = tmp_path / "mine"
    photos.mkdir()
    Image.new("RGB", (800, 600), "teal").save(photos / "wide.png")
    (photos / "broken.png").write_bytes(b"no picture")
    pictures = demo.write_pictures(tmp_path / "pictures", photos)
    assert len(pictures) == 12
    with Image.open(tmp_path / "pictures" / "wide_0.png") as image:
        assert min(image.size) == 512
    values = [number / 100 for number in range(12)]
    demo.write_sheet(pictures, values, tmp_path / "scores.png")
    with Image.open(tmp_path / "scores.png") as image:
        assert image.width > image.height > 400
    scored = demo.Scored(
        pictures={}, columns=[demo.Column(title="torch", sha256="0" * 64, scores=values)]
    )
    lines = demo.pictures_table(pictures, scored, tmp_path).splitlines()
    assert len(lines) == 14
    assert lines[0] == "| picture | torch |"
    assert lines[8] == "| [wide, original](pictures/wide_0.png) | 0.0600 |"
