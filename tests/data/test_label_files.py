import csv
import io
import json
import math
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefiqa.data.label_files import LAYOUTS, LabelLayout, find_label_file, read_labels
from edgefiqa.errors import RecipeError, UnknownNameError

# The first lines of the published file (DXOMARK-Research/PIQ2023, Scores/Scores_Overall.csv).
PIQ23 = (
    "IMAGE PATH,JOD,JOD STD,CI LOW,CI HIGH,CI RANGE,QUALITY LEVEL,CLUSTER,TOTAL COMPARISONS,"
    "IMAGE,SCENE,ATTRIBUTE,SCENE IDX,CONDITION\n"
    "Overall\\66_Indoor_Scene_0.jpg,-3.720674450398623,0.39,-4.44,-2.87,1.57,0,-1.0,143.0,"
    "66_Indoor_Scene_0.jpg,Indoor_Scene_0,Overall,0,Indoor\n"
)

SAMPLES = {
    LabelLayout.VQUALA: ("00001,0.5\nb.jpg,0.25\n", [("00001.png", 0.5, 1), ("b.jpg", 0.25, 2)]),
    LabelLayout.GFIQA20K: ("img_name,mos\n3.jpg,0.75\n", [("3.jpg", 0.75, 2)]),
    LabelLayout.CGFIQA40K: (
        json.dumps({"Image": ["x.png", "y.png"], "MOS": [1.5, 3]}),
        [("x.png", 1.5, 1), ("y.png", 3.0, 2)],
    ),
    LabelLayout.PIQ23: (PIQ23, [("Overall/66_Indoor_Scene_0.jpg", -3.720674450398623, 2)]),
    LabelLayout.CSV: ("Image,note,Score\n./a b.png,x,0.1\n", [("a b.png", 0.1, 2)]),
}


def write(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def triples(path: Path, layout: str | None = None) -> list[tuple[str, float, int]]:
    return [(row.image, row.score, row.line) for row in read_labels(path, layout).rows]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("layout", LabelLayout)
def test_every_layout_is_read_and_recognised(
    layout: LabelLayout, named: bool, tmp_path: Path
) -> None:
    text, expected = SAMPLES[layout]
    path = write(tmp_path, text)
    file = read_labels(path, layout if named else None)
    assert file.layout is layout
    assert triples(path, layout if named else None) == expected
    assert file.score_range == LAYOUTS[layout].score_range
    assert not file.faults


def test_open_scales_have_no_range() -> None:
    assert LAYOUTS[LabelLayout.PIQ23].score_range is None
    assert LAYOUTS[LabelLayout.VQUALA].score_range == (0, 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encodings_line_ends_and_delimiters(
    encoding: str, end: str, delimiter: str, tmp_path: Path
) -> None:
    text = "image,score\n\njosé.png,0.5\nb.png,1\n".replace("\n", end).replace(",", delimiter)
    path = write(tmp_path, text.encode(encoding))
    assert triples(path) == [("josé.png", 0.5, 3), ("b.png", 1.0, 4)]


def test_rows_without_a_number_are_kept_apart_with_their_lines(tmp_path: Path) -> None:
    values = ["nan", "0.5", "inf", "-inf", "good", "", "1_0", "0,5"]
    text = "image;score\n" + "".join(f"{i}.png;{value}\n" for i, value in enumerate(values))
    file = read_labels(write(tmp_path, text + "alone.png\n;0.5\n"))
    assert [(row.line, row.score) for row in file.rows] == [(3, 0.5)]
    assert [fault.line for fault in file.faults] == [2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert (file.faults[4].image, file.faults[4].found) == ("5.png", "''")
    assert file.faults[-1].found == "no image name"


def test_json_faults_have_the_number_of_the_entry(tmp_path: Path) -> None:
    text = '{"Image": ["a", "b", "c", "d", 5], "MOS": [NaN, 1, true, null, 2]}'
    file = read_labels(write(tmp_path, text, "label.json"))
    assert [fault.line for fault in file.faults] == [1, 3, 4, 5]


def test_only_vquala_lends_a_suffix(tmp_path: Path) -> None:
    path = write(tmp_path, "a.v2,0.5\nb.JPG,0.5\n")
    assert [row.image for row in read_labels(path).rows] == ["a.v2.png", "b.JPG"]
    path = write(tmp_path, "image,score\na.v2,0.5\n")
    assert [row.image for row in read_labels(path).rows] == ["a.v2"]


@pytest.mark.parametrize(
    ("text", "layout", "message"),
    [
        ("a.png,0.5\n", "csv", r"labels\.csv, line 1: found a\.png, 0\.5.*looks like vquala"),
        ("image,score\na,1\n", "vquala", r"line 1: found image, score.*looks like csv"),
        ("image,score\na,1\n", "piq23", r"not laid out as piq23.*looks like csv"),
        ("\n\nname,width\nx,1\n", None, r"line 3: found name, width.*gfiqa20k"),
        ("just text", None, r"line 1: found just text.*--layout"),
        ('{"a": 1}', None, r"JSON that holds a"),
        ('{"Image": ["a"], "MOS": []}', None, r"1 images, 0 scores"),
        ('{"Image": ["a"', None, r"damaged JSON"),
        ('{"Image": ["a"], "MOS": [1]}', "vquala", r"not laid out as vquala"),
        ("", None, "is empty"),
        ("image,score\n", None, "no rows"),
        (b"\xff\xfea\x00,", None, "no text in UTF-8"),
        (b"image,score\nb\xe9b\xe9,1\n", None, "no text in UTF-8.*byte 13"),
    ],
)
def test_wrong_layouts_name_file_line_and_what_was_found(
    text: str | bytes, layout: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        read_labels(write(tmp_path, text), layout)
    assert str(tmp_path / "labels.csv") in str(caught.value)


def test_unknown_names_and_absent_files(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="vquala, gfiqa20k"):
        read_labels(tmp_path / "x.csv", "koniq")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_labels(tmp_path / "x.csv")


def test_a_named_layout_wins_where_several_fit(tmp_path: Path) -> None:
    path = write(tmp_path, "img_name,mos\na.png,4\n")
    assert read_labels(path).layout is LabelLayout.GFIQA20K
    assert read_labels(path, "csv").layout is LabelLayout.CSV


def test_the_only_label_file_of_a_folder_is_found(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no label file"):
        find_label_file(tmp_path)
    write(tmp_path, "name,width\nx,1\n", "faces.csv")
    write(tmp_path, '{"kind": "edgefiqa-data-check/1"}', "check.json")
    labels = write(tmp_path, "a.png,0.5\n", "train.txt")
    assert find_label_file(tmp_path) == labels
    write(tmp_path, "image,score\na.png,0.5\n", "more.csv")
    with pytest.raises(RecipeError, match=r"several.*more\.csv, train\.txt"):
        find_label_file(tmp_path)


NAMES = st.text(string.ascii_letters + string.digits + "é_-", min_size=1, max_size=12)
CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(NAMES, st.floats()), min_size=1, max_size=8),
    end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from(",;\t|"),
)
def test_what_the_csv_module_wrote_is_read_back(
    rows: list[tuple[str, float]],
    end: str,
    delimiter: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end, delimiter=delimiter)
    writer.writerows([("image", "score"), *((f"{name}.png", score) for name, score in rows)])
    path = write(tmp_path_factory.getbasetemp(), text.getvalue(), "fuzz.csv")
    file = read_labels(path)
    numbered = [(f"{n}.png", s, line) for line, (n, s) in enumerate(rows, start=2)]
    assert triples(path) == [row for row in numbered if math.isfinite(row[1])]
    assert [f.line for f in file.faults] == [r[2] for r in numbered if not math.isfinite(r[1])]


@settings(deadline=None)
@given(rows=st.lists(st.lists(CELLS, max_size=4), max_size=6), head=st.booleans())
def test_any_text_is_read_or_refused(
    rows: list[list[str]], head: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "\n".join([*(["image,score"] if head else []), *(",".join(row) for row in rows)])
    path = write(tmp_path_factory.getbasetemp(), text, "any.csv")
    try:
        file = read_labels(path)
    except RecipeError as refusal:
        assert str(path) in str(refusal)
    else:
        assert all(math.isfinite(row.score) and row.image for row in file.rows)
        lines = [row.line for row in file.rows] + [fault.line for fault in file.faults]
        assert len(set(lines)) == len(lines)
