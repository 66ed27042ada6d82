"""The report: everything that was measured is in it, nothing is fetched, nothing is executed."""

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.benchmarks.report.sample_run import INT8, NASTY, latency_record, write_sample_run
from tests.records import FLOAT, executed, images_record, save_scores, score_record
from typer import Typer
from typer.testing import CliRunner

from edgefiqa.benchmarks.drift.run import DriftRules, measure_run
from edgefiqa.benchmarks.report import charts
from edgefiqa.benchmarks.report.data import ReportData, pareto_points, time_latency
from edgefiqa.benchmarks.report.page import write_report
from edgefiqa.commands import measure
from edgefiqa.measuring.gate import check_gate
from edgefiqa.measuring.policy import load_policy
from edgefiqa.measuring.run_directory import Run, load_run, save_record


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return write_sample_run(tmp_path / "run")


class _Page(HTMLParser):
    """What a browser would do with the page: elements, references, visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._hidden += tag in ("style", "script")
        names = ("src", "href", "xlink:href", "srcset", "data", "action")
        self.references += [value or "" for name, value in attrs if name in names]

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data


def _page(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    return page


def test_the_page_needs_no_network_and_runs_nothing(run: Run, tmp_path: Path) -> None:
    html = write_report(run, tmp_path, policy=load_policy("quantised"))[0].read_text()
    page = _page(html)
    assert not {"script", "iframe", "link", "object", "embed"} & set(page.tags)
    assert all(reference.startswith(("data:image/", "#")) for reference in page.references), (
        page.references
    )
    assert not re.search(r"url\((?!#)|@import", html)
    assert NASTY in page.text  # as text
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        ET.fromstring(svg)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_everything_measured_is_shown(run: Run, tmp_path: Path) -> None:
    html = write_report(run, tmp_path, policy=load_policy("quantised"))[0].read_text()
    page = _page(html)
    for title in (
        "Gate: quantised",
        "Summary",
        "Not measured",
        "Latency",
        "Size, quality and latency",
        "Float against converted",
        "Drift",
        "Drift, stage by stage",
        "Layers",
        "Slices",
        "Worst photographs: a_w8.onnx in onnxruntime",
        "Provenance",
    ):
        assert f"<h2>{title}</h2>" in html, title
    for text in (
        "it runs on macOS only",
        "scored once: a.onnx, copy.onnx",
        "load 7 on 2 cores",
        "p90 ms",
        "Test CPU",
        "b" * 64,
        "stem.0, below 20 dB",
        "dark: mean luma below 60 of 255",
    ):
        assert text in page.text, text
    assert html.count("data:image/jpeg;base64,") == 1
    figure = load_run(run.path).drift[0].slices["all"].figures["delta_srcc"]
    assert figure.value is not None
    assert f"{figure.value:+.4f}".replace("-", "−") in page.text


def test_the_gate_is_grouped_by_file(run: Run, tmp_path: Path) -> None:
    policy = load_policy("quantised")
    html = write_report(run, tmp_path, policy=policy)[0].read_text()
    gate = html.split('<div id="gate">')[1].split("</div>")[0]
    groups = re.findall(r"<details( open)?>(.*?)</details>", gate, flags=re.DOTALL)
    wanted: dict[str, list[bool]] = {}
    for verdict in check_gate(run, policy):
        wanted.setdefault(verdict.subject, []).append(verdict.passed)
    assert len(groups) == len(wanted) == 2
    for (is_open, text), passed in zip(groups, wanted.values(), strict=True):
        assert f"{sum(passed)} of {len(passed)} rules hold" in text
        assert text.count("<li>") == len(passed)
        assert bool(is_open) == (not all(passed))


def test_a_file_that_was_not_measured_says_so_once(run: Run, tmp_path: Path) -> None:
    policy = load_policy("half")
    html = write_report(run, tmp_path, policy=policy)[0].read_text()
    gate = html.split('<div id="gate">')[1].split("</div>")[0]
    assert gate.count("it runs on macOS only") == 1
    assert f"0 of {len(policy.rules)} rules hold" in gate


def test_each_file_has_its_own_slices(run: Run, tmp_path: Path) -> None:
    html = write_report(run, tmp_path)[0].read_text()
    tables = re.findall(r'<table class="stack" id="slices-\d+">(.*?)</table>', html, re.DOTALL)
    assert [table.count("<tr>") - 1 for table in tables] == [
        len(record.slices) for record in run.drift
    ]


def test_files_of_one_cost_and_quality_share_a_label() -> None:
    places = ((1, 4.7, 0.9), (2, 4.7001, 0.9), (3, 1.0, 0.8))
    points = [
        charts.Point(number=number, size_mb=size, quality=quality, latency_ms=None, best=True)
        for number, size, quality in places
    ]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", charts.pareto_chart(points, "SRCC"))
    assert "1, 2" in texts and "3" in texts


def test_light_dark_and_phones_are_provided_for(run: Run, tmp_path: Path) -> None:
    html = write_report(run, tmp_path)[0].read_text()
    assert 'name="viewport" content="width=device-width' in html
    assert "@media (prefers-color-scheme: dark)" in html
    assert "@media (max-width: 760px)" in html
    assert not re.search(r"<svg[^>]* (width|height)=", html)
    assert html.count("currentColor") > 10
    # On a phone each cell shows its column's name.
    rows = re.findall(r"<td data-name=\"([^\"]*)\"", html)
    assert {"SRCC to labels", "ΔSRCC", "slice", "why"} <= set(rows)


def test_markdown_and_json_hold_the_same(run: Run, tmp_path: Path) -> None:
    _, markdown, as_json = write_report(run, tmp_path, policy=load_policy("quantised"))
    content = json.loads(as_json.read_text())
    text = markdown.read_text()
    assert content["schema_version"] == 1
    assert len(content["drift"]) == 3
    for row in content["summary"]["rows"]:
        assert all(cell.replace("|", "\\|") in text for cell in row)
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(tables) > 20
    assert "- FAIL  a_w8.onnx" in text


def test_the_same_run_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_report(run, tmp_path / "1")]
    assert [path.read_bytes() for path in write_report(run, tmp_path / "2")] == first


def test_a_run_of_latency_alone_has_a_report(tmp_path: Path) -> None:
    save_record(tmp_path / "run", latency_record(executed(), np.arange(1.0, 11)))
    html = write_report(load_run(tmp_path / "run"), tmp_path)[0].read_text()
    assert "latency only" in html
    assert "<h2>Latency</h2>" in html
    assert "Worst photographs" not in html


def test_no_labels_one_image_and_constant_scores(tmp_path: Path) -> None:
    path = tmp_path / "run"
    images = images_record(1)
    records = [score_record([0.5], FLOAT, reference=True), score_record([0.6], INT8)]
    for _ in measure_run(save_scores(path, images, *records), DriftRules(resamples=5)):
        pass
    html = write_report(load_run(path), tmp_path)[0].read_text()
    assert "no labels" in html
    assert "<h2>Drift</h2>" in html


def test_only_files_that_nothing_beats_are_outlined(run: Run) -> None:
    points = {point.number: point for point in pareto_points(ReportData.of(run).rows)}
    best = {number for number, point in points.items() if point.best}
    quality = {number: point.quality for number, point in points.items()}
    fastest = min(points, key=lambda number: points[number].latency_ms or np.inf)
    assert {fastest, max(quality, key=quality.__getitem__)} <= best


def test_the_medians_interval_holds_the_median() -> None:
    inside = 0
    for seed in range(200):
        samples = np.random.default_rng(seed).exponential(size=60)
        timing = time_latency(latency_record(executed(), samples))
        assert timing is not None
        inside += timing.low_ms <= np.log(2) <= timing.high_ms
    assert 0.92 <= inside / 200 <= 0.99


def test_many_points_become_pixels(rng: np.random.Generator) -> None:
    few, many = (rng.random(n) for n in (50, 5000))
    assert "<image" not in charts.score_scatter(few, few, "a")
    svg = charts.score_scatter(many, many, "a", threshold=0.5)
    assert "<image" in svg
    assert len(svg) < 400_000


def test_the_command_writes_three_files(run: Run, tmp_path: Path) -> None:
    app = Typer()
    app.command()(measure.report)
    app.command()(measure.waterfall)
    done = CliRunner().invoke(app, ["report", str(run.path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.md", "report.json"}
    drawn = CliRunner().invoke(app, ["waterfall", str(run.path)])
    assert drawn.exit_code == 0, drawn.output
    assert "| stage | after |" in drawn.stdout
    assert list((run.path / "waterfall").glob("*.svg"))
