"""The repository's shape: linked stages, one top-level name, light imports."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = ("train", "distill", "convert", "quantize", "benchmarks")


@pytest.mark.parametrize("stage", STAGES)
def test_stages_are_links_to_the_root(stage: str) -> None:
    link = ROOT / "src" / "edgefiqa" / stage
    assert link.is_symlink(), "check out with core.symlinks=true"
    assert link.resolve() == (ROOT / stage).resolve()
    assert (ROOT / stage / "README.md").is_file()
    assert (ROOT / stage / "__init__.py").is_file()


@pytest.mark.slow
def test_wheel_holds_everything_under_one_name(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", tmp_path, ROOT], check=True, capture_output=True, text=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"edgefiqa"}
    for stage in STAGES:
        assert f"edgefiqa/{stage}/__init__.py" in names
    for needed in (
        "edgefiqa/weights/model.safetensors",
        "edgefiqa/weights/card.json",
        "edgefiqa/convert/recipes/parity.yaml",
        "edgefiqa/py.typed",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith("edgefiqa/distill/weights")]
    assert wheel.stat().st_size < 8_000_000


HEAVY = ("torch", "tensorflow", "timm", "scipy", "onnxruntime", "coremltools", "executorch")


@pytest.mark.parametrize(
    "module",
    ["cli", "preprocess", "metrics", "manifest", "goldens", "verify", "runtimes", "files"],
)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, edgefiqa.{module}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
