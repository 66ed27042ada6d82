"""The demo as a whole, with one format and few images: what it writes, keeps, refuses, replaces."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tests.conftest import Run

from edgefiqa.benchmarks.documents.exported import drift_table, export_table, latency_table
from edgefiqa.benchmarks.documents.sources import Sources
from edgefiqa.benchmarks.latency.rules import LatencyRules
from edgefiqa.demo import Demo, Settings, run
from edgefiqa.demo.keep_records import keep_records
from edgefiqa.demo.remeasure import remeasure
from edgefiqa.errors import DataError
from edgefiqa.files import sha256_of
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.records import LatencyPhase
from edgefiqa.measuring.run_directory import load_run

pytestmark = pytest.mark.slow

RULES = LatencyRules(rounds=2, turns=1, warm_up=0, turn_warm_up=0, min_count=4, min_seconds=0)
TINY = Settings(
    targets="onnx",
    size=176,
    recipe="static_w8a8_per_channel",
    calibration=8,
    evaluation=12,
    rules=RULES,
)
INT8 = "default-student_176_static_w8a8_per_channel.onnx"
FLOAT = "default-student_176_fp32.onnx"
KEPT = "kept from before"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Demo, list[str]]:
    out, said = tmp_path_factory.mktemp("demo") / "out", list[str]()
    return out, run(out, None, say=said.append, settings=TINY), said


def test_float_and_int8_are_scored_and_timed(made: tuple[Path, Demo, list[str]]) -> None:
    out, demo, said = made
    assert demo.failures == ()
    assert len(demo.seconds) == 8 and not any(KEPT in text for text in said)
    found = load_run(out)
    hashes = {
        artifact.file: artifact.sha256 for artifact in Manifest.load(out / "export").artifacts
    }
    assert set(hashes) == {FLOAT, INT8}
    for records in (
        found.latency,
        [record for record in found.drift if record.executed.target == "onnx"],
    ):
        assert {record.executed.file: record.executed.sha256 for record in records} == hashes
    assert all(sha256_of(out / "export" / name) == digest for name, digest in hashes.items())
    assert found.images is not None and found.images.label is not None
    assert found.images.identity.count == 12
    scored = json.loads((out / "pictures.json").read_text())
    assert [column["sha256"] for column in scored["columns"][1:]] == list(hashes.values())


def test_the_report_shows_both_and_says_what_the_images_are(
    made: tuple[Path, Demo, list[str]],
) -> None:
    out, demo, said = made
    assert demo.report == out / "report.html"
    # Labels of such images judge nothing, and that is said.
    assert json.loads((out / "demo.json").read_text())["policy"] == "quantised_unlabelled"
    assert any("policy quantised_unlabelled" in text for text in said)
    page = demo.report.read_text().replace("<wbr>", "")
    assert "Gate: quantised, no labels" in page
    for text in (FLOAT, INT8, "not the faces that this scorer is made for", "time / float file"):
        assert text in page, text
    markdown = (out / "report.md").read_text()
    for picture in re.findall(r"\]\((.*?)\)", markdown):
        assert (out / picture).is_file(), picture
    assert "| onnx static_w8a8_per_channel |" in markdown
    assert "## Every file against torch" in markdown


def test_what_is_finished_is_kept(made: tuple[Path, Demo, list[str]]) -> None:
    out, _, _ = made
    folders = ("export", "images", "latency", "scores")
    before = {p: p.stat().st_mtime_ns for name in folders for p in (out / name).rglob("*.onnx")}
    times = (out / "latency_summary.json").read_bytes()
    said: list[str] = []
    run(out, None, say=said.append, settings=TINY)
    assert sum(KEPT in text for text in said) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (out / "latency_summary.json").read_bytes() == times
    assert "12 photographs" in (out / "report.html").read_text()


def test_gate_compare_and_report_read_it(made: tuple[Path, Demo, list[str]], run_cli: Run) -> None:
    out, _, _ = made
    gated = run_cli("gate", out, "--policy", "float", "--export", out / "export")
    assert gated.returncode == 0, gated.stdout + gated.stderr
    assert FLOAT in gated.stdout
    gated = run_cli("gate", out, "--policy", "quantised")
    assert f"{INT8} in onnxruntime: " in gated.stdout
    compared = run_cli("compare", out, out)
    assert compared.returncode == 0, compared.stderr
    reported = run_cli("report", out, "--out", out.parent / "again")
    assert reported.returncode == 0, reported.stderr


def test_bench_measures_again_and_makes_the_tables(
    made: tuple[Path, Demo, list[str]], tmp_path: Path
) -> None:
    demo = made[0]
    remeasure(demo, tmp_path / "bench", say=lambda _: None, rules=RULES)
    run_before, run_now = load_run(demo), load_run(tmp_path / "bench")
    assert run_now.images == run_before.images
    assert {record.host.recorded_at for record in run_now.latency} != {
        record.host.recorded_at for record in run_before.latency
    }
    with pytest.raises(DataError, match="not empty"):
        remeasure(demo, tmp_path / "bench", say=lambda _: None, rules=RULES)

    sources = Sources(records=tmp_path)
    picture = tmp_path / "demo.png"
    keep_records(demo, tmp_path / "bench", sources=sources, picture=picture)
    hashes = {
        artifact.file: artifact.sha256[:12] for artifact in Manifest.load(demo / "export").artifacts
    }
    for table in (latency_table, drift_table):
        assert all(f"`{digest}`" in table(sources) for digest in hashes.values())
    assert f"`{hashes[FLOAT]}`" in export_table(sources)
    assert f"`{hashes[INT8]}`" not in export_table(sources)
    # Two rounds of one turn: the centre of their logarithms is the geometric mean.
    medians = {
        record.executed.file: [
            np.median(
                np.array(record.samples_ms[LatencyPhase.INFERENCE])[np.array(record.rounds) == turn]
            )
            for turn in range(2)
        ]
        for record in run_now.latency
    }
    ratios = np.array(medians[INT8]) / medians[FLOAT]
    assert f"| {np.sqrt(ratios.prod()):.3f} no interval |" in latency_table(sources)
    with Image.open(picture) as image:
        assert image.height < 300  # one row: the portrait alone

    other = replace(sources, card=sources.card.model_copy(update={"sha256": "0" * 64}))
    for table in (export_table, latency_table, drift_table):
        with pytest.raises(DataError, match="is of the weights"):
            table(other)


def test_a_file_that_the_policy_refuses_is_a_row(
    made: tuple[Path, Demo, list[str]], tmp_path: Path, run_cli: Run
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made[0] / "export", out / "export")
    shutil.copytree(made[0] / "images", out / "images")
    rules = [{"metric": "max_error", "max": 1e-9}]
    policy = {"schema_version": 1, "name": "strict", "rules": rules}
    (tmp_path / "strict.yaml").write_text(yaml.safe_dump(policy))
    recipe = {"name": "own_w8", "modes": ["static"], "policy": str(tmp_path / "strict.yaml")}
    (tmp_path / "custom.yaml").write_text(yaml.safe_dump(recipe | {"sensitivity_images": 2}))
    said: list[str] = []
    demo = run(
        out, None, say=said.append, settings=replace(TINY, recipe=str(tmp_path / "custom.yaml"))
    )
    (failure,) = demo.failures
    name = "default-student_176_own_w8.onnx"
    assert failure.file == name and failure.precision == "own_w8"
    assert "refused by the policy" in failure.error and "max_error" in failure.error
    assert any(name in text for text in said)
    assert not (out / "export" / name).exists()
    assert name not in {artifact.file for artifact in Manifest.load(out / "export").artifacts}
    page = demo.report.read_text().replace("<wbr>", "")
    assert name in page and "refused by the policy" in page
    gated = run_cli("gate", out, "--policy", "quantised")
    assert gated.returncode == 1
    assert f"FAIL  {name} in onnxruntime" in gated.stdout


def test_other_images_replace_records_and_keep_float_files(
    made: tuple[Path, Demo, list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made[0], out)
    said: list[str] = []
    run(out, None, say=said.append, settings=replace(TINY, evaluation=13))
    steps = [text for text in said if not text.startswith(" ") or KEPT in text]
    after = {text: later for text, later in zip(steps, [*steps[1:], ""], strict=True)}
    kept = {text.split()[1] for text, later in after.items() if KEPT in later}
    assert kept == {"convert:"}
    found = load_run(out)
    assert found.images is not None and found.images.identity.count == 13
    assert {record.executed.file for record in found.latency} == {FLOAT, INT8}


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    kept = [out / "logs" / "mine.txt", out / "images.json", out / "export" / "mine.txt"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")

    class Stop(Exception):
        pass

    def stop(text: str) -> None:
        if text.startswith("2/8"):
            raise Stop

    with pytest.raises(Stop):
        run(out, None, say=stop, settings=TINY)
    assert all(path.read_text() == "{}" for path in kept)
