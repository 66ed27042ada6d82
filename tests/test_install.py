"""A phone engineer's installation: the scorer without torch and tensorflow."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgefiqa.files import size_of
from edgefiqa.manifest import Manifest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment with ``edgefiqa[tflite]`` from this checkout."""
    path = tmp_path_factory.mktemp("venv")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    subprocess.run([sys.executable, "-m", "venv", path], check=True, env=clean)
    empty = size_of(path)
    command = [str(path / "bin" / "python"), "-m", "pip", "install", "-q"]
    pinned = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run([*command, *pinned, f"{ROOT}[tflite]"], check=True, env=clean, cwd=path)
    (path / "installed_bytes").write_text(str(size_of(path) - empty))
    return path


def run(environment: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = [str(environment / "bin" / "edgefiqa"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=clean, cwd=environment
    )


def test_it_is_small_and_has_no_framework(environment: Path) -> None:
    assert int((environment / "installed_bytes").read_text()) < 250_000_000
    listed = subprocess.run(
        [environment / "bin" / "python", "-m", "pip", "list", "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {row["name"].lower() for row in json.loads(listed.stdout)}
    assert "ai-edge-litert" in names
    assert not names & {"torch", "tensorflow", "tensorflow-cpu", "timm", "scipy", "coremltools"}


def test_it_scores_and_verifies(environment: Path, export_dir: Path, portrait: Path) -> None:
    (artifact, *_) = (a for a in Manifest.load(export_dir).artifacts if a.format == "tflite")
    done = run(environment, "score", "--json", "--model", export_dir / artifact.file, portrait)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["score"] is not None
    verified = run(environment, "verify", "--json", export_dir)
    assert verified.returncode == 0, verified.stdout
    checks = json.loads(verified.stdout)
    assert {c["status"] for c in checks if c["subject"].endswith(".png")} == {"ok"}
    unchecked = {c["detail"] for c in checks if c["status"] == "not checked"}
    assert any("edgefiqa[onnx]" in detail for detail in unchecked)
    assert any("edgefiqa[executorch]" in detail for detail in unchecked)


def test_an_unpacked_bundle_verifies(
    environment: Path, export_dir: Path, run_cli: Run, tmp_path: Path
) -> None:
    package, unpacked = tmp_path / "scorer.zip", tmp_path / "unpacked"
    sources = ROOT / "android_demo"
    bundled = run_cli("bundle", export_dir, "--zip", package, "--sources", sources)
    assert bundled.returncode == 0, bundled.stderr
    with zipfile.ZipFile(package) as archive:
        archive.extractall(unpacked)
    verified = run(environment, "verify", "--json", unpacked)
    assert verified.returncode == 0, verified.stdout
    checks = [check for check in json.loads(verified.stdout) if check["status"] == "ok"]
    executed = {check["subject"] for check in checks if check["check"] == "goldens in litert"}
    models = [a for a in Manifest.load(unpacked).artifacts if a.format == "tflite"]
    assert executed == {model.file for model in models}
    assert executed
    damaged = unpacked / models[0].file
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run(environment, "verify", unpacked).returncode == 1


def test_what_is_missing_is_named(environment: Path, export_dir: Path, portrait: Path) -> None:
    files = {a.format: export_dir / a.file for a in Manifest.load(export_dir).artifacts}
    for arguments, extra in (
        (["score", portrait], "torch"),
        (["score", "--model", files["onnx"], portrait], "onnx"),
        (["score", "--model", files["coreml"], portrait], "mil"),
        (["models"], "torch"),
        (["convert", "default", "--to", "onnx", "--out", environment / "out"], "torch"),
        (["import", portrait, "--model", "mspt", "--out", environment / "out"], "torch"),
    ):
        done = run(environment, *arguments)
        assert done.returncode == 2, done.stderr
        assert f'pip install "edgefiqa[{extra}]"' in done.stderr
        assert "Traceback" not in done.stderr
    assert not (environment / "out").exists()
