"""Latency over adb: the real adb against a phone's wire protocol, and what goes wrong there."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.benchmarks.latency.fake_adbd import FakeAdbd
from tests.benchmarks.latency.fake_agent import FakePhone
from tests.tiny_onnx import write_manifest, write_tiny

from edgefiqa.benchmarks.latency.cells import list_latency_cells
from edgefiqa.benchmarks.latency.run import LatencyRules, measure_latency
from edgefiqa.benchmarks.latency.summary import LatencyOutcome
from edgefiqa.benchmarks.latency.targets.adb import AdbTarget
from edgefiqa.benchmarks.latency.targets.adb_command import parse_instrumentation
from edgefiqa.benchmarks.report.page import write_report
from edgefiqa.errors import EdgeFiqaError, UsageError
from edgefiqa.goldens import GoldenCase, Goldens
from edgefiqa.measuring.cells import Cell
from edgefiqa.measuring.records import LatencyPhase
from edgefiqa.measuring.run_directory import load_run

RULES = LatencyRules(rounds=2, warm_up=3, turn_warm_up=1, min_count=40, min_seconds=2)
needs_adb = pytest.mark.skipif(
    shutil.which("adb") is None, reason="no adb here; scripts/install-test-tools installs it"
)


@pytest.fixture(scope="module", autouse=True)
def _own_adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server of adb's on a separate port: the user's, and the user's phones, stay out."""
    if shutil.which("adb") is None:
        yield
        return
    with socket.socket() as listener, pytest.MonkeyPatch.context() as patch:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
        listener.close()
        patch.setenv("ANDROID_ADB_SERVER_PORT", port)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # for its key
        patch.setenv("ADB_MDNS", "0")
        yield
        subprocess.run(["adb", "-P", port, "kill-server"], check=False, capture_output=True)


def _export(folder: Path, *names: str) -> list[Cell]:
    """Write an export with golden vectors whose pictures do not matter here."""
    for place, name in enumerate(names):
        write_tiny(folder / name, perturbed=0.01 * place)
    write_manifest(folder, dict.fromkeys(names, "fp32"))
    (folder / "goldens").mkdir()
    case = GoldenCase(
        name="face",
        photo="face.png",
        photo_sha256="0" * 64,
        tensor="face.tensor.png",
        tensor_sha256="0" * 64,
        tensor_tolerance=0,
        score=0.5,
    )
    goldens = Goldens(
        size=16, parent_sha256="0" * 64, reference="torch", tolerances={"fp32": 1e-4}, cases=[case]
    )
    goldens.save(folder / "goldens")
    return list_latency_cells([folder])


def _measure(cells: list[Cell], phone: FakePhone, tmp_path: Path, **kinds: bool) -> LatencyOutcome:
    fake = FakeAdbd(tmp_path / "phone", phone, **kinds)
    with fake.running() as serial:
        outcome = measure_latency(cells, RULES, out=tmp_path / "run", target=AdbTarget(serial))
    assert not list((tmp_path / "phone").rglob("*.onnx")), "nothing is left there"
    return outcome


@needs_adb
def test_records_from_a_phone(tmp_path: Path) -> None:
    cells = _export(tmp_path / "export", "a.onnx", "b.onnx")
    phone = FakePhone("onnxruntime")
    fake = FakeAdbd(tmp_path / "phone", phone)
    with fake.running() as serial:
        outcome = measure_latency(cells, RULES, out=tmp_path / "run", target=AdbTarget(serial))
        second = measure_latency(cells[:1], RULES, out=tmp_path / "2", target=AdbTarget(serial))
    assert [failure.error for failure in (*outcome.failures, *second.failures)] == []
    saved = load_run(tmp_path / "run").latency
    assert (
        tuple(sorted(saved, key=lambda saved_record: saved_record.executed.file)) == outcome.records
    )
    for record, cell in zip(outcome.records, cells, strict=True):
        assert record.device == f"adb:{serial}"
        assert record.executed.sha256 == cell.sha256
        assert record.executed.runtime_version == "onnxruntime 9.9"
        assert (record.rules.rounds, record.rules.turns) == (2, 1)
        assert record.rounds == (0,) * 20 + (1,) * 20
        assert {phase: len(m) for phase, m in record.samples_ms.items()} == {
            LatencyPhase.LOAD: 2,
            LatencyPhase.FIRST: 2,
            LatencyPhase.INFERENCE: 40,
            LatencyPhase.DECODE: 2,
            LatencyPhase.PREPROCESS: 2,
            LatencyPhase.PHOTO_INFERENCE: 2,
            LatencyPhase.END_TO_END: 2,
        }
        assert record.samples_ms[LatencyPhase.LOAD][0] == pytest.approx(7)
        assert record.samples_ms[LatencyPhase.END_TO_END][0] == pytest.approx(5, abs=1e-3)
        assert record.host.processor == "Made Up, SoC 1"
        assert record.host.packages["dev.edgefiqa.demo.onnxruntime"] == "1.0"
        assert record.peak_rss_bytes == 90_000_000
    assert len(outcome.ratios) == 1
    rules = phone.jobs[0]["rules"]
    assert (rules["minimum_count"], rules["minimum_duration_ns"]) == (20, 1_000_000_000)
    assert phone.jobs[0]["size"] == 16
    assert len({job["job_id"] for job in phone.jobs}) == 6
    models = {mode & 0o777 for name, mode in fake.pushed.items() if "model" in name}
    assert models == {0o644}, "the app is another user"
    left = [path for path in (tmp_path / "phone").rglob("*") if path.is_file()]
    assert left == []
    assert (
        f"adb:{serial}: Made Up"
        in write_report(load_run(tmp_path / "run"), tmp_path)[0].read_text()
    )


@needs_adb
@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("disconnect", "the phone went away"),
        ("truncated", "report is not valid"),
        ("crash", "the agent died: java.lang.UnsatisfiedLinkError"),
        ("golden", "golden mismatch: 1 of 1 checks: face, tensor_to_score: off by 0.25"),
        ("other model", "answers another job: model sha256"),
        ("load", "load: ScorerException: no such operator"),
        ("unwritten", "wrote no report: the disk is full"),
        ("slow", "did not reach the fewest samples"),
    ],
)
def test_a_job_that_fails_is_an_error_row_and_the_others_finish(
    tmp_path: Path, fault: str, what: str
) -> None:
    cells = _export(tmp_path / "export", "bad.onnx", "good.onnx")
    phone = FakePhone("onnxruntime", faults={cells[0].sha256: fault})
    outcome = _measure(cells, phone, tmp_path)
    (failure,), (record,) = outcome.failures, outcome.records
    assert failure.file == "bad.onnx"
    with pytest.raises(EdgeFiqaError, match=what):
        raise EdgeFiqaError(failure.error)
    assert record.executed.file == "good.onnx"
    assert len(record.samples_ms[LatencyPhase.INFERENCE]) == 40


@needs_adb
def test_what_is_wrong_with_the_phone_is_said(tmp_path: Path) -> None:
    cells = _export(tmp_path / "export", "a.onnx")
    with pytest.raises(EdgeFiqaError, match=r"does not let us in.*accept this computer"):
        _measure(cells, FakePhone("onnxruntime"), tmp_path / "1", authorised=False)
    with pytest.raises(EdgeFiqaError, match=r"storage is full.*make room"):
        _measure(cells, FakePhone("onnxruntime"), tmp_path / "2", full=True)
    with pytest.raises(UsageError, match=r"not installed on the phone: dev\.edgefiqa\.demo\.onnx"):
        _measure(cells, FakePhone("litert"), tmp_path / "3")
    for serial, what in (("127.0.0.1:1", "cannot be reached"), ("absent", "is not there")):
        with pytest.raises(EdgeFiqaError, match=what):
            measure_latency(cells, RULES, out=tmp_path / "run", target=AdbTarget(serial))
    assert not (tmp_path / "run" / "latency").exists()


@needs_adb
def test_a_hot_phone_is_noise(tmp_path: Path) -> None:
    phone = FakePhone("onnxruntime")
    phone.thermal = "moderate"
    outcome = _measure(_export(tmp_path / "export", "a.onnx"), phone, tmp_path)
    assert "thermal status moderate" in (outcome.records[0].noise or "")


def test_what_the_agent_does_not_do_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    cells = _export(tmp_path / "export", "a.onnx")
    target = AdbTarget()
    with (
        pytest.raises(UsageError, match="golden photographs"),
        target.opened(cells, [tmp_path], ()),
    ):
        pass
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "model.safetensors").write_bytes(bytes(8) + b"{}")
    weights = list_latency_cells([tmp_path / "torch"])
    with pytest.raises(UsageError, match="the agent runs none of these"):
        measure_latency(weights, RULES, out=tmp_path / "run", target=target)


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        ("INSTRUMENTATION_RESULT: report=/a b.json\nINSTRUMENTATION_CODE: -1\n", ""),
        ("INSTRUMENTATION_RESULT: report=/a.json\n", "went away"),
        ("", "went away"),
        ("INSTRUMENTATION_STATUS: Error=Unable to find instrumentation info for: x\n", "not inst"),
        ("INSTRUMENTATION_RESULT: shortMsg=Process crashed.\nINSTRUMENTATION_CODE: 0", "died"),
        ("INSTRUMENTATION_CODE: -1\n", "wrote no report"),
    ],
)
def test_what_am_instrument_prints(output: str, fault: str) -> None:
    told = parse_instrumentation(output)
    assert bool(told.fault) == bool(fault)
    assert fault in told.fault
    if not fault:
        assert told.results["report"] == "/a b.json"
