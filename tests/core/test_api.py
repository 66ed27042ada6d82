"""The public Python API: its names and signatures, scoring of every kind of photo, the pipeline."""

import inspect
import io
import pickle
import pydoc
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.models import save_lively
from tests.quantize.test_images import noise
from tests.sets import make_set
from tests.tiny_onnx import write_tiny
from tests.tiny_tflite import SIDE, write_tiny_tflite

import edgefiqa
from edgefiqa import api
from edgefiqa.api import photo_scorer
from edgefiqa.errors import ArtifactError, ImageError, MissingExtraError, UsageError
from edgefiqa.preprocess import InputContract, load_tensor
from edgefiqa.runtimes import Format, RuntimeRow, Scorer, load, runtime_for
from edgefiqa.runtimes.table import RUNTIMES

ROOT = Path(__file__).parents[2]
NAMES = [
    "EdgeFiqaError",
    "PhotoScore",
    "PhotoScorer",
    "__version__",
    "convert",
    "find_photos",
    "load",
    "measure_drift",
    "quantize",
]
SIGNATURES = {
    "load": "model='default', *, runtime=None, threads=None",
    "convert": "model, *, out, to=('onnx', 'tflite', 'executorch', 'coreml'), size=None, "
    "photos=None, photo_limit=100, on_start=None, on_done=None",
    "quantize": "export, *, calibration, evaluation, labels=None, recipe='mixed_w8a8_srcc', to=(), "
    "out=None, reference='default', compare=False, threads=1, on_start=None, on_done=None",
    "measure_drift": "export, *, images, out, labels=None, columns=None, splits=(), limit=None, "
    "reference=None, runtimes=(), threshold=None, resamples=1000, threads=1, on_start=None",
    "find_photos": "paths",
    "PhotoScorer": "model='default', *, runtime=None, threads=None",
    "PhotoScorer.score": "self, photo",
    "PhotoScorer.score_many": "self, photos",
    "PhotoScore": "*, name, score=None, error=None",
}


def python(code: str) -> str:
    """Run lines in a fresh interpreter and return what they print."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFLite file whose score is the mean of the pixels."""
    return write_tiny_tflite(tmp_path_factory.mktemp("tiny") / "tiny.tflite")


@pytest.fixture(scope="module")
def scorer(tiny: Path) -> edgefiqa.PhotoScorer:
    return edgefiqa.load(tiny, threads=1)


# --- what the package offers


def test_names_are_pinned() -> None:
    assert edgefiqa.__all__ == NAMES
    assert {name for name in NAMES if not hasattr(edgefiqa, name)} == set()


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_pinned(name: str) -> None:
    item: Any = edgefiqa
    for part in name.split("."):
        item = getattr(item, part)
    signature = inspect.signature(item)
    bare = [
        parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()
    ]
    assert str(signature.replace(parameters=bare, return_annotation=signature.empty)) == (
        f"({SIGNATURES[name]})"
    )
    annotations = [parameter.annotation for parameter in signature.parameters.values()]
    expected = [parameter.name == "self" for parameter in signature.parameters.values()]
    assert [annotation is signature.empty for annotation in annotations] == expected


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import edgefiqa, sys\nprint([n for n in ('numpy', 'PIL', 'pydantic') if n in sys.modules])"
    )
    assert python(code) == "[]\n"


def test_a_tflite_file_needs_neither_torch_nor_tensorflow(tiny: Path) -> None:
    heavy = ("torch", "tensorflow", "onnxruntime", "coremltools", "pydantic", "typer", "yaml")
    code = (
        "import sys, edgefiqa, numpy as np\n"
        f"scorer = edgefiqa.load({str(tiny)!r}, threads=1)\n"
        "scorer.score(np.zeros((20, 20, 3), np.uint8))\n"
        f"print(scorer.size, [name for name in {heavy!r} if name in sys.modules])"
    )
    assert python(code) == f"{SIDE} []\n"


@pytest.mark.parametrize(
    "before",
    [
        "import edgefiqa.convert.targets, edgefiqa.quantize.settings",
        "edgefiqa.convert; edgefiqa.quantize; import edgefiqa.convert.targets",
        "import edgefiqa.api; from edgefiqa import convert, quantize",
        "from edgefiqa import *",
    ],
)
def test_the_stages_are_functions_whatever_is_imported_first(before: str) -> None:
    code = (
        f"import edgefiqa\n{before}\n"
        "import sys, inspect, edgefiqa.convert.targets, edgefiqa.quantize.settings\n"
        "for name in ('convert', 'quantize'):\n"
        "    stage = getattr(edgefiqa, name)\n"
        "    assert stage is sys.modules[f'edgefiqa.{name}'] and callable(stage)\n"
        "    assert 'out' in inspect.signature(stage).parameters\n"
        "assert edgefiqa.convert.targets.parse_targets is edgefiqa.convert.parse_targets\n"
        "try:\n    edgefiqa.convert('default', to='bmp', out='x')\n"
        "except edgefiqa.EdgeFiqaError as error:\n    print(error)"
    )
    assert python(code).startswith("unknown export format: 'bmp'")


def test_stages_are_pickled_by_name() -> None:
    for stage in (edgefiqa.convert, edgefiqa.quantize):
        assert pickle.loads(pickle.dumps(stage)) is stage


def test_help_shows_how_to_call() -> None:
    for name in ("convert", "quantize"):
        function = getattr(api, name)
        doc = inspect.getdoc(getattr(edgefiqa, name)) or ""
        assert f"edgefiqa.{name}(" in doc
        assert str(inspect.getdoc(function)) in doc
    page = pydoc.plain(pydoc.render_doc(edgefiqa))
    assert "score_many(self, photos" in page
    assert "measure_drift(export" in page


def test_every_public_function_has_an_example_and_says_what_it_raises() -> None:
    for function in (api.load, api.convert, api.quantize, api.measure_drift):
        doc = inspect.getdoc(function) or ""
        for section in ("Args:", "Returns:", "Raises:", "Example:"):
            assert section in doc, f"{function.__name__} has no {section}"
        for name in inspect.signature(function).parameters:
            assert f"\n    {name}: " in doc, f"{function.__name__}: {name}"


# --- scoring


def test_every_kind_of_photo_gives_the_score_of_its_tensor(
    scorer: edgefiqa.PhotoScorer, portrait: Path
) -> None:
    wanted = pytest.approx(float(load_tensor(portrait, SIDE).mean()), rel=1e-5)
    image = Image.open(portrait)
    pixels = np.asarray(image)
    content = portrait.read_bytes()
    for photo in (portrait, str(portrait), content, io.BytesIO(content), image, pixels):
        assert scorer.score(photo) == wanted, type(photo)
    with portrait.open("rb") as file:
        assert scorer.score(file) == wanted
    # Views of a larger array are not contiguous.
    assert scorer.score(np.dstack([pixels, pixels])[..., :3]) == wanted
    assert isinstance(scorer.score(portrait), float)


def test_a_pillow_image_is_turned_upright(portrait: Path, tmp_path: Path) -> None:
    scorer = edgefiqa.load(write_tiny(tmp_path / "tiny.onnx"), threads=1)
    exif = Image.Exif()
    exif[274] = 6  # stored lying on its side
    turned = tmp_path / "turned.png"
    Image.open(portrait).save(turned, exif=exif)
    with Image.open(turned) as image:
        assert scorer.score(image) == scorer.score(turned)
        assert scorer.score(image) != scorer.score(np.asarray(image))


def test_what_a_scorer_says_of_itself(scorer: edgefiqa.PhotoScorer, tiny: Path) -> None:
    assert scorer.model == str(tiny)
    assert scorer.runtime.startswith("litert ")
    assert scorer.size == SIDE
    assert scorer.contract == InputContract(size=SIDE)
    assert repr(scorer) == f"<PhotoScorer {tiny}, {scorer.runtime}, {SIDE} px>"


@pytest.mark.parametrize(
    ("photo", "error", "message"),
    [
        ("gone.jpg", ImageError, "no such photo: gone.jpg"),
        (b"", ImageError, r"empty \(0 bytes\): photo"),
        (np.zeros((4, 4, 3)), UsageError, r"float64 \[4, 4, 3\].*uint8 \[height, width, 3\]"),
        (np.zeros((4, 4), np.uint8), UsageError, r"uint8 \[4, 4\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), UsageError, r"uint8 \[1, 4, 4, 3\]"),
        (np.zeros((4, 4, 4), np.uint8), UsageError, r"uint8 \[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), ImageError, r"no pixels: photo \[0, 4, 3\]"),
        (7, UsageError, "photo is no photo: int"),
        (None, UsageError, "NoneType"),
    ],
)
def test_what_is_no_photo(
    scorer: edgefiqa.PhotoScorer, photo: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        scorer.score(photo)  # type: ignore[arg-type]


def test_many_photos_and_the_faults_among_them(
    scorer: edgefiqa.PhotoScorer, portrait: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(portrait.read_bytes()[:200])
    photos: list[Any] = [
        portrait,
        broken,
        np.zeros((9, 9), np.uint8),
        tmp_path,
        np.zeros((9, 9, 3), np.uint8),
    ]
    results = scorer.score_many(photo for photo in photos)
    assert [result.name for result in results] == [
        *(str(portrait), str(broken), "photos[2]"),
        *(str(tmp_path), "photos[4]"),
    ]
    assert results[0].score == scorer.score(portrait)
    assert results[4].score == 0
    assert [type(result.error) for result in results] == [
        *(type(None), ImageError, UsageError, ImageError, type(None))
    ]
    assert [result.score is None for result in results] == [False, True, True, True, False]
    assert "broken.jpg" in str(results[1].error)
    assert scorer.score_many([]) == []
    copied = pickle.loads(pickle.dumps(results))
    assert [str(result.error) for result in copied] == [str(result.error) for result in results]


@pytest.mark.parametrize(
    "one", ["photo.jpg", Path("photo.jpg"), b"", np.zeros((4, 4, 3), np.uint8)]
)
def test_one_photo_is_not_many(scorer: edgefiqa.PhotoScorer, one: object) -> None:
    with pytest.raises(UsageError, match=r"several photos.*call score for one photo"):
        scorer.score_many(one)  # type: ignore[arg-type]


def test_a_score_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "nan.onnx", constant=float("nan"))
    scorer = edgefiqa.load(path, threads=1)
    black = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(ArtifactError, match=r"score of photo is nan.*nan\.onnx"):
        scorer.score(black)
    (result,) = scorer.score_many([black])
    assert result.score is None
    assert isinstance(result.error, ArtifactError)


def test_a_scorer_travels_to_another_process(
    scorer: edgefiqa.PhotoScorer, tiny: Path, tmp_path: Path
) -> None:
    code = (
        "import pickle, sys, numpy as np\n"
        f"scorer = pickle.load(open({str(tmp_path / 'scorer')!r}, 'rb'))\n"
        "print(scorer.model, scorer.score(np.full((9, 9, 3), 5, np.uint8)), scorer.runtime)"
    )
    (tmp_path / "scorer").write_bytes(
        pickle.dumps(edgefiqa.load(tiny, runtime="litert", threads=2))
    )
    assert python(code) == f"{tiny} 5.0 {scorer.runtime}\n"


def test_options_travel_too(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def load_runtime(path: Path, **options: Any) -> Scorer:
        asked.append(options)
        return load(path, **options)

    monkeypatch.setattr(photo_scorer, "load_runtime", load_runtime)
    pickle.loads(pickle.dumps(edgefiqa.load(tiny, runtime="litert", threads=2)))
    assert asked == [{"runtime": "litert", "threads": 2}] * 2


def test_threads_take_turns(scorer: edgefiqa.PhotoScorer) -> None:
    wrong: list[float] = []

    def score(value: int) -> None:
        photo = np.full((20, 20, 3), value, np.uint8)
        wrong.extend(found for _ in range(200) if (found := scorer.score(photo)) != value)

    threads = [threading.Thread(target=score, args=(value,)) for value in (3, 50, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_runtime_that_is_not_installed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = runtime_for(Format.TFLITE)
    absent = RuntimeRow(
        name="litert",
        format=row.format,
        target="not_installed_anywhere:Scorer",
        extra=row.extra,
        provides=("not_installed_anywhere",),
    )
    monkeypatch.setitem(RUNTIMES._entries, "litert", absent)
    with pytest.raises(MissingExtraError, match=r"pip install \"edgefiqa\[tflite\]\""):
        edgefiqa.load(tiny)


# --- the pipeline

SIZE = 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_lively("mspt", SIZE, folder)
    return folder


@pytest.mark.slow
def test_convert_quantize_and_measure_drift(weights: Path, tmp_path: Path) -> None:
    from edgefiqa.quantize import MeasuredFile, QuantizeRecipe

    export, images = tmp_path / "export", tmp_path / "set"
    started: list[object] = []
    manifest = edgefiqa.convert(
        weights, to=("onnx",), out=str(export), on_start=started.append, on_done=started.append
    )
    (artifact,) = manifest.artifacts
    assert started == [artifact.file, artifact]
    assert manifest == manifest.load(export).model_copy(update={"created": manifest.created})

    pictures = noise(40, 3)
    labels = [float(picture.mean()) / 255 for picture in pictures]
    make_set(images, pictures, labels=labels, splits=["train"] * 20 + ["held_back"] * 20)
    recipe = {"name": "plain_w8", "modes": ["static", "float"], "golden_tolerance": 5.0}
    measured: list[MeasuredFile] = []
    record = edgefiqa.quantize(
        export,
        calibration=images,
        evaluation=images,
        reference=weights,
        recipe=QuantizeRecipe.model_validate(recipe),
        on_done=measured.append,
    )
    assert not record.failed
    (files,) = record.results.values()
    assert [found.sha256 for found in measured] == [found.sha256 for found in files]
    assert (export / f"lively_{SIZE}_plain_w8.onnx").is_file()

    run = tmp_path / "run"
    records = edgefiqa.measure_drift(
        export, images=images, out=run, reference=weights, resamples=20, threshold=0.5
    )
    by_precision = {drift.executed.precision: drift for drift in records}
    assert by_precision["plain_w8"].executed.sha256 == files[-1].sha256
    figures = by_precision["fp32"].slices["all"].figures
    assert figures["max_error"].value == pytest.approx(0, abs=1e-4)
    assert (run / "images.json").is_file()
    assert list((run / "waterfall").glob("*.json"))


@pytest.mark.parametrize(
    "to", ["onnx, tflite", ["onnx", "tflite"], (n for n in ("onnx", "tflite"))]
)
def test_formats_are_a_sequence_or_a_text(
    to: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def export_model(source: str, targets: list[object], **options: object) -> str:
        asked.update(source=source, targets=targets, **options)
        return "manifest"

    monkeypatch.setattr("edgefiqa.convert.export_model", export_model)
    done: object = edgefiqa.convert(Path("student"), to=to, out=tmp_path, photos="faces")
    assert done == "manifest"
    assert asked["source"] == "student"
    assert [target.name for target in asked["targets"]] == ["onnx", "tflite"]
    assert (asked["out"], asked["photos"], asked["photo_limit"]) == (tmp_path, Path("faces"), 100)
    asked["on_start"]("called although no callback was given")


def test_a_script_without_the_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from edgefiqa.files import sha256_of\n"
        "from edgefiqa.isolation import call_isolated\n"
        "print(call_isolated(None, sha256_of, Path(__file__)))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "the process of sha256_of died before it began" in last
    assert 'below `if __name__ == "__main__":`' in last


@pytest.mark.parametrize("to", ["", (), "onnx,onnx"])
def test_no_format_or_one_twice(to: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one or more formats, each once"):
        edgefiqa.convert("default", to=to, out=tmp_path)  # type: ignore[arg-type]


def test_what_quantize_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, Any]] = []

    def quantize_export(recipe: object, options: object, **_: object) -> str:
        asked.append((recipe, options))
        return "record"

    monkeypatch.setattr("edgefiqa.quantize.quantize_export", quantize_export)
    done: object = edgefiqa.quantize(
        "export",
        calibration="a",
        evaluation=Path("b"),
        labels="labels.csv",
        recipe="dynamic_w8",
        to="onnx,tflite",
        compare=True,
    )
    assert done == "record"
    ((recipe, options),) = asked
    assert recipe.name == "dynamic_w8"
    assert options.export == options.out == Path("export")
    assert options.calibration.path == Path("a")
    assert (options.evaluation.path, options.evaluation.labels) == (Path("b"), Path("labels.csv"))
    assert (options.source, options.formats, options.compare) == (
        *("default", ("onnx", "tflite"), True),
    )


# --- types

USER = """
from pathlib import Path

import edgefiqa
from edgefiqa.convert import parse_targets

scorer = edgefiqa.load(Path("student.tflite"), threads=2)
score: float = scorer.score("photo.jpg")
for result in scorer.score_many(edgefiqa.find_photos(["photos"])):
    name: str = result.name
    error: edgefiqa.EdgeFiqaError | None = result.error
manifest = edgefiqa.convert("default", to=("onnx", "tflite"), out=Path("export"))
files: list[str] = [artifact.file for artifact in manifest.artifacts]
record = edgefiqa.quantize("export", calibration="a", evaluation="b")
failed: bool = record.failed
drift = edgefiqa.measure_drift("export", images="photos", out="run")
figure: float | None = drift[0].slices["all"].figures["p99_error"].value
targets = parse_targets("onnx")
"""
WRONG = {
    'edgefiqa.convert("default")': 'out"',
    "edgefiqa.nothing": "nothing",
    "edgefiqa.load(3)": "load",
    'edgefiqa.quantize("export", calibration="a", evaluation=1)': "evaluation",
}


def check_types(command: list[str], folder: Path) -> list[str]:
    """Return the errors of a type checker on the file of a user who is not in this repository."""
    user = folder / "user.py"
    user.write_text(USER + "\n".join(WRONG) + "\n")
    done = subprocess.run(
        [*command, str(user)], capture_output=True, text=True, check=False, cwd=folder
    )
    return [line for line in done.stdout.splitlines() if ": error:" in line or " - error:" in line]


def assert_only_the_wrong_lines(errors: list[str]) -> None:
    first = len(USER.splitlines()) + 1
    places = [int(error.split("user.py:")[1].split(":")[0]) for error in errors]
    assert places == list(range(first, first + len(WRONG))), errors
    for error, part in zip(errors, WRONG.values(), strict=True):
        assert part in error


@pytest.mark.slow
def test_mypy_sees_the_types(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    assert_only_the_wrong_lines(check_types(command, tmp_path))


@pytest.mark.slow
def test_pyright_sees_the_types(tmp_path: Path) -> None:
    pyright = shutil.which("pyright")
    if pyright is None:
        pytest.skip("pyright is not installed")
    command = [pyright, "--pythonpath", sys.executable]
    assert_only_the_wrong_lines(check_types(command, tmp_path))
