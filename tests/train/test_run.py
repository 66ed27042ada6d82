import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgefiqa.data.corpus import open_corpus
from edgefiqa.errors import CheckpointError
from edgefiqa.files import sha256_of
from edgefiqa.train import Lite0Scorer, load_recipe, save_checkpoint, score_images
from edgefiqa.train import run as stage

RECIPES = Path(stage.__file__).parent / "recipes"


def recipe(**changes: object) -> stage.TeacherRecipe:
    values = {
        "steps": 4, "batch": 4, "crop": 64, "backbone_rate": 1e-4, "head_rate": 1e-3,
        "weight_decay": 0.01, "warmup": 1, "plcc_weight": 1.0, "clip_norm": 5.0,
        "average_decay": 0.5, "pretrained": False, "checkpoint_every": 2, "threads": 1,
    }  # fmt: skip
    return stage.TeacherRecipe.model_validate(values | changes)


def test_shipped_recipes_load() -> None:
    assert load_recipe(RECIPES / "teacher_lite0_cpu.yaml", stage.TeacherRecipe).threads >= 1


@pytest.mark.slow
def test_resumed_equals_uninterrupted(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stage.run(recipe(), tiny_corpus, tmp_path / "whole")

    def save_and_die(path: Path, state: dict[str, object]) -> None:
        save_checkpoint(path, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"{stage.__name__}.save_checkpoint", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            stage.run(recipe(), tiny_corpus, tmp_path / "resumed")
    resumed = stage.run(recipe(), tiny_corpus, tmp_path / "resumed")

    assert resumed == whole
    for name in ("teacher.safetensors", "result.json", "log.jsonl"):
        whole_file, resumed_file = tmp_path / "whole" / name, tmp_path / "resumed" / name
        assert whole_file.read_bytes() == resumed_file.read_bytes()


@pytest.mark.slow
def test_result_describes_the_file(tiny_corpus: Path, tmp_path: Path) -> None:
    result = stage.run(recipe(), tiny_corpus, tmp_path)
    weights = tmp_path / result.weights
    assert result.sha256 == sha256_of(weights)
    assert {entry["split"]: entry["n"] for entry in result.metrics} == {
        "held_back": 8,
        "held_out_types": 8,
    }
    teacher = Lite0Scorer(pretrained=False)
    teacher.load_state_dict(load_file(weights))
    corpus = open_corpus(tiny_corpus)
    scores = score_images(teacher, corpus.images, np.arange(40))
    assert scores.shape == (40,)
    assert np.isfinite(scores).all()
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


@pytest.mark.slow
def test_checkpoint_of_another_recipe_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    stage.run(recipe(steps=2), tiny_corpus, tmp_path)
    with pytest.raises(CheckpointError, match="another recipe"):
        stage.run(recipe(steps=3), tiny_corpus, tmp_path)


def test_scoring_does_not_depend_on_the_batch(tiny_corpus: Path) -> None:
    torch.manual_seed(0)
    teacher = Lite0Scorer(pretrained=False)
    teacher.train()
    images = open_corpus(tiny_corpus).images
    one = score_images(teacher, images, np.arange(6), batch=1)
    six = score_images(teacher, images, np.arange(6), batch=6)
    np.testing.assert_allclose(one, six, atol=1e-5)
    assert teacher.training
    assert score_images(teacher, images, np.arange(0)).shape == (0,)
