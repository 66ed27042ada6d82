"""The README's commands and its Python lines, run as they stand."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
README = (Path(__file__).parent.parent / "README.md").read_text()


def block(language: str) -> str:
    """The fenced block that follows a 'tested' mark."""
    found = re.search(rf"<!-- tested[^>]*-->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no tested {language} block"
    return found.group(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the photographs that the README speaks of."""
    from PIL import Image
    from skimage import data

    folder = tmp_path_factory.mktemp("readme")
    (folder / "more_photos").mkdir()
    Image.fromarray(data.astronaut()).save(folder / "photo.jpg", quality=90)
    shutil.copy(folder / "photo.jpg", folder / "more_photos" / "again.jpg")
    return folder


@pytest.fixture(scope="module")
def ran(place: Path) -> dict[str, "subprocess.CompletedProcess[str]"]:
    done = {}
    for line in block("sh").splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "edgefiqa"
        done[line] = subprocess.run(
            [sys.executable, "-m", program, *arguments],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
    return done


def test_every_command_succeeds(ran: dict[str, "subprocess.CompletedProcess[str]"]) -> None:
    assert len(ran) == 5
    for line, done in ran.items():
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    (scored,) = (done for line, done in ran.items() if "--json" in line)
    assert len(json.loads(scored.stdout)) == 2


def test_the_python_lines_work(
    place: Path, ran: dict[str, "subprocess.CompletedProcess[str]"]
) -> None:
    assert ran
    done = subprocess.run(
        [sys.executable, "-c", block("python")],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    scored, again, files, *drift = done.stdout.splitlines()
    assert re.fullmatch(r"litert [\d.]+ \d\.\d+", scored)
    assert re.fullmatch(r"more_photos/again\.jpg \d\.\d+ None", again)
    assert scored.split()[-1] == again.split()[1]
    assert sorted(json.loads(files.replace("'", '"'))) == [
        f"default-student_288_fp32.{suffix}" for suffix in ("onnx", "tflite")
    ]
    errors = dict(line.rsplit(" ", 1) for line in drift)
    assert sorted(errors) == [
        "default-student_288_fp32.tflite in litert",
        "rewritten model.safetensors in torch",
    ]
    assert all(0 <= float(error) < 1e-5 for error in errors.values())


def test_the_table_speaks_of_the_default_student() -> None:
    from edgefiqa.models import default_model_dir

    card = json.loads((default_model_dir() / "card.json").read_text())
    table = README.split("<!-- parity:begin")[1].split("<!-- parity:end -->")[0]
    assert card["sha256"][:12] in table
    for name in ("onnxruntime", "litert", "tensorflow", "executorch", "coreml"):
        assert name in table
