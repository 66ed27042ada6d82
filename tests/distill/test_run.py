import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgefiqa.distill import run as stage
from edgefiqa.errors import RecipeError
from edgefiqa.files import sha256_of
from edgefiqa.models import load_model
from edgefiqa.train import Lite0Scorer, load_recipe, save_checkpoint
from edgefiqa.train.run import TeacherRecipe
from edgefiqa.train.run import run as train_teacher

RECIPES = Path(stage.__file__).parent / "recipes"


def recipe(**changes: object) -> stage.DistillRecipe:
    values = {
        "phases": ({"steps": 3, "batch": 4, "crop": 64}, {"steps": 2, "batch": 2, "crop": 64}),
        "rate": 1e-3, "weight_decay": 0.1, "warmup": 2, "clip_norm": 1.0, "average_decay": 0.5,
        "layer_scale": 0.1, "label_weight": 1.0, "teacher_weight": 1.0, "feature_weight": 1.0,
        "guidance_end": 0.1, "plcc_weight": 1.0, "precision": "bfloat16",
        "checkpoint_every": 2, "threads": 1,
    }  # fmt: skip
    return stage.DistillRecipe.model_validate(values | changes)


@pytest.fixture(scope="module")
def teacher_file(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    settings = TeacherRecipe(
        steps=1, batch=4, crop=64, backbone_rate=1e-4, head_rate=1e-3, weight_decay=0.0, warmup=1,
        plcc_weight=1.0, clip_norm=1.0, average_decay=0.5, pretrained=False, checkpoint_every=1,
        threads=1,
    )  # fmt: skip
    return out / train_teacher(settings, tiny_corpus, out).weights


def test_shipped_recipes_load() -> None:
    shipped = load_recipe(RECIPES / "default_student_cpu.yaml", stage.DistillRecipe)
    assert shipped.phases[-1].crop == 288
    assert shipped.steps == sum(phase.steps for phase in shipped.phases)
    text = load_recipe(RECIPES.parent / "cards" / "default_student.yaml", stage.CardText)
    assert "no human labels" in text.training_data


def test_crops_off_the_feature_grid_are_refused(tmp_path: Path) -> None:
    text = (RECIPES / "default_student_cpu.yaml").read_text(encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace("crop: 160", "crop: 150"), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"phases\.0\.crop.*multiple of 32"):
        load_recipe(path, stage.DistillRecipe)


def test_teacher_comes_back_frozen(teacher_file: Path) -> None:
    teacher = stage.load_teacher(teacher_file)
    assert isinstance(teacher, Lite0Scorer)
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("precision", list(stage.Precision))
def test_resumed_equals_uninterrupted(
    precision: stage.Precision,
    tiny_corpus: Path,
    teacher_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = recipe(precision=precision)
    whole = stage.run(settings, tiny_corpus, teacher_file, tmp_path / "whole")

    def save_and_die(path: Path, state: dict[str, object]) -> None:
        save_checkpoint(path, state)
        raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(f"{stage.__name__}.save_checkpoint", save_and_die)
            with pytest.raises(KeyboardInterrupt):
                stage.run(settings, tiny_corpus, teacher_file, tmp_path / "resumed")
    resumed = stage.run(settings, tiny_corpus, teacher_file, tmp_path / "resumed")

    # Tensors, not bytes: the order of a safetensors file's metadata is not fixed.
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert resumed.card.metrics == whole.card.metrics
    logs = [tmp_path / name / "training_log.jsonl" for name in ("whole", "resumed")]
    assert logs[0].read_bytes() == logs[1].read_bytes()


@pytest.mark.slow
def test_result_loads_and_its_card_is_true(
    tiny_corpus: Path, teacher_file: Path, tmp_path: Path
) -> None:
    text = stage.CardText(
        name="n",
        version="3",
        description="d",
        training_data="t",
        licence="Apache-2.0",
        held_back="other noise",
        held_out_types="another noise",
        commands=("make it",),
    )
    result = stage.run(recipe(), tiny_corpus, teacher_file, tmp_path, text=text)
    model, card = load_model(tmp_path)
    assert card == result.card
    assert card.size == 64
    assert [(entry["split"], entry["n"]) for entry in card.metrics] == [
        ("held_back", 8),
        ("held_out_types", 8),
    ]
    assert [entry["data"] for entry in card.metrics] == ["other noise", "another noise"]
    assert (card.name, card.version, card.provenance["commands"]) == ("n", "3", ["make it"])
    assert card.provenance["teacher_sha256"] == sha256_of(teacher_file)
    with torch.inference_mode():
        assert np.isfinite(model(torch.zeros(2, 3, 64, 64)).numpy()).all()
    lines = (tmp_path / "training_log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 5]
