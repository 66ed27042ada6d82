import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.sets import bright_images, bright_set, make_set

from edgefiqa.data import image_set as module
from edgefiqa.data.image_set import Entry, Split, build_image_set, open_image_set, shard_path
from edgefiqa.errors import DataError
from edgefiqa.files import sha256_of

IMAGES = [
    np.random.default_rng(row).integers(0, 256, (20, 20 + row, 3), dtype=np.uint8)
    for row in range(7)
]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    labels = [0.1, None, 0.3, 0.4, 0.5, 0.6, 0.7]
    splits = ["train"] * 5 + ["held_back", "held_out_types"]
    made = make_set(tmp_path, IMAGES, labels=labels, splits=splits, per_shard=3)
    opened = open_image_set(tmp_path)
    assert opened.records == made.records
    assert len(opened) == 7
    assert opened.size == 20
    for row, image in enumerate(IMAGES):
        assert np.array_equal(opened.image(row), image)
        assert not opened.image(row).flags.writeable
    wanted = np.array([np.nan if label is None else label for label in labels], np.float32)
    np.testing.assert_array_equal(opened.labels, wanted)
    assert opened.rows(Split.TRAIN).tolist() == [0, 1, 2, 3, 4]
    assert opened.rows(Split.HELD_OUT_TYPES).tolist() == [6]
    assert opened.rows().tolist() == list(range(7))


WEBDATASET = """
import json, sys, webdataset
shards = [f"{sys.argv[1]}/shards/{n:05d}.tar" for n in range(3)]
read = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode()
print(json.dumps([[x["__key__"], x["json"]["label"], x["npy"].tolist()] for x in read]))
"""


def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    made = make_set(tmp_path, IMAGES, labels=[0.5] * 7, per_shard=3)
    # In a separate process: it leaves files to the garbage collector, which warns.
    done = subprocess.run(
        [sys.executable, "-c", WEBDATASET, str(tmp_path)], capture_output=True, check=True
    )
    read = json.loads(done.stdout)
    assert [key for key, _, _ in read] == made.keys
    assert all(label == 0.5 for _, label, _ in read)
    for (_, _, pixels), image in zip(read, IMAGES, strict=True):
        assert np.array_equal(np.array(pixels), image)


def test_built_twice_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_set(tmp_path / name, IMAGES, labels=[0.5] * 7)
        time.sleep(1.1)  # a time stamp in the archive would differ
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")


def test_photographs_that_could_not_be_read_are_listed(tmp_path: Path) -> None:
    entries = [
        Entry(record={"key": "a", "split": "train", "label": 0.1}, image=IMAGES[0]),
        Entry(record={"key": "b", "split": "train", "label": 0.2, "error": "cut"}, image=None),
    ]
    made = build_image_set(
        tmp_path, plan={"size": 20}, jobs=[entries], make=list, workers=0, title="test"
    )
    assert made.keys == ["a"]
    assert [record["error"] for record in made.meta["skipped"]] == ["cut"]


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished image set"):
        open_image_set(tmp_path)
    make_set(tmp_path / "set", IMAGES, labels=[0.5] * 7)
    meta = tmp_path / "set" / "meta.json"
    for damage, message in (
        (lambda folder: (folder / "index.jsonl").write_text("{}\n"), "index was changed"),
        (lambda folder: os.truncate(shard_path(folder, 0), 5000), "cut short"),
        (lambda folder: (folder / "meta.json").write_text('{"format": "x/9"}'), "another format"),
    ):
        copy = tmp_path / message.replace(" ", "-")
        shutil.copytree(meta.parent, copy)
        damage(copy)
        with pytest.raises(DataError, match=message):
            open_image_set(copy)


def test_another_plan_needs_another_folder(tmp_path: Path) -> None:
    make_set(tmp_path, IMAGES, labels=[0.5] * 7)
    with pytest.raises(DataError, match="another set"):
        make_set(tmp_path, IMAGES[:3], labels=[0.5] * 3)


def test_one_key_twice_is_refused(tmp_path: Path) -> None:
    entry = Entry(record={"key": "a", "split": "train", "label": 0.1}, image=IMAGES[0])
    with pytest.raises(DataError, match="one key"):
        build_image_set(
            tmp_path, plan={"size": 20}, jobs=[[entry, entry]], make=list, workers=0, title="t"
        )


def test_a_full_disk_is_named_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    images, labels = bright_images(4)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_add", full)
        with pytest.raises(DataError, match="disk is full"):
            make_set(tmp_path, list(images), labels=list(labels))
    assert not list((tmp_path / "shards").iterdir())
    assert len(make_set(tmp_path, list(images), labels=list(labels))) == 4


def slow_entries(job: int) -> Iterator[Entry]:
    rng = np.random.default_rng(job)
    for number in range(4):
        time.sleep(0.01)
        image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        key = f"{job:03d}-{number}"
        yield Entry(record={"key": key, "split": "train", "label": 0.5}, image=image)


SCRIPT = """
import sys
from pathlib import Path
from tests.data.test_image_set import slow_entries
from edgefiqa.data.image_set import build_image_set
build_image_set(Path(sys.argv[1]), plan={"size": 32}, jobs=list(range(40)), make=slow_entries,
                workers=0, title="t")
"""


@pytest.mark.parametrize("after", [0.1, 0.7])
def test_killed_and_resumed_is_the_same_bytes(tmp_path: Path, after: float) -> None:
    root = Path(__file__).parents[2]
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(killed)], cwd=root)
    while not (killed / "shards").exists():
        time.sleep(0.01)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "meta.json").exists()
    assert len(list((killed / "shards").glob("*.tar"))) < 40
    for out in (killed, tmp_path / "whole"):
        build_image_set(
            out, plan={"size": 32}, jobs=list(range(40)), make=slow_entries, workers=0, title="t"
        )
    assert sha256_of(killed) == sha256_of(tmp_path / "whole")


def test_meta_counts_the_splits(tmp_path: Path) -> None:
    made = bright_set(tmp_path)
    assert made.meta["splits"] == {"train": 24, "held_back": 8, "held_out_types": 8}
    assert made.identity == sha256_of(tmp_path / "index.jsonl")
    assert json.loads((tmp_path / "meta.json").read_text(encoding="utf-8")) == made.meta
