import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edgefiqa.cli import app
from edgefiqa.data.check import check_labelled, check_unlabelled
from edgefiqa.data.check_report import (
    CheckPlan,
    CheckReport,
    FindingKind,
    require_usable,
    write_report,
)
from edgefiqa.errors import DataError, UsageError


def paint(seed: int, path: Path) -> None:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((64, 48), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty different photos."""
    for number in range(20):
        paint(number, tmp_path / "set" / f"{number:02d}.png")
    return tmp_path / "set"


def labels(photos: Path, rows: dict[str, object], header: str = "image,score") -> Path:
    path = photos / "labels.csv"
    lines = [header, *(f"{name},{score}" for name, score in rows.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def good(photos: Path) -> dict[str, object]:
    return {path.name: n / 200 for n, path in enumerate(sorted(photos.glob("*.png")))}


def found(report: CheckReport, kind: FindingKind) -> list[tuple[str, int | None]]:
    return [(finding.image, finding.line) for finding in report.findings if finding.kind is kind]


def test_a_clean_set_has_no_findings_and_a_whole_manifest(photos: Path, tmp_path: Path) -> None:
    report = check_labelled(photos, labels(photos, good(photos)), workers=1)
    assert not report.findings
    require_usable(report)
    write_report(report, tmp_path / "out")
    lines = (tmp_path / "out" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["image"] for row in rows] == list(good(photos))
    assert [row["score"] for row in rows] == list(good(photos).values())
    assert [row["line"] for row in rows] == list(range(2, 22))
    assert [row["cluster"] for row in rows] == list(range(20))
    assert all(row["range"] == [0, 1] for row in rows)
    assert sum(row["split"] == "held_back" for row in rows) == 4
    content = (photos / "07.png").read_bytes()
    assert rows[7]["sha256"] == hashlib.sha256(content).hexdigest()
    facts = json.loads((tmp_path / "out" / "check.json").read_text(encoding="utf-8"))
    assert facts["usable"]
    assert facts["splits"] == {"train": 16, "held_back": 4}
    assert facts["labels"]["found_range"] == [0, 0.095]


def test_every_kind_of_fault_is_found_with_its_line(photos: Path) -> None:
    shutil.copy(photos / "00.png", photos / "copy.png")
    shutil.copy(photos / "01.png", photos / "agrees.png")
    with Image.open(photos / "02.png") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "mirror.png")
    paint(99, photos / "extra.png")
    rows = {name: score for name, score in good(photos).items() if name != "extra.png"}
    rows |= {"gone.png": 0.5, "copy.png": 0.9, "agrees.png": rows["01.png"], "05.png": 1.01}
    rows |= {"06.png": -0.5}
    file = labels(photos, rows)
    with file.open("a", encoding="utf-8") as more:
        more.write("07.png,0.035\n08.png,0.3\n")
    report = check_labelled(photos, file, workers=1)
    line = {name: n for n, name in enumerate(rows, start=2)}
    assert found(report, FindingKind.MISSING) == [("gone.png", line["gone.png"])]
    outside = [("05.png", line["05.png"]), ("06.png", line["06.png"])]
    assert found(report, FindingKind.OUT_OF_RANGE) == outside
    repeats = [("07.png", len(rows) + 2), ("08.png", len(rows) + 3)]
    assert found(report, FindingKind.REPEATED) == repeats
    copies = [("agrees.png", line["agrees.png"]), ("copy.png", line["copy.png"])]
    assert found(report, FindingKind.DUPLICATE) == copies
    conflicts = [("copy.png", line["copy.png"]), ("08.png", len(rows) + 3)]
    assert sorted(found(report, FindingKind.CONFLICT)) == sorted(conflicts)
    assert found(report, FindingKind.NEAR_DUPLICATE) == [("mirror.png", line["mirror.png"])]
    assert found(report, FindingKind.NO_LABEL) == [("extra.png", None)]
    require_usable(report)
    kept = {row.image for row in report.rows}
    left_out = {"00.png", "copy.png", "agrees.png", "05.png", "06.png", "08.png", "extra.png"}
    assert kept == {path.name for path in photos.glob("*.png")} - left_out
    twins = [row for row in report.rows if row.image in ("02.png", "mirror.png")]
    assert len({row.cluster for row in twins}) == len({row.split for row in twins}) == 1


def test_one_unreadable_photo_in_a_hundred_is_counted_two_stop(tmp_path: Path) -> None:
    for number in range(100):
        paint(number, tmp_path / f"{number:03d}.png")
    file = labels(tmp_path, good(tmp_path))
    whole = (tmp_path / "050.png").read_bytes()
    (tmp_path / "050.png").write_bytes(whole[: len(whole) // 2])
    report = check_labelled(tmp_path, file, workers=1)
    assert found(report, FindingKind.UNREADABLE) == [("050.png", 52)]
    require_usable(report)
    assert len(report.rows) == 99

    write_report(report, tmp_path)
    (tmp_path / "051.png").write_bytes(b"")
    report = check_labelled(tmp_path, file, workers=1)
    with pytest.raises(DataError, match=r"2 of 100 photos \(2\.0%\).*more than 1 %.*050\.png"):
        require_usable(report)
    write_report(report, tmp_path)
    assert not (tmp_path / "manifest.jsonl").exists()
    assert not json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))["usable"]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda n: "nan" if n == 7 else n / 50, r"1 labels are no finite numbers: line 9"),
        (lambda n: "inf" if n > 12 else n / 50, r"7 labels.*line 15, 16, 17, 18, 19, …"),
        (lambda n: "n/a" if n == 0 else n / 50, r"no finite numbers: line 2"),
        (lambda n: 0.5, "constant.*all 20 labels are 0.5"),
        (lambda n: n * 5, r"19 of 20 labels are outside 0 to 1.*--range"),
    ],
)
def test_labels_that_cannot_be_learned_stop(photos: Path, scores, message: str) -> None:
    rows = {name: scores(n) for n, name in enumerate(good(photos))}
    report = check_labelled(photos, labels(photos, rows), workers=1)
    with pytest.raises(DataError, match=message):
        require_usable(report)


def test_another_range_can_be_named(photos: Path) -> None:
    rows: dict[str, object] = {name: n * 5 for n, name in enumerate(good(photos))}
    file = labels(photos, rows)
    report = check_labelled(photos, file, score_range=(0, 90), workers=1)
    assert found(report, FindingKind.OUT_OF_RANGE) == [("19.png", 21)]
    assert {row.range for row in report.rows} == {(0, 90)}
    with pytest.raises(UsageError, match="range is empty"):
        check_labelled(photos, file, score_range=(1, 1))


def test_names_are_found_beside_the_labels_and_by_their_last_part(tmp_path: Path) -> None:
    for number, name in enumerate(("train/img/a.png", "train/b.png", "x/c.png", "y/c.png")):
        paint(number, tmp_path / name)
    file = tmp_path / "train" / "label.json"
    names = ["a.png", "b.png", "c.png", "../x/c.png"]
    file.write_text(json.dumps({"Image": names, "MOS": [1, 2, 3, 4]}), encoding="utf-8")
    report = check_labelled(tmp_path, file, workers=1)
    assert [row.image for row in report.rows] == ["train/img/a.png", "train/b.png"]
    assert [finding.line for finding in report.findings if finding.line] == [3, 4]
    assert "2 photos have this name" in report.findings[0].detail


def test_worker_processes_find_the_same(photos: Path) -> None:
    file = labels(photos, good(photos))
    (photos / "03.png").write_bytes(b"no image")
    assert check_labelled(photos, file, workers=2) == check_labelled(photos, file, workers=1)


def test_unlabelled_folders(photos: Path) -> None:
    shutil.copy(photos / "00.png", photos / "copy.png")
    report = check_unlabelled(photos, workers=1)
    assert report.counts == {"exact duplicate": 1}
    assert [row.score for row in report.rows] == [None] * 20
    again = check_unlabelled(photos, plan=CheckPlan(seed=7), workers=1)
    assert [row.split for row in again.rows] != [row.split for row in report.rows]


def test_folders_without_photos(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        check_unlabelled(tmp_path / "absent")
    with pytest.raises(UsageError, match="no photo"):
        check_unlabelled(tmp_path)


def test_a_full_disk_leaves_nothing_half_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = check_unlabelled(photos, workers=1)
    write_report(report, tmp_path)
    before = (tmp_path / "manifest.jsonl").read_bytes()

    def fill(path: Path, text: str, **_: object) -> int:
        path.write_bytes(text.encode()[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fill)
        with pytest.raises(DataError, match=r"disk is full.*free space"):
            write_report(report, tmp_path)
    assert (tmp_path / "manifest.jsonl").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "check.json",
        "manifest.jsonl",
        "set",
    ]


def test_strange_file_names_survive(photos: Path) -> None:
    names = ["[b]bold[/b].png", "line\u2028end.png", os.fsdecode(b"no\xfftext.png")]
    for number, name in enumerate(names):
        paint(50 + number, photos / name)
    (photos / "broken[x].png").write_bytes(b"")
    run = CliRunner().invoke(app, ["data", "check", str(photos), "--unlabelled", "--workers", "1"])
    assert "broken[x].png" in run.stdout
    (photos / "broken[x].png").unlink()
    run = CliRunner().invoke(app, ["data", "check", str(photos), "--unlabelled", "--workers", "1"])
    assert run.exit_code == 0, run.output
    lines = (photos / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["image"] for line in lines} >= set(names)


def test_command_prints_writes_and_fails(photos: Path, tmp_path: Path) -> None:
    labels(photos, good(photos) | {"gone.png": 0.5})
    run = CliRunner().invoke(app, ["data", "check", str(photos), "--workers", "1"])
    assert run.exit_code == 0, run.output
    assert "missing photo" in run.stdout
    assert "gone.png (line 22)" in run.stdout
    assert (photos / "manifest.jsonl").is_file()

    out = tmp_path / "out"
    arguments = ["data", "check", str(photos), "--workers", "1", "--range", "-1", "1", "--json"]
    run = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert json.loads(run.stdout)["counts"] == {"missing photo": 1}
    assert json.loads((out / "check.json").read_text(encoding="utf-8"))["labels"]["rows"] == 21

    labels(photos, dict.fromkeys(good(photos), 0.5))
    run = CliRunner().invoke(
        app, ["data", "check", str(photos), "--workers", "1", "--out", str(out)]
    )
    assert isinstance(run.exception, DataError)
    assert run.exception.exit_code == 1
    assert not (out / "manifest.jsonl").exists()
    assert "constant labels" in run.stdout

    run = CliRunner().invoke(app, ["data", "check", str(photos), "--unlabelled", "--layout", "csv"])
    assert isinstance(run.exception, UsageError)
    run = CliRunner().invoke(app, ["data", "check", "--help"])
    assert "edgefiqa data check vquala/train" in run.stdout
