from pathlib import Path

import numpy as np
import pytest
import torch

from edgefiqa.data.batches import draw_batch, normalise
from edgefiqa.data.corpus import open_corpus
from edgefiqa.distill.features import (
    FeatureCache,
    Projections,
    build_feature_cache,
    feature_loss,
    student_maps,
)
from edgefiqa.errors import DataError
from edgefiqa.models import build
from edgefiqa.train import MAP_CHANNELS, Lite0Scorer


@pytest.fixture(scope="module")
def teacher() -> Lite0Scorer:
    torch.manual_seed(0)
    return Lite0Scorer(pretrained=False).eval()


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
    own = [rng.normal(size=shape) for shape in ((2, 3, 4, 4), (2, 5, 2, 2))]
    wanted = [rng.normal(size=level.shape) for level in own]
    expected = np.mean([np.mean((a - b) ** 2) for a, b in zip(own, wanted, strict=True)])
    found = feature_loss(
        [torch.from_numpy(level).float() for level in own],
        [torch.from_numpy(level).float() for level in wanted],
    )
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_targets_lie_where_the_crop_lies(
    tiny_corpus: Path, tmp_path: Path, teacher: Lite0Scorer
) -> None:
    corpus = open_corpus(tiny_corpus)
    rows = np.arange(3, 15)
    cache = build_feature_cache(
        teacher, corpus.images, rows, tmp_path, identity={"t": "a"}, chunk=5
    )
    batch = draw_batch(corpus.images, rows, first=0, count=8, crop=32, grid=32, seed=1)
    assert batch.mirrored.any()
    assert not batch.mirrored.all()
    targets, scores = cache.targets(batch)
    shapes = [tuple(level.shape) for level in targets]
    assert shapes == [(8, 40, 4, 4), (8, 112, 2, 2), (8, 320, 1, 1)]

    whole = corpus.images[batch.rows].copy()
    whole[batch.mirrored] = whole[batch.mirrored][:, :, ::-1]
    with torch.inference_mode():
        maps = teacher.maps(normalise(whole))
        torch.testing.assert_close(scores, teacher.score(maps), atol=1e-4, rtol=1e-4)
    # Normalisation is affine per channel; the batch's own figures are close to the cache's.
    stride8 = maps[0]
    mean, deviation = stride8.mean((0, 2, 3)), stride8.std((0, 2, 3))
    for i, (top, left) in enumerate(zip(batch.tops // 8, batch.lefts // 8, strict=True)):
        window = stride8[i, :, top : top + 4, left : left + 4]
        expected = (window - mean[:, None, None]) / deviation[:, None, None]
        r = np.corrcoef(expected.flatten(), targets[0][i].flatten())[0, 1]
        assert r > 0.95


def test_interrupted_cache_goes_on(
    tiny_corpus: Path, tmp_path: Path, teacher: Lite0Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefiqa.distill import features

    images, rows = open_corpus(tiny_corpus).images, np.arange(40)

    def build(out: Path) -> FeatureCache:
        return build_feature_cache(teacher, images, rows, out, identity={"t": "a"}, chunk=1)

    whole = build(tmp_path / "whole")
    calls = 0

    def pair_or_die(part: np.ndarray) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 36:
            raise KeyboardInterrupt
        return features_pair(part)

    features_pair = features._pair
    with monkeypatch.context() as patch:
        patch.setattr(features, "_pair", pair_or_die)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "cut")
    calls = 0
    monkeypatch.setattr(features, "_pair", pair_or_die)
    resumed = build(tmp_path / "cut")
    assert calls == 8  # 32 of 40 were done
    assert np.array_equal(whole.scores, resumed.scores)
    for a, b in zip(whole.maps, resumed.maps, strict=True):
        assert np.array_equal(a, b)


def test_cache_of_another_teacher_is_refused(
    tiny_corpus: Path, tmp_path: Path, teacher: Lite0Scorer
) -> None:
    images, rows = open_corpus(tiny_corpus).images, np.arange(4)
    build_feature_cache(teacher, images, rows, tmp_path, identity={"t": "a"})
    with pytest.raises(DataError, match="another teacher"):
        build_feature_cache(teacher, images, rows, tmp_path, identity={"t": "b"})
