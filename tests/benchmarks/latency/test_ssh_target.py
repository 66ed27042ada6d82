"""Latency over ssh: a real sshd on the loopback, a remote Python without edgefiqa, real faults."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.benchmarks.latency.loopback_ssh import (
    Server,
    find_sshd,
    free_port,
    make_faulty,
    make_key,
    make_python,
    running_sshd,
)
from tests.tiny_onnx import write_tiny
from typer.testing import CliRunner

from edgefiqa.benchmarks.latency.cells import list_latency_cells
from edgefiqa.benchmarks.latency.run import LatencyRules, measure_latency
from edgefiqa.benchmarks.latency.targets import open_target
from edgefiqa.benchmarks.latency.targets.ssh import SshTarget
from edgefiqa.benchmarks.latency.targets.ssh_command import parse_address, ssh_command
from edgefiqa.benchmarks.report.page import write_report
from edgefiqa.cli import app
from edgefiqa.errors import EdgeFiqaError, UnknownNameError, UsageError
from edgefiqa.measuring.records import LatencyPhase
from edgefiqa.measuring.run_directory import load_run

needs_sshd = pytest.mark.skipif(
    find_sshd() is None, reason="no sshd here; scripts/install-test-tools installs it"
)
RULES = LatencyRules(
    rounds=2, turns=2, warm_up=1, turn_warm_up=1, min_count=8, min_seconds=0.4, photos_a_turn=1
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A remote machine's Python: numpy, Pillow, one runtime."""
    return make_python(tmp_path_factory.mktemp("remote"), ("numpy", "PIL", "onnxruntime"))


def _target(server: Server, python: Path | str, folder: Path | None = None) -> SshTarget:
    url = f"{server.url}{folder}" if folder else server.url
    return SshTarget(url, python=str(python), options=server.options)


@needs_sshd
def test_the_remote_python_has_no_edgefiqa(python: Path) -> None:
    for module in ("edgefiqa", "pydantic", "typer", "torch", "tensorflow"):
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
        assert b"ModuleNotFoundError" in done.stderr, module


@pytest.mark.slow
@needs_sshd
def test_records_from_another_machine(server: Server, python: Path, tmp_path: Path) -> None:
    paths = [write_tiny(tmp_path / "a.onnx"), write_tiny(tmp_path / "it's b.onnx", size=48)]
    photo = tmp_path / "a photo.jpg"
    Image.fromarray(np.zeros((90, 70, 3), np.uint8)).save(photo)
    folder = tmp_path / "over there"
    cells, out = list_latency_cells(paths), tmp_path / "run"
    target = _target(server, python, folder)
    outcome = measure_latency(cells, RULES, out=out, target=target, photos=[photo])
    assert [failure.error for failure in outcome.failures] == []
    assert load_run(out).latency == tuple(sorted(outcome.records, key=lambda r: r.executed.file))
    for record, cell in zip(outcome.records, cells, strict=True):
        assert record.device == server.url
        assert record.executed.sha256 == cell.sha256
        assert record.executed.runtime_version.startswith("onnxruntime ")
        assert len(record.samples_ms[LatencyPhase.INFERENCE]) >= 8
        assert sum(record.samples_ms[LatencyPhase.INFERENCE]) > 200
        assert sorted(set(zip(record.rounds, record.turns, strict=True))) == [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
        ]
        assert len(record.samples_ms[LatencyPhase.LOAD]) == 2
        assert len(record.samples_ms[LatencyPhase.END_TO_END]) == 4
        assert set(record.host.packages) == {"edgefiqa", "numpy", "pillow", "onnxruntime"}
        assert record.host_after is not None
        assert record.peak_rss_bytes is not None
        assert record.peak_rss_bytes > 2e7
    (ratio,) = outcome.ratios
    assert len(ratio.rounds) == 2
    assert list(folder.iterdir()) == [], "nothing is left there"
    assert server.url in write_report(load_run(out), out)[0].read_text()


@pytest.mark.slow
@needs_sshd
def test_crash_and_broken_connection_are_error_rows(
    server: Server, python: Path, tmp_path: Path
) -> None:
    script = """
case "$*" in
*latency.process*crash.onnx*) kill -SEGV $$ ;;
*latency.process*breaks.onnx*) read -r _ _ _ parent _ < /proc/$PPID/stat; kill -9 "$parent" ;;
*latency.process*chatter.onnx*) echo "Welcome!" ;;
esac"""
    faulty = make_faulty(tmp_path / "python", python, script)
    names = ("crash.onnx", "good.onnx", "breaks.onnx", "chatter.onnx", "damaged.onnx")
    paths = [write_tiny(tmp_path / name, perturbed=0.01 * n) for n, name in enumerate(names)]
    paths[-1].write_bytes(paths[-1].read_bytes()[:300])
    rules = LatencyRules(rounds=2, turns=1, warm_up=0, min_count=2, min_seconds=0)
    cells = list_latency_cells(paths)
    outcome = measure_latency(cells, rules, out=tmp_path / "run", target=_target(server, faulty))
    faults = {failure.file: failure.error for failure in outcome.failures}
    assert "the process died: signal 11" in faults["crash.onnx"]
    assert "the process died: the connection broke" in faults["breaks.onnx"]
    assert "something else than an answer: Welcome!" in faults["chatter.onnx"]
    assert "ONNX Runtime cannot load this file" in faults["damaged.onnx"]
    (record,) = outcome.records
    assert record.executed.file == "good.onnx"
    assert len(record.samples_ms[LatencyPhase.LOAD]) == 2


@pytest.mark.slow
@needs_sshd
def test_what_is_wrong_with_the_machine_is_said(
    server: Server, python: Path, tmp_path: Path
) -> None:
    bare = make_python(tmp_path / "bare", ())
    basic = make_python(tmp_path / "basic", ("numpy", "PIL"))
    old = make_faulty(
        tmp_path / "old",
        python,
        f'exec {python} -c "import sys; sys.version_info = (3, 9, 0); '
        'source = sys.argv.pop(1); exec(source)" "$2" "$3"',
    )
    full = make_faulty(tmp_path / "full", python, "ulimit -f 20")
    stranger = server.with_option(f"IdentityFile={make_key(tmp_path / 'stranger')}")
    unknown = server.with_option("UserKnownHostsFile=/dev/null")
    nobody = Server(f"ssh://127.0.0.1:{free_port()}", server.options)
    cells = list_latency_cells([write_tiny(tmp_path / "a.onnx")])
    for target, what, next_step in (
        (_target(stranger, python), "does not let us in (", "ssh-copy-id"),
        (_target(unknown, python), "key is not known", "connect once by hand"),
        (_target(nobody, python), "cannot be reached", "its port"),
        (_target(server, "no-such-python"), "no such program there", "--python"),
        (_target(server, bare), "this needs: numpy pillow onnxruntime", "pip install numpy"),
        (_target(server, basic), "lacks what this needs: onnxruntime", "--python"),
        (_target(server, old), "is too old", "3.11 or later"),
        (_target(server, full, tmp_path / "disk"), "cannot be written", "make room"),
        (_target(server, python, tmp_path / "a.onnx"), "cannot be written", "another folder"),
    ):
        with pytest.raises(EdgeFiqaError) as caught:
            measure_latency(cells, RULES, out=tmp_path / "run", target=target)
        assert what in str(caught.value)
        assert next_step in str(caught.value)
    assert list((tmp_path / "disk").iterdir()) == []
    assert not (tmp_path / "run" / "latency").exists()


@needs_sshd
def test_command(server: Server, python: Path, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "a.onnx")
    arguments = [
        "bench",
        "latency",
        str(path),
        "--out",
        str(tmp_path / "run"),
        "--target",
        server.url,
    ]
    arguments += ["--rounds", "1", "--turns", "1", "--min-count", "2", "--min-seconds", "0"]
    arguments += [word for option in server.options for word in ("--ssh-option", option)]
    result = CliRunner().invoke(app, [*arguments, "--python", str(python)])
    assert result.exit_code == 0, result.output
    (record,) = load_run(tmp_path / "run").latency
    assert record.device == server.url
    summary = json.loads((tmp_path / "run" / "latency_summary.json").read_text())
    assert 0 <= summary["others_share"] <= 1


def test_a_model_directory_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(8) + b"{}")
    target = SshTarget("ssh://nowhere.invalid")
    with pytest.raises(UsageError, match="not measured over ssh"):
        measure_latency(list_latency_cells([tmp_path]), RULES, out=tmp_path / "run", target=target)


@pytest.mark.parametrize(
    ("url", "user", "host", "port", "folder", "canonical"),
    [
        ("ssh://pi@raspberry.local", "pi", "raspberry.local", None, None, None),
        ("ssh://raspberry:2222/data/x", None, "raspberry", 2222, "/data/x", "ssh://raspberry:2222"),
        ("ssh://me@[fe80::1%25eth0]:22", "me", "fe80::1%25eth0", 22, None, None),
        ("ssh://host/a%20b/", None, "host", None, "/a b", "ssh://host"),
    ],
)
def test_addresses(
    url: str, user: str | None, host: str, port: int | None, folder: str | None, canonical: str
) -> None:
    address = parse_address(url)
    assert (address.user, address.host, address.port, address.folder) == (user, host, port, folder)
    assert address.url == (canonical or url)


@pytest.mark.parametrize(
    "url",
    [
        "ssh://",
        "ssh://-oProxyCommand=evil",
        "ssh://-l@host",
        "ssh://me:secret@host",
        "ssh://host:port",
        "ssh://host?x=1",
        "ssh://a b",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no address for ssh") as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)


def test_scripts_survive_any_login_shell() -> None:
    command = ssh_command(parse_address("ssh://me@host:22"), ["A=b"], "echo 'it''s' \"$X\"; exit 3")
    assert command[:4] == ["ssh", "-T", "-o", "A=b"]
    assert "BatchMode=yes" in command
    assert command[-4:-1] == ["-p", "22", "me@host"]
    done = subprocess.run(
        ["sh", "-c", command[-1]], capture_output=True, text=True, check=False, env={"X": "y z"}
    )
    assert (done.stdout, done.returncode) == ("its y z\n", 3)


def test_targets_by_name() -> None:
    assert open_target("host").device == "host"
    assert open_target("ssh://pi@board", python="venv/bin/python").device == "ssh://pi@board"
    assert open_target("adb:emulator-5554").device == "adb:emulator-5554"
    for name in ("phone", "adb:", "adbx", "ssh:host"):
        with pytest.raises(UnknownNameError, match="unknown target"):
            open_target(name)
    with pytest.raises(UsageError, match="for ssh targets"):
        open_target("adb", python="python3")
