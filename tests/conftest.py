"""What several test modules share: photographs, models, and one export of everything."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.kept import identity_of, keep
from tests.warm_processes import run_warm, use_warm_processes

# Before any test module brings TensorFlow in: see edgefiqa.runtimes.imports.
from edgefiqa.runtimes.imports import import_tensorflow

FACES = "EDGEFIQA_FACES"
ALL_TARGETS = "onnx,tflite,tflite-tf,executorch,executorch-coreml,coreml"

PHOTOS = 10  # of the parity check: the tests themselves score a hundred

TESTS = Path(__file__).parent
# The files that take longest, longest first.
LONGEST = (
    "contract/test_scorers.py",
    "benchmarks/drift/test_faults.py",
    "runtimes_mil/test_zoo.py",
    "quantize/vendor/test_paths.py",
    "demo/test_demo.py",
    "quantize/test_run.py",
    "core/test_verify.py",
    "quantize/backends/test_executorch.py",
    "quantize/backends/test_coreml.py",
    "convert/test_keras_twin.py",
    "train/test_run.py",
    "train/test_pseudo_labels.py",
    "distill/test_run.py",
    "train/test_loop.py",
    "core/test_cli.py",
)
SHARE_NOTHING = {
    "runtimes_mil/test_zoo.py",
    "quantize/backends/test_executorch.py",
    "quantize/backends/test_coreml.py",
    "core/test_cli.py",
    "train/test_loop.py",
}

Keep = Callable[..., Path]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # xdist's controller imports no test module
    with suppress(ModuleNotFoundError):
        import_tensorflow()
    if find_spec("torch"):
        use_warm_processes()


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start with what takes longest, so that no worker is alone with it at the end.

    A file's tests stay together because of what they share; those of some files share nothing.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    names = {item.path: item.path.relative_to(TESTS).as_posix() for item in items}

    def place(item: pytest.Item) -> tuple[int, bool]:
        name = names[item.path]
        return LONGEST.index(name) if name in LONGEST else len(LONGEST), item.path not in slow

    items.sort(key=place)
    for item in items if config.pluginmanager.hasplugin("xdist") else ():
        if names[item.path] not in SHARE_NOTHING:
            item.add_marker(pytest.mark.xdist_group(names[item.path]))


@pytest.fixture(autouse=True)
def own_random_numbers() -> None:
    """Seed what libraries draw from, so that no test depends on those that ran before it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that no other test draws from."""
    return np.random.default_rng(1)


@pytest.fixture(scope="session")
def faces() -> list[Path]:
    """A hundred real face photographs, evenly spaced through the folder."""
    folder = os.environ.get(FACES)
    if not folder:
        pytest.skip(f"{FACES} is not set: it names a folder of face photographs")
    found = sorted(Path(folder).rglob("*.jpg"))
    assert len(found) >= 100, f"{FACES}={folder} holds {len(found)} photographs, 100 are needed"
    return [found[int(i)] for i in np.linspace(0, len(found) - 1, 100)]


@pytest.fixture(scope="session")
def run_cli() -> Run:
    """Run ``edgefiqa`` in a separate process that need not import torch first."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        return run_warm([str(argument) for argument in arguments], cwd)

    return run


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``edgefiqa`` in the tests' process: for commands that start processes of their own."""
    from edgefiqa.cli import main

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        command, code = ["edgefiqa", *map(str, arguments)], 0
        monkeypatch.setattr(sys, "argv", command)
        with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as errors:
            try:
                main()
            except SystemExit as end:
                assert end.code is None or isinstance(end.code, int)
                code = end.code or 0
        return subprocess.CompletedProcess(command, code, output.getvalue(), errors.getvalue())

    return run


@pytest.fixture(scope="session")
def run_python() -> Run:
    """Run ``edgefiqa`` as a user does: Python is started for it."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "edgefiqa", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)

    return run


@pytest.fixture(scope="session")
def keep_artifact(tmp_path_factory: pytest.TempPathFactory) -> Keep:
    """Make what several tests read once; see `tests.kept.keep`."""
    # pytest-xdist gives each worker a folder below the one that they share.
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    return partial(keep, of_this_run=shared / "kept")


@pytest.fixture(scope="session")
def export_dir(keep_artifact: Keep) -> Path:
    """The default student in every format: made once, used by every test that needs files."""
    from edgefiqa.convert.run import run
    from edgefiqa.convert.targets import parse_targets

    photos = Path(os.environ[FACES]) if os.environ.get(FACES) else None

    def make(out: Path) -> None:
        run("default", parse_targets(ALL_TARGETS), out=out, photos=photos, photo_limit=PHOTOS)

    return keep_artifact(
        "export",
        make,
        stages=["convert"],
        parameters=[ALL_TARGETS, PHOTOS, identity_of([photos]) if photos else None],
    )


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    """scikit-image's astronaut as a PNG file."""
    from skimage import data

    path = tmp_path / "portrait.png"
    Image.fromarray(data.astronaut()).save(path)
    return path
