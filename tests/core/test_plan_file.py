"""Folders that go on with the same plan, and refuse another."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefiqa.errors import DataError, UsageError
from edgefiqa.plan_file import PLAN_NAME, claim_folder, differing_keys, has_plan

PLAN = {"recipe": {"size": 288, "steps": [1, 2]}, "data": "abc"}
KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from([None, 0, 2.5, "text", [1, 2]])
PLANS = st.recursive(
    st.dictionaries(KEYS, VALUES),
    lambda inner: st.dictionaries(KEYS, VALUES | inner),
    max_leaves=6,
)


def claim(folder: Path, plan: dict[str, Any]) -> None:
    claim_folder(folder, plan, holds="another export", error=UsageError)


def test_a_new_folder_gets_the_plan(tmp_path: Path) -> None:
    claim(tmp_path / "new", PLAN)
    assert json.loads((tmp_path / "new" / PLAN_NAME).read_text()) == PLAN
    assert [path.name for path in (tmp_path / "new").iterdir()] == [PLAN_NAME]


def test_the_same_plan_goes_on(tmp_path: Path) -> None:
    claim(tmp_path, PLAN)
    before = (tmp_path / PLAN_NAME).stat().st_mtime_ns
    claim(tmp_path, {"data": "abc", "recipe": {"steps": (1, 2), "size": 288}})
    assert (tmp_path / PLAN_NAME).stat().st_mtime_ns == before


@pytest.mark.parametrize("error", [UsageError, DataError])
def test_another_plan_is_refused_by_what_differs(tmp_path: Path, error: type[DataError]) -> None:
    claim(tmp_path, PLAN)
    other = {**PLAN, "recipe": {"size": 352, "steps": [1, 2]}, "seed": 1}
    with pytest.raises(error, match=r"holds another set .*recipe\.size, seed\).*remove this one"):
        claim_folder(tmp_path, other, holds="another set", error=error)
    assert json.loads((tmp_path / PLAN_NAME).read_text()) == PLAN


def test_at_most_six_keys_are_named(tmp_path: Path) -> None:
    claim(tmp_path, {})
    with pytest.raises(UsageError) as caught:
        claim(tmp_path, {f"key{number}": number for number in range(9)})
    assert "key5" in str(caught.value)
    assert "key6" not in str(caught.value)


@pytest.mark.parametrize("damaged", ["", "{", "[1]", "null", "3"])
def test_a_damaged_plan_is_another_plan(tmp_path: Path, damaged: str) -> None:
    (tmp_path / PLAN_NAME).write_text(damaged)
    assert not has_plan(tmp_path, PLAN)
    with pytest.raises(UsageError, match="recipe, data"):
        claim(tmp_path, PLAN)


def test_where_there_is_no_plan(tmp_path: Path) -> None:
    assert not has_plan(tmp_path, {})
    assert not has_plan(tmp_path / "no folder", {})


def test_plans_of_another_name(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps(PLAN))
    assert has_plan(tmp_path, PLAN, name="demo.json")
    assert not has_plan(tmp_path, PLAN)


def test_differing_keys_are_nested_with_dots_and_in_order() -> None:
    known = {"a": {"b": {"c": 1, "d": 2}}, "e": 3, "old": None}
    wanted = {"e": 4, "a": {"b": {"c": 1, "d": 9}, "new": 0}}
    assert differing_keys(known, wanted) == ["e", "a.b.d", "a.new", "old"]


def test_a_key_that_is_missing_differs_from_one_that_is_none() -> None:
    assert differing_keys({}, {"a": None}) == ["a"]
    assert differing_keys({"a": None}, {"a": None}) == []


@given(known=PLANS, wanted=PLANS)
def test_no_key_differs_exactly_if_the_plans_are_equal(
    known: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert (differing_keys(known, wanted) == []) == (known == wanted)
    assert sorted(differing_keys(known, wanted)) == sorted(differing_keys(wanted, known))


@given(plan=PLANS)
def test_a_plan_is_found_again(
    plan: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    claim(folder, plan)
    assert has_plan(folder, plan)
    claim(folder, plan)
    assert not has_plan(folder, {**plan, "one more": 1})
