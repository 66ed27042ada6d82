"""Runs on emulated processors: the plumbing with a stand-in for QEMU, and QEMU where it is."""

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.tiny_onnx import SIDE, write_manifest, write_tiny
from typer.testing import CliRunner

from edgefiqa.benchmarks.arm.emulator import QEMU, EmulatorRoot, cpu_option
from edgefiqa.benchmarks.arm.processor import Processor
from edgefiqa.benchmarks.arm.records import ArmRecord, EmulatedRun, FileRecord, HostRun
from edgefiqa.benchmarks.arm.run import RECORD_NAME, TABLE_NAME, check_export
from edgefiqa.cli import app
from edgefiqa.errors import ArtifactError, EdgeFiqaError
from edgefiqa.files import sha256_of
from edgefiqa.goldens import GoldenCase, Goldens, tensor_sha256
from edgefiqa.manifest import Artifact, Manifest

TOLERANCE = 1e-3
CASES = 3

# Runs this machine's Python instead, and adds to the scores what SHIFTS has for the processor.
STAND_IN = """#!{python}
import json, os, subprocess, sys
shifts = {shifts}
processor = os.environ.get("QEMU_CPU", "")
if sys.argv[1:] == ["--version"]:
    print("stand-in version 10.0")
    sys.exit()
assert sys.argv[1] == "-L" and os.path.isfile(sys.argv[2] + "/proc/cpuinfo")
if sys.argv[5].endswith("processor"):
    print("fp asimd")
    sys.exit()
if shifts.get(processor) == "crash":
    sys.stderr.write("Illegal instruction")
    sys.exit(132)
done = subprocess.run([sys.executable, *sys.argv[4:]], check=True, capture_output=True, text=True)
answer = json.loads(done.stdout.strip().splitlines()[-1])
answer["scores"] = [score + shifts.get(processor, 0.0) for score in answer["scores"]]
print("chatter of a library")
print(json.dumps(answer))
"""


def write_export(out: Path) -> Path:
    """Write an export of one tiny file whose golden scores NumPy's random images have there."""
    import onnxruntime as ort

    write_tiny(out / "tiny.onnx")
    session = ort.InferenceSession(str(out / "tiny.onnx"), providers=["CPUExecutionProvider"])
    goldens = out / "goldens"
    goldens.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (CASES, SIDE, SIDE, 3)).astype(np.uint8)
    cases = []
    for index, image in enumerate(images):
        name = f"{index}.png"
        Image.fromarray(image).save(goldens / name)
        case = GoldenCase(
            name=str(index),
            photo=name,
            photo_sha256=sha256_of(goldens / name),
            tensor=name,
            tensor_sha256=tensor_sha256(image[None]),
            tensor_tolerance=0,
            score=float(session.run(None, {"image": image[None]})[0].item()),
        )
        cases.append(case)
    Goldens(
        size=SIDE,
        parent_sha256="0" * 64,
        reference="onnxruntime",
        tolerances={"fp32": TOLERANCE},
        cases=cases,
    ).save(goldens)
    manifest = write_manifest(out, {"tiny.onnx": "fp32"})
    package = manifest.artifacts[0].model_copy(update={"file": "m.mlpackage", "format": "coreml"})
    hashed = {"goldens_sha256": sha256_of(goldens / "goldens.json")}
    both = [*manifest.artifacts, Artifact.model_validate(package.model_dump())]
    manifest.model_copy(update={**hashed, "artifacts": both}).save(out)
    return out


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(tmp_path / "export")


@pytest.fixture
def root(tmp_path: Path) -> EmulatorRoot:
    for folder in ("usr/bin", "usr/lib", "etc", "site"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    (tmp_path / "root/lib").symlink_to("usr/lib")
    for program in ("usr/bin/python3.11", "executorch_runner"):
        (tmp_path / "root" / program).touch()
    return EmulatorRoot(path=tmp_path / "root")


def install_stand_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, shifts: dict[str, object]
) -> None:
    program = folder / QEMU
    folder.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable, shifts=shifts))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_processor_that_scores_otherwise_fails(
    export: Path, root: EmulatorRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shifts = {"cortex-a76": TOLERANCE / 4, "max": 2 * TOLERANCE}
    install_stand_in(tmp_path / "bin", monkeypatch, dict(shifts))
    out = tmp_path / "out"
    arguments = ["study", "arm", str(export), "--root", str(root.path), "--out", str(out)]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 1, ended.output
    record = ArmRecord.model_validate_json((out / RECORD_NAME).read_text())
    (tiny, package) = record.files
    assert record.parent_sha256 == Manifest.load(export).card["sha256"]
    assert not package.emulated
    assert package.left_out
    assert [tiny.is_within(run) for run in tiny.emulated] == [True, True, False]
    assert {run.sha256 for run in tiny.emulated} == {sha256_of(export / "tiny.onnx")}
    assert record.qemu == "stand-in version 10.0"
    assert set(record.features.values()) == {("fp", "asimd")}
    assert tiny.host is not None
    for run in tiny.emulated:
        expected = [score + shifts.get(run.processor, 0) for score in tiny.host.scores]
        assert run.scores == pytest.approx(expected, abs=1e-12)
    rows = [row.split(" | ") for row in (out / TABLE_NAME).read_text().splitlines()[2:6]]
    assert [row[2:4] for row in rows[:3]] == [
        ["cortex-a53", "0.0e+00"],
        ["cortex-a76", "2.5e-04"],
        ["max", "2.0e-03"],
    ]
    assert "m.mlpackage" in rows[3][0]


def test_a_crash_is_a_row_and_no_pass(
    export: Path, root: EmulatorRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    install_stand_in(tmp_path / "bin", monkeypatch, {"cortex-a53": "crash"})
    chosen = (Processor.CORTEX_A53, Processor.MAX)
    record = check_export(export, root, chosen)
    crashed, fine = record.files[0].emulated
    assert "132" in crashed.error
    assert "Illegal instruction" in crashed.error
    assert record.files[0].is_within(fine)
    assert not record.is_within


def test_changed_and_missing_things_are_refused(
    export: Path, root: EmulatorRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    install_stand_in(tmp_path / "bin", monkeypatch, {})
    root.runner.unlink()
    with pytest.raises(EdgeFiqaError, match="incomplete"):
        check_export(export, root)
    model = export / "tiny.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match="changed"):
        check_export(export, root)
    goldens = export / "goldens/goldens.json"
    goldens.write_text(goldens.read_text() + "\n")
    with pytest.raises(ArtifactError, match="golden vectors have changed"):
        check_export(export, root)


def test_sme_is_left_out_where_qemu_gets_it_wrong():
    old, new = "qemu-aarch64 version 7.2.22 (Debian)", "qemu-aarch64 version 10.0.13 (Debian)"
    assert cpu_option(Processor.MAX, old) == "max,sme=off"
    assert cpu_option(Processor.MAX, new) == "max"
    assert cpu_option(Processor.CORTEX_A53, old) == "cortex-a53"


def test_what_counts_as_within():
    digest, other = "a" * 64, "b" * 64
    file = FileRecord(
        file="f",
        format="onnx",
        precision="fp32",
        tolerance=0.1,
        golden=(0.5, 50.0),
        host=HostRun(sha256=digest, runtime="r", scores=(0.5, 50.0)),
    )

    def within(*scores: float, sha256: str = digest) -> bool:
        return file.is_within(EmulatedRun(processor=Processor.MAX, sha256=sha256, scores=scores))

    assert within(0.59, 54.9)  # relative above 1
    assert not within(0.61, 50.0)
    assert not within(0.5, 55.1)
    assert not within(0.5, float("nan"))
    assert not within(0.5)
    assert not within(0.5, 50.0, sha256=other)


@pytest.mark.slow
def test_qemu_scores_as_this_machine(tmp_path: Path):
    cache = Path(os.environ.get("EDGEFIQA_CACHE", Path.home() / ".cache/edgefiqa"))
    made = sorted(cache.glob("arm64-root-*"))
    if not made or shutil.which(QEMU) is None:
        pytest.skip("make arm has not been run on this machine")
    export = write_export(tmp_path / "export")
    record = check_export(export, EmulatorRoot(path=made[-1]), (Processor.CORTEX_A76,))
    assert record.is_within
    assert "asimddp" in record.features[Processor.CORTEX_A76]
    (emulated,) = record.files[0].emulated
    assert json.loads(record.model_dump_json())["qemu"].startswith("qemu-aarch64")
    assert emulated.scores == pytest.approx(record.files[0].golden, abs=1e-6)
