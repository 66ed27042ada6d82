import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from edgefiqa.errors import CheckpointError
from edgefiqa.train import (
    AveragedWeights,
    MetricsLog,
    load_checkpoint,
    rate_factor,
    save_checkpoint,
)


def test_rate_rises_then_falls() -> None:
    factors = [rate_factor(step, steps=100, warmup=10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1
    assert all(a < b for a, b in pairwise(factors[:10]))
    assert all(a >= b for a, b in pairwise(factors[9:]))
    assert factors[-1] == pytest.approx(0.01, abs=0.002)


def test_average_follows_the_weights() -> None:
    model = nn.BatchNorm1d(2)
    average = AveragedWeights(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.get_buffer("num_batches_tracked").fill_(7)
    for step in range(2000):
        average.update(model, step)
    assert torch.allclose(average.model.state_dict()["weight"], torch.full((2,), 3.0))
    assert average.model.state_dict()["num_batches_tracked"] == 7
    assert not any(p.requires_grad for p in average.model.parameters())


def test_checkpoint_roundtrip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert load_checkpoint(path, recipe={}) is None
    save_checkpoint(path, {"recipe": {"steps": 3}, "step": 2, "w": torch.arange(3)})
    state = load_checkpoint(path, recipe={"steps": 3})
    assert state is not None
    assert state["step"] == 2
    assert torch.equal(state["w"], torch.arange(3))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
    with pytest.raises(CheckpointError, match="another recipe"):
        load_checkpoint(path, recipe={"steps": 4})


def test_damaged_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"recipe": {}, "w": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="damaged checkpoint"):
        load_checkpoint(path, recipe={})


def test_log_drops_what_a_resumed_run_repeats(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = MetricsLog(path, 0)
    for step in (10, 20, 30):
        log.write(step, loss=torch.tensor(0.5), note="x")
    MetricsLog(path, 20).write(25, loss=0.25)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 25]
    assert lines[0] == {"step": 10, "loss": 0.5, "note": "x"}
