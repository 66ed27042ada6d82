from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from edgefiqa.benchmarks.studies.records import TeacherRuntimesRecord
from edgefiqa.benchmarks.studies.teacher_runtimes import measure_teacher_runtimes
from edgefiqa.cli import app
from edgefiqa.files import sha256_of
from edgefiqa.train import Lite0Scorer


@pytest.mark.slow
def test_every_way_gives_the_same_scores(tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "teacher.safetensors"
    save_file(Lite0Scorer(pretrained=False).state_dict(), file)
    record = measure_teacher_runtimes(file, size=64, batch=3, rounds=2)
    assert record.sha256 == sha256_of(file)
    ways = {way.way: way for way in record.ways}
    assert list(ways) == ["torch float32", "torch bfloat16", "onnxruntime float32"]
    assert ways["onnxruntime float32"].max_abs_difference < 1e-5
    assert ways["torch bfloat16"].max_abs_difference < 0.05
    for way in ways.values():
        assert len(way.samples) == len(way.paired_ratios) == 2
        assert way.image_ms > 0


@pytest.mark.slow
def test_the_command_prints_json_alone_and_writes_it(tmp_path: Path) -> None:
    file, out = tmp_path / "teacher.safetensors", tmp_path / "record.json"
    save_file(Lite0Scorer(pretrained=False).state_dict(), file)
    arguments = ["study", "teacher-runtimes", str(file), "--size", "32", "--batch", "1"]
    arguments += ["--rounds", "1", "--out", str(out)]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    record = TeacherRuntimesRecord.model_validate_json(done.stdout)
    assert record == TeacherRuntimesRecord.model_validate_json(out.read_bytes())
    shown = CliRunner().invoke(app, arguments)
    assert "onnxruntime float32" in shown.stdout and "{" not in shown.stdout
