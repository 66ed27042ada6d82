from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgefiqa.data.image_set import ImageSet
from edgefiqa.errors import DataError, UsageError
from edgefiqa.train.label_table import (
    PseudoLabel,
    assert_disjoint,
    keep_confident,
    map_scores,
    read_rows,
    write_rows,
)


def test_rows_survive_the_file() -> None:
    rows = [
        PseudoLabel(image='a,"b"\n.png', sha256="0" * 64, raw_score=0.1, spread=0.0),
        PseudoLabel(image="ü.png", error="unreadable, sorry"),
        PseudoLabel(image="c.png", sha256="1" * 64, raw_score=-1e-9, mapped_score=1.25),
    ]
    found = read_rows(write_rows(rows))
    assert [row.image for row in found] == [row.image for row in rows]
    assert [row.error for row in found] == [row.error for row in rows]
    assert found[0].raw_score == pytest.approx(0.1)
    assert found[2].score == 1.25
    assert write_rows(found) == write_rows(rows)
    with pytest.raises(DataError, match="not a file of pseudo-labels"):
        read_rows("image,score\na,1\n")
    with pytest.raises(DataError, match="line 2"):
        read_rows(write_rows([]) + "a,b,high,,,\n")


def test_map_leaves_errors_alone() -> None:
    rows = [PseudoLabel(image="a", raw_score=0.5), PseudoLabel(image="b", error="no")]
    mapped = map_scores(rows, lambda x: np.asarray(2 * x))
    assert [row.mapped_score for row in mapped] == [1.0, None]
    assert mapped[1] == rows[1]


def rows_with(spreads: Sequence[float | None]) -> list[PseudoLabel]:
    return [
        PseudoLabel(image=str(i), raw_score=0.5, spread=spread)
        if spread is not None
        else PseudoLabel(image=str(i), error="no")
        for i, spread in enumerate(spreads)
    ]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [0, 1, 3, 4]),
        ({"share": 0.5}, [1, 4]),
        ({"share": 0.75}, [0, 1, 4]),
        ({"share": 0.01}, [1]),
        ({"max_spread": 0.2}, [0, 1, 4]),
        ({"share": 0.5, "max_spread": 0.05}, [1]),
        ({"max_spread": 0.0}, []),
    ],
)
def test_filter(limits: dict[str, float], expected: list[int]) -> None:
    assert keep_confident(rows_with([0.2, 0.05, None, 0.3, 0.1]), **limits) == expected


def test_filter_needs_a_spread() -> None:
    with pytest.raises(UsageError, match="no spread"):
        keep_confident([PseudoLabel(image="a", raw_score=1.0)], share=0.5)
    with pytest.raises(UsageError, match="out of range"):
        keep_confident(rows_with([0.1]), share=1.5)


def a_set(*records: tuple[str, str, int | None, str]) -> ImageSet:
    names = ("sha256", "photo", "cluster", "split")
    rows = [
        {"key": f"key{i}", **dict(zip(names, record, strict=True))}
        for i, record in enumerate(records)
    ]
    return ImageSet(path=Path("somewhere"), meta={}, records=rows)


A = a_set(("s1", "p1", 1, "train"), ("s2", "p2", 2, "held_back"), ("s3", "p3", 3, "held_out_types"))


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (("s1", "p9", 9, "train"), "same pixels.*key0 .the labelled set. and key1 .B1."),
        (("s9", "p2", 9, "train"), "photo that is held back"),
        (("s9", "p9", 2, "train"), "cluster that is held back.*key1 .the held-back images."),
        (("s9", "p9", 3, "held_back"), "cluster that is held back"),
    ],
)
def test_overlap_is_refused(record: tuple[str, str, int, str], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        assert_disjoint(A, {"B1": a_set(("s7", "p7", None, "train"), record)})


def test_disjoint_sets_pass() -> None:
    more_of_training = a_set(("s7", "p1", 1, "train"), ("s8", "p8", None, "train"))
    other_folder = a_set(("s9", "p2", 2, "train"))
    assert_disjoint(A, {"B1": more_of_training})
    assert_disjoint(A, {"B1": more_of_training, "B2": other_folder}, same_photos=False)
    with pytest.raises(DataError, match="B1 and B2"):
        assert_disjoint(A, {"B1": more_of_training, "B2": a_set(("s8", "p5", 5, "train"))})


def with_meta(images: ImageSet, **meta: object) -> ImageSet:
    return replace(images, meta=meta)


def test_names_and_clusters_count_where_they_mean_the_same() -> None:
    """Every packed set has a cluster 2 and folders have a 1.jpg: that says nothing."""
    same_names = a_set(("s7", "p2", 2, "train"))
    same_clusters = a_set(("s7", "p9", 2, "train"))
    packed = {"source": "photographs", "photos": 3}
    packed_set = with_meta(A, photos_sha256="a", **packed)
    assert_disjoint(packed_set, {"B1": with_meta(same_names, photos_sha256="b", **packed)})
    with pytest.raises(DataError, match="photo that is held back"):
        assert_disjoint(packed_set, {"B1": with_meta(same_names, photos_sha256="a", **packed)})

    made = {"source": "synthetic", "photos": 3, "clusters": 3, "duplicate_bits": 60}
    packed_set = with_meta(A, **made)
    assert_disjoint(packed_set, {"B1": with_meta(same_clusters, **(made | {"photos": 4}))})
    with pytest.raises(DataError, match="cluster that is held back"):
        assert_disjoint(packed_set, {"B1": with_meta(same_clusters, **made)})
    # A corpus knows its photographs by name, also where they come as they are.
    for other in (made | {"photos": 4}, packed | {"photos_sha256": "b"}):
        with pytest.raises(DataError, match="photo that is held back"):
            assert_disjoint(packed_set, {"B1": with_meta(same_names, **other)})
