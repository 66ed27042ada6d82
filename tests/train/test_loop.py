import errno
import json
import math
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgefiqa.data.image_set import ImageSet, Split
from edgefiqa.errors import CheckpointError, DataError, EdgeFiqaError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.train import (
    Guidance,
    TrainingSet,
    TrainRecipe,
    evaluate,
    fit,
    labelled_rows,
)
from edgefiqa.train.sets import SamplingPlan, draw_position
from edgefiqa.train.tracking import read_log

MakeRecipe = Callable[..., TrainRecipe]
Start = Callable[..., "subprocess.Popen[str]"]


class Tiny(nn.Module):
    """Mean colour and a little noise; small enough to train in milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4), nn.ReLU())
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(4, 1)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.drop(self.backbone(images).mean((2, 3)))
        scores: Tensor = self.head(pooled).squeeze(1)
        return scores


def sets_of(images: ImageSet) -> tuple[list[TrainingSet], TrainingSet]:
    return [labelled_rows(images, Split.TRAIN)], labelled_rows(images, Split.HELD_BACK)


def train(images: ImageSet, recipe: TrainRecipe, out: Path, **options: Any) -> Any:
    return fit(Tiny(), *sets_of(images), recipe, out, **options)


def test_learns_and_keeps_the_best(
    images: ImageSet, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(phases=[{"steps": 60, "batch": 8, "crop": 64}], rate=3e-2, clip_norm=1.0)
    model = Tiny()
    result = fit(model, *sets_of(images), recipe, tmp_path)
    log = read_log(tmp_path / "training_log.jsonl")
    measured = {line["step"]: line for line in log if "srcc" in line}
    quality = {step: (line["srcc"] + line["plcc"]) / 2 for step, line in measured.items()}
    assert result.metrics["srcc"] > 0.9
    assert result.metrics["step"] == max(quality, key=lambda step: quality[step])
    assert sorted(measured) == list(range(4, 61, 4))
    losses = [line["loss"] for line in log if "loss" in line]
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) / 2
    again = evaluate(model, images, images.rows(Split.HELD_BACK))
    assert again["srcc"] == result.metrics["srcc"]
    assert result.sha256 == sha256_of(result.weights)
    assert {path.name for path in tmp_path.iterdir()} == {
        "best.safetensors", "checkpoint.pt", "curves.png", "tensorboard", "training_log.jsonl",
    }  # fmt: skip


def test_loss_is_the_sum_of_the_sets_means(
    images: ImageSet, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Equations 3 and 4: a set of twice the batch does not count twice."""
    recipe = make_recipe(loss="mse", phases=[{"steps": 1, "batch": 4, "crop": 64}])
    (labelled,), held_back = sets_of(images)
    rows = labelled.rows[:20]
    pseudo = TrainingSet("pseudo", images, rows, np.full(20, 0.3, np.float32), 0.5, batch=8)
    pseudo.targets[0] = 0.4
    model = Tiny()
    model.drop.p = 0.0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, [labelled, pseudo], held_back, recipe, tmp_path)
    logged = read_log(tmp_path / "training_log.jsonl")[0]["loss"]

    batch = draw_position(
        [labelled, pseudo], SamplingPlan(recipe, [labelled, pseudo]).at(0), recipe.seed
    )
    assert batch.sizes == [4, 8]
    model.load_state_dict(before)
    with torch.no_grad():
        errors = (model.train()(batch.images) - batch.targets).square()
    assert logged == pytest.approx((errors[:4].mean() + 0.5 * errors[4:].mean()).item(), abs=1e-6)


def test_targets_belong_to_their_images(images: ImageSet, make_recipe: MakeRecipe) -> None:
    rows = images.rows(Split.TRAIN)[::-1].copy()
    chosen = TrainingSet("a", images, rows, images.labels[rows])
    recipe = make_recipe(phases=[{"epochs": 1, "batch": 24, "crop": 64}])
    batch = draw_position([chosen], SamplingPlan(recipe, [chosen]).at(0), 1)
    brightness = batch.images.mean((1, 2, 3))
    assert np.corrcoef(brightness, batch.targets)[0, 1] > 0.99
    assert sorted(batch.targets.tolist()) == sorted(chosen.targets.tolist())


@pytest.mark.parametrize("average", [None, 0.5])
def test_stopped_and_resumed_is_bitwise_the_same(
    images: ImageSet,
    make_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    average: float | None,
) -> None:
    recipe = make_recipe(average_decay=average, checkpoint_every=3, log_every=2)
    whole = train(images, recipe, tmp_path / "whole")
    original = torch.save

    def save_and_die(state: dict[str, Any], path: Path) -> None:
        original(state, path)
        if state["step"] == 6:
            monkeypatch.undo()
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(images, recipe, tmp_path / "resumed")
    # The write of step 6 was broken off before its rename.
    state = torch.load(tmp_path / "resumed" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3
    resumed = train(images, recipe, tmp_path / "resumed")
    assert (resumed.sha256, resumed.metrics) == (whole.sha256, whole.metrics)
    for name in ("whole", "resumed"):
        state = torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        if name == "whole":
            wanted = state["network"]
    assert all(torch.equal(wanted[key], state["network"][key]) for key in wanted)
    logs = [read_log(tmp_path / name / "training_log.jsonl") for name in ("whole", "resumed")]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_killed_at_a_random_moment(
    tiny_set: Path, write_recipe: Callable[..., Path], tmp_path: Path, start_training: Start
) -> None:
    recipe = write_recipe(
        phases=[{"steps": 60, "batch": 8, "crop": 48}], checkpoint_every=1, average_decay=0.9
    )
    arguments = (recipe, "--data", tiny_set, "--out")
    whole = start_training(*arguments, tmp_path / "whole")
    assert whole.communicate()[0] is not None
    assert whole.returncode == 0
    killed = 0
    for _ in range(3):
        process = start_training(*arguments, tmp_path / "killed")
        checkpoint = tmp_path / "killed" / "checkpoint.pt"
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and (
            not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before
        ):
            time.sleep(0.01)
        time.sleep(random.SystemRandom().random() / 2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    last = start_training(*arguments, tmp_path / "killed")
    output, _ = last.communicate()
    assert last.returncode == 0, output
    assert killed
    results = [
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed")
    ]
    assert results[0]["sha256"] == results[1]["sha256"]
    assert results[0]["best"] == results[1]["best"]
    assert not list((tmp_path / "killed").glob(".staged-*"))


@pytest.mark.slow
def test_two_processes_give_the_one_process_curve(
    tiny_set: Path, write_recipe: Callable[..., Path], tmp_path: Path, start_training: Start
) -> None:
    recipe = write_recipe(phases=[{"steps": 20, "batch": 8, "crop": 48}], clip_norm=1.0)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    curves = []
    for name, start in (("one", ()), ("two", launcher)):
        arguments = (recipe, "--data", tiny_set, "--out", tmp_path / name)
        process = start_training(*arguments, launcher=start)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        log = read_log(tmp_path / name / "training_log.jsonl")
        curves.append([line["loss"] for line in log if "loss" in line])
    assert len(curves[0]) == 20
    np.testing.assert_allclose(curves[0], curves[1], atol=1e-4, rtol=0)
    assert len({round(loss, 5) for loss in curves[0]}) > 10


def test_a_run_that_fails_leaves_the_model_its_own_layers(
    images: ImageSet, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WithDepthwise(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.backbone.append(nn.Conv2d(4, 4, 5, padding=2, groups=4))

    model = WithDepthwise()
    kinds = [type(layer) for layer in model.modules()]
    during: list[list[type]] = []

    def fail(*_: Any) -> None:
        during.append([type(layer) for layer in model.modules()])
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        fit(model, *sets_of(images), make_recipe(checkpoint_every=1), tmp_path)
    assert during[0] != kinds
    assert [type(layer) for layer in model.modules()] == kinds


def test_another_recipe_or_other_labels_are_refused(
    images: ImageSet, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    train(images, make_recipe(), tmp_path)
    with pytest.raises(CheckpointError, match="another recipe"):
        train(images, make_recipe(rate=2e-3), tmp_path)
    (labelled,), held_back = sets_of(images)
    other = TrainingSet("train", images, labelled.rows, labelled.targets + 0.1)
    with pytest.raises(CheckpointError, match="another sets"):
        fit(Tiny(), [other], held_back, make_recipe(), tmp_path)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0.5, math.nan, 0.1], r"1 label\(s\) of set 'bad' are no numbers: image-0001"),
        ([0.5, 0.5, 0.5], "all labels of set 'bad' are equal"),
        ([0.5, 0.1], "3 images, 2 labels"),
    ],
)
def test_bad_labels(
    images: ImageSet,
    make_recipe: MakeRecipe,
    tmp_path: Path,
    targets: list[float],
    message: str,
) -> None:
    bad = TrainingSet("bad", images, np.arange(3), np.array(targets, np.float32))
    with pytest.raises(DataError, match=message):
        fit(Tiny(), [bad], sets_of(images)[1], make_recipe(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_loss_that_is_no_number_names_the_step(
    images: ImageSet, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(rate=1e30, optimiser="adam", loss="mse", schedule={"kind": "step"})
    with pytest.raises(EdgeFiqaError, match=r"the loss of step \d+ is no number: (nan|inf)"):
        train(images, recipe, tmp_path)


@pytest.mark.parametrize("loss", ["mse_plcc", "mse_corr", "l1_rank", "huber", "mse"])
def test_batch_of_one(images: ImageSet, make_recipe: MakeRecipe, tmp_path: Path, loss: str) -> None:
    recipe = make_recipe(loss=loss, phases=[{"steps": 3, "batch": 1, "crop": 64}])
    assert train(images, recipe, tmp_path).steps == 3


def test_full_disk_leaves_the_last_checkpoint(
    images: ImageSet, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = torch.save

    def save(state: dict[str, Any], path: Path) -> None:
        original(state, path)
        if state["step"] > 4:
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(DataError, match=r"disk may be full.*checkpoint\.pt.*free some space"):
            train(images, make_recipe(), tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4
    assert not list(tmp_path.glob(".staged-*"))
    assert train(images, make_recipe(), tmp_path).steps == 12


def test_epochs_and_phases(images: ImageSet, make_recipe: MakeRecipe) -> None:
    sets, _ = sets_of(images)
    phases = [{"epochs": 2, "batch": 10, "crop": 32}, {"steps": 3, "batch": 2, "crop": 64}]
    plan = SamplingPlan(make_recipe(phases=phases), sets)
    assert plan.steps == 5 + 3
    assert plan.images == 56
    assert [plan.at(step).phase.crop for step in range(8)] == [32] * 5 + [64] * 3
    assert [plan.at(step).firsts for step in range(9)] == [
        (n,) for n in (0, 10, 20, 30, 40, 50, 52, 54, 56)
    ]
    assert [step for step in range(8) if plan.ends_epoch(step)] == [2, 4]


def test_bfloat16_keeps_scores_in_float32(
    images: ImageSet, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    seen: list[Tensor] = []

    class Watched(Tiny):
        def forward(self, images: Tensor) -> Tensor:
            scores = super().forward(images)
            if self.training:
                seen.append(scores.detach())
            return scores

    model = Watched()
    fit(model, *sets_of(images), make_recipe(precision="bf16"), tmp_path)
    scores = torch.cat(seen)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())
    assert not model.head._forward_hooks


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.skipif(torch.cuda.is_available(), reason="of CPUs only")
def test_bfloat16_without_instructions_says_so(
    images: ImageSet,
    make_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    has: bool,
) -> None:
    monkeypatch.setattr("edgefiqa.train.loop.has_bfloat16", lambda: has)
    train(images, make_recipe(precision="bf16"), tmp_path)
    assert ("no instructions" in caplog.text) == (not has)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"precision": "fp16"}, "fp16 needs a CUDA"), ({"sync_batch_norm": True}, "CUDA only")],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="both work on CUDA")
def test_what_needs_cuda_says_so(
    images: ImageSet,
    make_recipe: MakeRecipe,
    tmp_path: Path,
    change: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        train(images, make_recipe(**change), tmp_path)


class Doubling(nn.Module):
    """A guide whose only loss pulls its parameter to three."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self, scorer: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return scorer(images), {"pull": (self.value - 3).square().mean()}


def test_guidance_is_trained_along_and_resumed(
    images: ImageSet, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    shares: list[float] = []

    def weight(share: float) -> float:
        shares.append(share)
        return 1 - share

    guide = Doubling()
    guidance = Guidance(module=guide, weight=weight, identity="a")
    train(images, make_recipe(rate=0.1), tmp_path, guidance=guidance)
    assert shares == [step / 12 for step in range(12)]
    assert guide.value.item() > 0.5
    again = Doubling()
    train(images, make_recipe(rate=0.1), tmp_path, guidance=Guidance(
        module=again, weight=weight, identity="a"))  # fmt: skip
    assert torch.equal(again.value, guide.value)
    with pytest.raises(CheckpointError, match="another guidance"):
        train(images, make_recipe(rate=0.1), tmp_path, guidance=Guidance(
            module=again, weight=weight, identity="b"))  # fmt: skip
