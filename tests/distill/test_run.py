"""The whole pipeline, on sets and networks so small that it takes seconds."""

import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.photographs import paint_photos
from tests.sets import bright_set, unlabelled_set

import edgefiqa.distill
from edgefiqa.cli import main
from edgefiqa.data.image_set import Split, open_image_set
from edgefiqa.distill.run import pseudo_sets, run
from edgefiqa.distill.settings import DistillRecipe, PseudoSet
from edgefiqa.errors import CheckpointError, DataError, RecipeError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.models import load_model
from edgefiqa.recipe import load_recipe
from edgefiqa.train import CardText, TrainingSet
from edgefiqa.train.label_table import read_labels, scores_of
from edgefiqa.train.self_training import SelfTrained
from edgefiqa.train.tracking import read_log

assert edgefiqa.distill.__file__
STAGE = Path(edgefiqa.distill.__file__).parent
CARD = {
    "name": "tiny",
    "version": "3",
    "description": "a test",
    "training_data": "noise",
    "licence": "Apache-2.0",
    "held_back": "other noise",
    "commands": ["make it"],
}


def recipe_values(*, steps: int = 4, **changes: object) -> dict[str, Any]:
    train = {
        "model": "timm:test_convnext",
        "phases": [{"steps": steps, "batch": 4, "crop": 32}],
        "rate": 5e-3,
        "schedule": {"kind": "cosine"},
        "evaluate_every": max(2, steps // 3),
        "checkpoint_every": 1,
        "average_decay": 0.5,
        "threads": 1,
    }
    values: dict[str, Any] = {
        "self_training": {"size": 64, "teacher": train, "teacher_plus": train},
        "size": 64,
        "student": train | {"model": "timm:test_resnet"},
    }
    return copy.deepcopy(values | changes)


def write(path: Path, values: object) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def make_recipe(**changes: Any) -> DistillRecipe:
    return DistillRecipe.model_validate(recipe_values(**changes))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("sets")
    unlabelled = [
        unlabelled_set(folder / f"unlabelled-{seed}", count=70, seed=seed).path for seed in (1, 2)
    ]
    return bright_set(folder / "labelled").path, unlabelled


def arguments_of(recipe: Path, sets: tuple[Path, list[Path]], out: Path) -> list[str]:
    twice = [part for path in sets[1] for part in ("--unlabelled", path)]
    parts = [recipe, "--labelled", sets[0], *twice, "--out", out, "--workers", 1]
    return ["distill", "run", *map(str, parts)]


@pytest.fixture(scope="module")
def finished(
    sets: tuple[Path, list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The pipeline's folder, and what its command said."""
    folder = tmp_path_factory.mktemp("pipeline")
    recipe, card = write(folder / "r.yaml", recipe_values()), write(folder / "c.yaml", CARD)
    arguments = [*arguments_of(recipe, sets, folder / "out"), "--card", str(card)]
    call(arguments)
    return folder / "out", " ".join(arguments)


def call(arguments: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["edgefiqa", *arguments])
        main()
    assert not ended.value.code


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_image_sets_in_student_with_its_card_out(
    finished: tuple[Path, str], sets: tuple[Path, list[Path]]
) -> None:
    out, _ = finished
    _, card = load_model(out / "student")
    assert (card.model, card.size, card.name, card.version) == ("timm:test_resnet", 64, "tiny", "3")
    assert [(entry["split"], entry["n"]) for entry in card.metrics] == [
        ("held_back", 8),
        ("held_out_types", 8),
    ]
    assert card.metrics[0]["data"] == "other noise"
    assert card.provenance["commands"] == ["make it"]
    assert card.provenance["guidance"] is None
    parents = card.provenance["sets"]
    assert {name: parent[1] for name, parent in parents.items()} == {
        "labelled": open_image_set(sets[0]).identity,
        "D1": open_image_set(sets[1][0]).identity,
        "D2": open_image_set(sets[1][1]).identity,
    }
    assert {parent[3] for parent in parents.values()} == {1.0}
    result = read(out / "result.json")
    assert result["trained"]["sha256"] == sha256_of(out / "student" / "model.safetensors")
    assert result["student"] == str(out / "student")


def test_each_step_learned_from_the_one_before(finished: tuple[Path, str]) -> None:
    out, _ = finished
    names = ("teacher", "teacher-plus", "student")
    teacher, plus, student = (sha256_of(out / name / "model.safetensors") for name in names)
    assert read(out / "labels-1" / "labels.meta.json")["models"] == [teacher]
    assert read(out / "labels-2" / "labels.meta.json")["models"] == [plus]
    assert read(out / "teacher-plus" / "card.json")["provenance"]["initial"] == teacher
    assert read(out / "student" / "card.json")["provenance"]["initial"] is None
    assert len({teacher, plus, student}) == 3


@pytest.mark.parametrize("pseudo", [(), ("D1",), ("D2",), ("D1", "D2")])
def test_sets_that_the_recipe_names(
    pseudo: tuple[str, ...], finished: tuple[Path, str], sets: tuple[Path, list[Path]]
) -> None:
    out, _ = finished
    folders = (out / "labels-1", out / "labels-2")
    trained = SelfTrained(teachers=(), teachers_plus=(), labels=folders)
    found = pseudo_sets(make_recipe(pseudo=pseudo), sets[1], trained)
    assert tuple(chosen.name for chosen in found) == pseudo
    for chosen in found:
        number = list(PseudoSet).index(PseudoSet(chosen.name))
        assert chosen.images.path == sets[1][number]
        rows, _ = read_labels(folders[number])
        assert chosen.targets.tolist() == pytest.approx([row.mapped_score for row in rows])
        assert (chosen.weight, chosen.batch) == (1.0, None)


def test_hears_what_the_teacher_says_of_labelled_images(
    finished: tuple[Path, str], sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    shutil.rmtree(out / "student")
    recipe = make_recipe(pseudo=["D2", "D"], pseudo_weight=0.5, pseudo_batch=6)
    images = open_image_set(sets[0])
    run(recipe, *sets, out, workers=1)
    rows, meta = read_labels(out / "labels-own")
    assert meta["models"] == [sha256_of(out / "teacher-plus" / "model.safetensors")]
    card = read(out / "student" / "card.json")
    parents = card["provenance"]["sets"]
    assert [(name, *parent[3:]) for name, parent in parents.items()] == [
        ("labelled", 1.0, None),
        ("D2", 0.5, 6),
        ("D", 0.5, 6),
    ]
    said = {row.image: row.mapped_score for row in rows}
    train = images.rows(Split.TRAIN)
    expected = TrainingSet(
        "D", images, train, np.array([said[images.keys[row]] for row in train], np.float32), 0.5, 6
    )
    assert parents["D"] == expected.identity


def test_another_student_keeps_the_teachers(
    finished: tuple[Path, str], sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("teacher*/checkpoint.pt")}
    labels = (out / "labels-2" / "labels.csv").stat().st_mtime_ns
    only_first = make_recipe(pseudo=["D1"])
    with pytest.raises(CheckpointError, match=r"another sets.*student"):
        run(only_first, *sets, out, workers=1)
    shutil.rmtree(out / "student")
    result = run(only_first, *sets, out, workers=1)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (out / "labels-2" / "labels.csv").stat().st_mtime_ns == labels
    assert list(read(result.student / "card.json")["provenance"]["sets"]) == ["labelled", "D1"]


def test_goes_on_from_earlier_weights(
    finished: tuple[Path, str], sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    earlier = finished[0]
    starts = [
        f"--teacher-from={earlier / 'teacher-plus'}",
        f"--student-from={earlier / 'student'}",
    ]
    recipe = write(tmp_path / "recipe.yaml", recipe_values())
    call([*arguments_of(recipe, sets, tmp_path / "out"), *starts])
    for name, parent in (("teacher", "teacher-plus"), ("student", "student")):
        initial = read(tmp_path / "out" / name / "card.json")["provenance"]["initial"]
        assert initial == sha256_of(earlier / parent / "model.safetensors")
        assert initial != sha256_of(tmp_path / "out" / name / "model.safetensors")


def test_a_trained_teacher_labels_all_sets_and_is_not_trained(
    finished: tuple[Path, str], sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    plus, out = finished[0] / "teacher-plus", tmp_path / "out"
    recipe = write(tmp_path / "recipe.yaml", recipe_values(pseudo=["D1", "D2", "D"]))
    call([*arguments_of(recipe, sets, out), f"--teacher-plus={plus}"])
    assert no_step_taken(out)
    assert scores_of(read_labels(out / "labels-2")[0]) == pytest.approx(
        scores_of(read_labels(finished[0] / "labels-2")[0])
    )
    first = scores_of(read_labels(out / "labels-1")[0])
    assert not np.allclose(first, scores_of(read_labels(finished[0] / "labels-1")[0]))
    parents = read(out / "student" / "card.json")["provenance"]["sets"]
    assert list(parents) == ["labelled", "D1", "D2", "D"]
    result = read(out / "result.json")["self_trained"]
    assert (result["teachers"], result["teachers_plus"]) == ([], [str(plus)])


def test_a_trained_teacher_and_one_to_start_from_exclude_each_other(
    finished: tuple[Path, str], sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    plus = finished[0] / "teacher-plus"
    with pytest.raises(UsageError, match="leave out --teacher-from"):
        run(make_recipe(), *sets, tmp_path, teacher_from=plus, teacher_plus=plus)
    with pytest.raises(CheckpointError, match="no trained scorer"):
        run(make_recipe(), *sets, tmp_path, teacher_plus=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("starts", "fault"),
    [
        (("nowhere", None), "no trained scorer"),
        ((None, "teacher"), "the model of this recipe"),
    ],
)
def test_weights_to_start_from_are_read_before_anything_is_trained(
    starts: tuple[str | None, str | None],
    fault: str,
    finished: tuple[Path, str],
    sets: tuple[Path, list[Path]],
    tmp_path: Path,
) -> None:
    teacher, student = (finished[0] / name if name else None for name in starts)
    with pytest.raises(CheckpointError, match=fault):
        run(make_recipe(), *sets, tmp_path, teacher_from=teacher, student_from=student)
    assert no_step_taken(tmp_path)


def no_step_taken(out: Path) -> bool:
    return not list(out.glob("teacher*"))


def test_sizes_are_known_before_anything_is_trained(
    sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    teachers = recipe_values()["self_training"] | {"size": 96}
    for changes in ({"self_training": teachers}, {"size": 96}):
        with pytest.raises(UsageError, match=r"labelled: 64\. Allowed: 96.*folder of photographs"):
            run(make_recipe(**changes), *sets, tmp_path, workers=1)
    assert no_step_taken(tmp_path)


def test_overlaps_are_refused_before_anything_is_trained(
    sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    first = sets[1][0]
    with pytest.raises(DataError, match="two sets hold the same pixels"):
        run(make_recipe(), sets[0], [first, first], tmp_path, workers=1)
    photos = paint_photos(tmp_path / "photos", range(12), labels=True)
    with pytest.raises(DataError, match="two sets hold the same pixels"):
        run(make_recipe(), photos, [photos], tmp_path, workers=1)
    assert no_step_taken(tmp_path)


def test_unreadable_photographs_stop_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled = paint_photos(tmp_path / "labelled", range(12), labels=True)
    unlabelled = paint_photos(tmp_path / "unlabelled", range(100, 110))
    (unlabelled / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    recipe = write(tmp_path / "recipe.yaml", recipe_values())
    arguments = arguments_of(recipe, (labelled, [unlabelled]), tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["edgefiqa", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: this set cannot be used")
    assert "1 of 11 photos (9.1%) cannot be read, more than 1 %: broken.jpg" in error
    assert no_step_taken(tmp_path / "out")


@pytest.mark.slow
def test_folders_of_photographs_in_student_out(tmp_path: Path) -> None:
    """A label file, one unlabelled folder, and a student that sees larger images."""
    labelled = paint_photos(tmp_path / "labelled", range(30), labels=True)
    unlabelled = paint_photos(tmp_path / "unlabelled", range(100, 124))
    recipe, out = make_recipe(size=72), tmp_path / "out"
    result = run(recipe, labelled, [unlabelled], out, workers=1)
    _, card = load_model(result.student)
    assert card.size == 72
    parents = card.provenance["sets"]
    for name, folder in (("labelled", "labelled"), ("D1", "unlabelled-1"), ("D2", "unlabelled-2")):
        assert parents[name][1] == open_image_set(out / "sets" / f"{folder}-72").identity
    for number in (1, 2):
        meta = read(out / f"labels-{number}" / "labels.meta.json")
        packed = open_image_set(out / "sets" / f"unlabelled-{number}-64")
        assert meta["source"]["identity"] == packed.identity
        assert meta["count"] == len(packed) == 12
    again = run(recipe, labelled, [unlabelled], out, workers=1)
    assert again.trained.sha256 == result.trained.sha256


@pytest.mark.slow
def test_two_processes_give_the_one_process_curves(tmp_path: Path) -> None:
    labelled = paint_photos(tmp_path / "labelled", range(30), labels=True)
    unlabelled = paint_photos(tmp_path / "unlabelled", range(100, 124))
    # The student itself, at a rate at which neither its loss nor rounding runs away.
    calm = recipe_values()["student"] | {
        "model": "efficient-fiqa-student",
        "layer_scale": 0.1,
        "rate": 1e-3,
        "phases": [{"steps": 4, "batch": 4, "crop": 64}],
    }
    longer = [{"steps": 8, "batch": 4, "crop": 64}]
    student = calm | {"phases": longer, "log_every": 1}
    teachers = {"size": 64, "teacher": calm, "teacher_plus": calm}
    recipe = write(tmp_path / "recipe.yaml", recipe_values(student=student, self_training=teachers))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    curves, scores = [], []
    for name, start in (("one", ()), ("two", launcher)):
        out = tmp_path / name
        arguments = arguments_of(recipe, (labelled, [unlabelled]), out)
        said = subprocess.run(
            [sys.executable, *start, "-m", "edgefiqa", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert said.returncode == 0, said.stderr
        assert said.stdout.count("held_back") == 1
        log = read_log(out / "student" / "training_log.jsonl")
        curves.append([line["loss"] for line in log if "loss" in line])
        scores.append(scores_of(read_labels(out / "labels-2")[0]))
        assert len(read(out / "result.json")["trained"]["metrics"]) == 1
    assert len(curves[0]) == 8
    np.testing.assert_allclose(curves[0], curves[1], atol=1e-4, rtol=0)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4, rtol=0)


GUIDED = {
    "guidance": {"feature_weight": 1.0, "score_weight": 0.5, "until": 0.8},
    "restart_guidance": {"feature_weight": 1.0},
    "student": recipe_values()["student"] | {"model": "efficient-fiqa-student"},
    "self_training": {
        "size": 64,
        "teacher": recipe_values(steps=2)["student"] | {"model": "lite0"},
        "teacher_plus": recipe_values(steps=2)["student"] | {"model": "lite0"},
    },
}


@pytest.mark.slow
def test_online_teachers_and_a_student_started_again(
    sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    recipe = make_recipe(**GUIDED)
    first = run(recipe, *sets, tmp_path, workers=1)
    card = read(first.student / "card.json")
    assert len(card["provenance"]["guidance"]) == 64
    # A process that finds the teachers finished does less before the student's first step.
    shutil.rmtree(first.student)
    second = run(recipe, *sets, tmp_path, workers=1)
    assert second.trained.sha256 == first.trained.sha256
    plain = make_recipe(**(GUIDED | {"guidance": None}))
    shutil.rmtree(first.student)
    assert run(plain, *sets, tmp_path, workers=1).trained.sha256 != first.trained.sha256


@pytest.mark.slow
def test_restarts_go_on_from_the_student_with_a_guidance_of_their_own(
    sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    again = recipe_values(steps=2)["student"] | {"model": "efficient-fiqa-student"}
    cards = []
    for guidance in (None, {"feature_weight": 0.0, "score_weight": 0.5, "until": None}):
        recipe = make_recipe(**GUIDED | {"restarts": [again], "restart_guidance": guidance})
        result = run(recipe, *sets, tmp_path, workers=1)
        assert result.student == tmp_path / "student-2"
        cards.append(read(result.student / "card.json"))
        shutil.rmtree(result.student)
    first = read(tmp_path / "student" / "card.json")
    plain, guided = (card["provenance"] for card in cards)
    assert plain["initial"] == guided["initial"] == first["sha256"]
    assert plain["guidance"] is None
    assert guided["guidance"] not in (None, first["provenance"]["guidance"])
    assert len({first["sha256"], *(card["sha256"] for card in cards)}) == 3


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the guided recipe with one value changed."""
    values = recipe_values(**GUIDED)
    *parents, last = path.split(".")
    place: Any = values
    for parent in parents:
        place = place[int(parent) if parent.isdigit() else parent]
    place[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("student.model", "timm:test_resnet", "needs a student of the model efficient-fiqa"),
        ("student.phases.0.crop", 48, "multiples of 32"),
        ("self_training", recipe_values()["self_training"], "teacher_plus of the model lite0"),
        ("guidance.until", 0, "guidance.until"),
        ("restarts", [recipe_values()["student"]], "restart_guidance.feature_weight needs a stud"),
        ("pseudo", ["D3"], "'D1', 'D2' or 'D'"),
        ("sizes", 64, "sizes: Extra inputs"),
    ],
)
def test_recipes_that_would_fail_after_hours(
    path: str, value: object, fault: str, tmp_path: Path
) -> None:
    load_recipe(write(tmp_path / "recipe.yaml", recipe_values(**GUIDED)), DistillRecipe)
    file = write(tmp_path / "recipe.yaml", changed(path, value))
    with pytest.raises(RecipeError, match=fault):
        load_recipe(file, DistillRecipe)


def test_guidance_by_scores_takes_any_models() -> None:
    make_recipe(guidance={"feature_weight": 0.0, "score_weight": 1.0})


@pytest.mark.parametrize(
    "name", sorted(path.name for path in (STAGE / "recipes").glob("default_*.yaml"))
)
def test_shipped_recipes_load(name: str) -> None:
    shipped = load_recipe(STAGE / "recipes" / name, DistillRecipe)
    assert shipped.student.phases[-1].crop == shipped.size


def test_shipped_card_loads() -> None:
    text = load_recipe(STAGE / "cards" / "default_student.yaml", CardText)
    assert "no human labels" in text.training_data


# Of each line one file at random, after whose appearance the run is killed.
MOMENTS = (
    ("teacher/checkpoint.pt", "teacher/best.safetensors", "teacher/result.json"),
    ("labels-1/calibration", "labels-1/plan.json", "labels-1/chunks", "labels-2/calibration"),
    ("teacher-plus/result.json", "student/checkpoint.pt", "student/best.safetensors"),
)


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(
    sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    recipe = write(tmp_path / "recipe.yaml", recipe_values(steps=12))
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "edgefiqa", *arguments_of(recipe, sets, out)]
    killed = []
    for moment in map(random.SystemRandom().choice, MOMENTS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (out / moment).exists():
            time.sleep(0.002)
        time.sleep(random.SystemRandom().random() * 0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.returncode == -signal.SIGKILL:
            killed.append(moment)
    assert len(killed) >= 2, killed  # the last moment may come too late
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole = run(load_recipe(recipe, DistillRecipe), *sets, tmp_path / "whole", workers=1)
    for name in ("teacher", "teacher-plus", "student"):
        hashes = [sha256_of(tmp_path / n / name / "model.safetensors") for n in ("whole", "killed")]
        assert hashes[0] == hashes[1], name
    assert read(out / "result.json")["trained"]["sha256"] == whole.trained.sha256
    for name in ("labels-1", "labels-2"):
        tables = [(tmp_path / n / name / "labels.csv").read_bytes() for n in ("whole", "killed")]
        assert tables[0] == tables[1], name
    assert not list(out.rglob(".staged-*"))
