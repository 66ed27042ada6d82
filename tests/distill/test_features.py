import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.models import save_lively
from tests.sets import bright_set

from edgefiqa.data.batches import normalise
from edgefiqa.data.image_set import Split
from edgefiqa.distill.features import (
    OnlineTeachers,
    Projections,
    channel_statistics,
    cosine_weight,
    feature_loss,
    online_guidance,
    student_maps,
)
from edgefiqa.errors import UsageError
from edgefiqa.models import build
from edgefiqa.train import MAP_CHANNELS, Lite0Scorer
from edgefiqa.train.frozen_teacher import FrozenTeacher, TeacherRuntime


@pytest.fixture(scope="module")
def teacher() -> Lite0Scorer:
    torch.manual_seed(0)
    return Lite0Scorer(pretrained=False).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)


def test_student_maps_end_in_the_students_own_score() -> None:
    torch.manual_seed(0)
    student = build("efficient-fiqa-student").eval()
    images = torch.randn(2, 3, 96, 128)
    with torch.inference_mode():
        maps = student_maps(student.get_submodule("backbone"), images)
        scores = student.get_submodule("head")(maps[-1].mean((2, 3))).squeeze(1)
        assert torch.equal(scores, student(images))
        projected = Projections((48, 88, 168))(maps)
    shapes = [(2, c, 96 // s, 128 // s) for c, s in zip(MAP_CHANNELS, (8, 16, 32), strict=True)]
    assert [tuple(level.shape) for level in projected] == shapes


def test_loss_is_the_mean_over_strides() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=shape) for shape in ((2, 3, 4, 4), (2, 5, 2, 2))]
    wanted = [rng.normal(size=level.shape) for level in maps]
    expected = np.mean([np.mean((a - b) ** 2) for a, b in zip(maps, wanted, strict=True)])
    found = feature_loss(
        [torch.from_numpy(level).float() for level in maps],
        [torch.from_numpy(level).float() for level in wanted],
    )
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_maps_of_other_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        feature_loss([torch.zeros(1, 2, 3, 3)], [torch.zeros(1, 2, 4, 4)])


def test_statistics_bring_channels_to_zero_and_one(teacher: Lite0Scorer, pixels: Any) -> None:
    images = cast(Any, SimpleNamespace(image=lambda row: pixels[row], size=64))
    found = channel_statistics(teacher, images, np.arange(6))
    with torch.inference_mode():
        maps = teacher.maps(normalise(pixels))
    assert len(found) > 1
    for level, (mean, deviation) in zip(maps, found, strict=True):
        torch.testing.assert_close(mean.flatten(), level.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
        wanted = level.transpose(0, 1).flatten(1).var(1, correction=0).clamp_min(1e-6).sqrt()
        torch.testing.assert_close(deviation.flatten(), wanted, atol=1e-4, rtol=1e-2)


def test_losses_of_an_ensemble_are_the_means(teacher: Lite0Scorer, pixels: Any) -> None:
    images = cast(Any, SimpleNamespace(image=lambda row: pixels[row], size=64))
    torch.manual_seed(1)
    other = Lite0Scorer(pretrained=False).eval().requires_grad_(False)
    torch.nn.init.constant_(other.head.bias, 0.9)
    student, batch = build("efficient-fiqa-student").eval(), normalise(pixels[:2])
    teachers = [teacher, other]
    statistics = [channel_statistics(t, images, np.arange(6)) for t in teachers]
    both = OnlineTeachers(teachers, statistics, feature_weight=2.0, score_weight=0.5)
    scores, losses = both(student, batch)
    torch.testing.assert_close(scores, student(batch))
    with torch.no_grad():
        mean = (teacher(batch) + other(batch)) / 2
        expected = 0.5 * (scores - mean).square().mean()
        torch.testing.assert_close(losses["teacher"].detach(), expected)
        student_features = student_maps(student.get_submodule("backbone"), batch)
        distances = []
        for found, chosen, projection in zip(statistics, teachers, both.projections, strict=True):
            targets = [
                (level - m) / d for level, (m, d) in zip(chosen.maps(batch), found, strict=True)
            ]
            distances.append(feature_loss(projection(student_features), targets))
        torch.testing.assert_close(losses["feature"].detach(), 2 * torch.stack(distances).mean())

    sum(losses.values()).backward()
    assert all(p.grad is not None for p in both.projections.parameters())
    assert student.get_parameter("backbone.stem.0.weight").grad is not None
    assert not any(name.startswith("_teachers") for name in both.state_dict())
    assert {p.shape for p in both.parameters()} == {p.shape for p in both.projections.parameters()}


def test_places_add_up_to_the_score(teacher: Lite0Scorer, pixels: Any) -> None:
    batch = normalise(pixels[:3])
    with torch.inference_mode():
        maps = teacher.maps(batch)
        places = teacher.score_map(maps)
        scores = teacher(batch)
    assert places.shape == (3, 2, 2)
    assert places.std() > 0
    torch.testing.assert_close(places.mean((1, 2)), scores, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("runtime", list(TeacherRuntime))
def test_score_maps_are_compared_place_by_place(
    teacher: Lite0Scorer, pixels: Any, runtime: TeacherRuntime
) -> None:
    guide = OnlineTeachers(
        [teacher], [], feature_weight=0, score_weight=1.0, score_map_weight=3.0, runtime=runtime
    )
    student, batch = build("efficient-fiqa-student").eval(), normalise(pixels[:2])
    scores, losses = guide(student, batch)
    torch.testing.assert_close(scores, student(batch))
    assert set(losses) == {"teacher", "score_map"}
    with torch.no_grad():
        features = student_maps(student.get_submodule("backbone"), batch)[-1]
        first, second = student.get_submodule("head").children()
        by_hand = second(first(features.flatten(2).mT)).unflatten(1, (2, 2)).squeeze(-1)
        expected = 3 * (by_hand - teacher.score_map(teacher.maps(batch))).square().mean()
    torch.testing.assert_close(losses["score_map"].detach(), expected, rtol=1e-4, atol=1e-6)
    losses["score_map"].backward()
    assert student.get_parameter("backbone.stem.0.weight").grad is not None
    assert not list(guide.parameters())


def test_scores_only_takes_any_scorer(teacher: Lite0Scorer, pixels: Any) -> None:
    guide = OnlineTeachers([teacher], [], feature_weight=0, score_weight=1.0)
    student, batch = build("timm:test_convnext").eval(), normalise(pixels[:3])
    scores, losses = guide(student, batch)
    assert set(losses) == {"teacher"}
    expected = (scores - teacher(batch)).square().mean()
    torch.testing.assert_close(losses["teacher"], expected)
    assert not list(guide.parameters())


def test_weight_falls_along_half_a_cosine_and_stays_at_zero() -> None:
    weights = [cosine_weight(share / 10, until=0.5) for share in range(11)]
    assert weights[0] == 1
    assert weights[1] == pytest.approx(math.cos(math.pi / 10) ** 2)
    assert weights[:6] == sorted(weights[:6], reverse=True)
    assert weights[5:] == [0.0] * 6
    assert cosine_weight(0.5, until=1.0) == pytest.approx(0.5)
    assert [cosine_weight(share / 10, until=None) for share in range(11)] == [1.0] * 11


def test_projections_do_not_depend_on_what_ran_before(teacher: Lite0Scorer, tmp_path: Path) -> None:
    images = bright_set(tmp_path / "set", train=4, held=2)
    save_file(teacher.state_dict(), tmp_path / "teacher.safetensors")
    settings: dict[str, Any] = {"feature_weight": 1.0, "score_weight": 0.5, "until": 0.5}
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        paths = [tmp_path / "teacher.safetensors"]
        found.append(online_guidance(paths, images, images.rows(Split.TRAIN), **settings))
        assert found[0].identity == found[-1].identity
    states = [guide.module.state_dict() for guide in found]
    assert len(states[0]) == 12  # three projections with biases, three means and deviations
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert found[0].weight(0.6) == 0
    other = online_guidance(paths, images, images.rows(), **(settings | {"until": 0.4}))
    assert other.identity != found[0].identity


def test_only_lite0_has_maps(tmp_path: Path) -> None:
    save_lively("efficient-fiqa-student", 64, tmp_path / "teacher")
    images = bright_set(tmp_path / "set", train=4, held=2)
    settings: dict[str, Any] = {"score_weight": 0.5, "until": 0.5}
    paths, rows = [tmp_path / "teacher"], images.rows()
    with pytest.raises(UsageError, match=r"maps cannot guide.*feature_weight: 0"):
        online_guidance(paths, images, rows, feature_weight=1.0, **settings)
    online_guidance(paths, images, rows, feature_weight=0, **settings)


@pytest.mark.parametrize("maps", [True, False])
def test_teachers_say_the_same_in_onnx_runtime(
    teacher: Lite0Scorer, pixels: Any, *, maps: bool
) -> None:
    batch = normalise(pixels[:3])
    in_torch = FrozenTeacher(teacher, maps=maps)
    in_ort = FrozenTeacher(teacher, maps=maps, runtime=TeacherRuntime.ONNXRUNTIME)
    for images in (batch, batch[:2], batch[:, :, :32, :32]):
        (wanted, wanted_maps), (found, found_maps) = in_torch(images), in_ort(images)
        assert len(wanted_maps) == len(found_maps) == (3 if maps else 0)
        torch.testing.assert_close(found, wanted.clone(), atol=1e-5, rtol=1e-5)
        for found_map, level in zip(found_maps, wanted_maps, strict=True):
            torch.testing.assert_close(found_map, level.clone(), atol=1e-3, rtol=1e-4)


def test_a_teacher_that_sees_turned_images_says_each_of_eight_views(
    teacher: Lite0Scorer, pixels: Any
) -> None:
    image = normalise(pixels[:1])
    upright, ask = FrozenTeacher(teacher, maps=True), FrozenTeacher(teacher, maps=True, turned=True)
    # Pillow's transpositions are the eight views, independent of ours.
    views = [Image.fromarray(pixels[0]).transpose(how) for how in Image.Transpose]
    views.append(Image.fromarray(pixels[0]))
    wanted = torch.cat([upright(normalise(np.asarray(view)[None]))[0] for view in views])
    torch.manual_seed(0)
    found = ask(image.expand(64, -1, -1, -1))[0]
    distances = (found[:, None] - wanted).abs()
    assert distances.amin(1).max() < 1e-5
    assert set(distances.argmin(1).tolist()) == set(range(8))

    class Corner(torch.nn.Module):
        """Its maps are the image itself, so that a map must come back as the image came."""

        def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [images]

        def score(self, maps: list[torch.Tensor]) -> torch.Tensor:
            return maps[0][:, 0, 0, 0]

    batch = image.repeat(64, 1, 1, 1)
    scores, (back,) = FrozenTeacher(Corner(), maps=True, turned=True)(batch)
    assert torch.equal(back, batch)
    assert len(set(scores.tolist())) == 4

    with pytest.raises(UsageError, match=r"must be square.*\[64, 32\]"):
        ask(batch[..., :32])


def test_turned_apart_reaches_the_teachers(teacher: Lite0Scorer, tmp_path: Path) -> None:
    images = bright_set(tmp_path / "set", train=4, held=2)
    save_file(teacher.state_dict(), tmp_path / "teacher.safetensors")
    settings: dict[str, Any] = {"feature_weight": 0.0, "score_weight": 1.0, "until": None}
    paths, rows = [tmp_path / "teacher.safetensors"], images.rows(Split.TRAIN)
    apart = online_guidance(paths, images, rows, turned_apart=True, **settings)
    as_it_is = online_guidance(paths, images, rows, **settings)
    assert apart.identity != as_it_is.identity
    student = build("efficient-fiqa-student").eval()
    batch = torch.randn(8, 3, 64, 64)
    found = [guide.module(student, batch)[1]["teacher"].item() for guide in (apart, as_it_is)]
    assert found[0] != found[1]


def test_onnx_runtime_is_for_float32(teacher: Lite0Scorer) -> None:
    with pytest.raises(UsageError, match="runtime: torch"):
        FrozenTeacher(teacher, maps=False, bfloat16=True, runtime=TeacherRuntime.ONNXRUNTIME)
