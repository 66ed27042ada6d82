"""Tables and headings in Markdown: whatever the texts, a cell stays a cell."""

import re

from hypothesis import given
from hypothesis import strategies as st

from edgefiqa.markdown import Table, heading

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def cells(line: str) -> list[str]:
    """Split a row as a Markdown reader does: at the bars that are not escaped."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_a_table_as_it_is_written() -> None:
    table = Table(heads=("file", "MB"), rows=[("a.onnx", "4.70"), ("b.tflite", "")])
    assert table.markdown() == ("| file | MB |\n| --- | --- |\n| a.onnx | 4.70 |\n| b.tflite |  |")


def test_a_table_without_rows() -> None:
    assert Table(heads=("file",), rows=()).markdown() == "| file |\n| --- |"


def test_bars_and_line_breaks_stay_in_their_cell() -> None:
    table = Table(heads=("|ΔSRCC|",), rows=[("a|b\nc\r\nd\t e",)])
    assert table.markdown().splitlines() == [r"| \|ΔSRCC\| |", "| --- |", r"| a\|b c d e |"]


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[TEXTS] * n), min_size=1)))
def test_every_row_has_every_cell(rows: list[tuple[str, ...]]) -> None:
    width = len(rows[0])
    lines = Table(heads=["head"] * width, rows=rows).markdown().split("\n")
    assert len(lines) == len(rows) + 2
    for line, row in zip(lines[2:], rows, strict=True):
        # A text that ends in a backslash would escape the bar after it, were there no space.
        assert [cell.replace("\\|", "|") for cell in cells(line)] == [
            " ".join(text.split()) for text in row
        ]


def test_headings() -> None:
    assert heading("Drift") == "## Drift"
    assert heading("Drift", 1) == "# Drift"
    assert heading(" a\nname ", 3) == "### a name"
