from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgefiqa.benchmarks.studies.teacher_runtimes import measure_teacher_runtimes
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
