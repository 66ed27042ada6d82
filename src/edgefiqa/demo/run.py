"""The steps of the demo, in order, each timed."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgefiqa import __version__
from edgefiqa.benchmarks import write_report
from edgefiqa.convert import parity_table
from edgefiqa.demo.export import Weights, export_float, export_int8, refused_files
from edgefiqa.demo.image_sets import build_image_sets
from edgefiqa.demo.measurements import measure_drift, measure_times
from edgefiqa.demo.photographs import Photographs, choose_photographs
from edgefiqa.demo.pictures import (
    Pictures,
    Scored,
    pictures_table,
    score_pictures,
    write_pictures,
    write_sheet,
)
from edgefiqa.demo.settings import Settings
from edgefiqa.files import write_text
from edgefiqa.manifest import Manifest
from edgefiqa.markdown import heading
from edgefiqa.measuring.policy import load_policy
from edgefiqa.measuring.records import FailureRecord
from edgefiqa.measuring.run_directory import load_run
from edgefiqa.models import load_model
from edgefiqa.plan_file import has_plan
from edgefiqa.quantize import QuantizeRecipe, load_quantize_recipe

__all__ = ["PLAN_NAME", "Demo", "run"]

Say = Callable[[str], None]

_UNLABELLED = {"quantised": "quantised_unlabelled"}
"""Policies where the images are no faces: a scorer of faces does not agree with their labels, and
what rounding changes in that would be judged. The bounds on drift to the float model stay."""

PLAN_NAME = "demo.json"
"""What a demo was made from; its ``images`` are fields of ``Settings``."""

_MEASURED = ("images.json", "pictures.json", "latency_summary.json")
_FOLDERS = ("scores", "failures", "drift", "latency", "waterfall", "thumbnails", "partial", "logs")
_OWN_FOLDERS = ("images", "pictures")


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What a demo came to.

    Attributes:
        report: The page.
        seconds: Step → time it took now; what had been finished takes none.
        failures: Files without scores: refused by the policy, or broken.
    """

    report: Path
    seconds: dict[str, float]
    failures: tuple[FailureRecord, ...]


@dataclass(kw_only=True)
class _Steps:
    """Says what begins, and keeps how long it took."""

    say: Say
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        self.say(f"{len(self.seconds) + 1}/8 {name}: {text}")
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start


def run(
    out: Path,
    faces: Path | None,
    *,
    say: Say,
    source: str = "default",
    settings: Settings | None = None,
) -> Demo:
    """Convert a scorer to every format in float and INT8, and measure every file.

    Args:
        out: Folder for the export, the images, the pictures, all records and the report. What an
            earlier demo with other weights, images or settings left there is replaced.
        faces: Folder of photographs to use, or None for those that installed packages bring along.
        say: Told what is being done.
        source: Model directory, safetensors file or "default".
        settings: How much is done.

    Returns:
        What it came to. A file that the policy refuses is a failure in it, not an error.

    Raises:
        EdgeFiqaError: If a step fails.
    """
    settings, export, steps = settings or Settings(), out / "export", _Steps(say=say)
    _, card = load_model(source)
    weights = Weights(source=source, card=card, size=settings.size or card.size)
    with steps.step("photographs", "what is scored, and pictures to look at"):
        photographs = choose_photographs(faces, settings.photographs)
        say(f"    {photographs.text}")
        recipe, policy = _policies(settings, photographs, say)
        _claim(out, _plan(weights, recipe, policy, photographs, settings))
        pictures = write_pictures(out / "pictures", faces)
    with steps.step("images", "degraded copies, labelled by what they lost"):
        images = build_image_sets(photographs, out / "images", size=weights.size, settings=settings)
    with steps.step("convert", "each file in a separate process, then compared with torch"):
        _note(export_float(weights, settings, export, photos=faces, say=say), say)
    with steps.step("INT8", "blocks return to float until the file keeps the policy"):
        record, is_new = export_int8(recipe, weights, images, export, say=say)
        _note(is_new, say)
        refused = refused_files(record, weights)
        for failure in refused:
            say(f"    {failure.file}: {failure.error}")
    with steps.step("pictures", "every picture with every file, by the command edgefiqa score"):
        scored, is_new = score_pictures(source, export, pictures, out, say=say)
        _note(is_new, say)
    with steps.step("latency", "files in turns; none for Core ML off macOS"):
        _note(measure_times(export, out, settings.rules, say=say), say)
    with steps.step("drift", "the evaluation images with every file, against the float model"):
        failures = measure_drift(
            source, export, images, out, refused=refused, settings=settings, say=say
        )
    with steps.step("report", "one page"):
        report = _write_report(out, pictures, scored, policy)
    failed = (*refused, *failures)
    return Demo(report=report, seconds=steps.seconds, failures=failed)


def _note(is_new: bool, say: Say) -> None:
    if not is_new:
        say("    kept from before: the same weights, images and settings")


def _policies(settings: Settings, photographs: Photographs, say: Say) -> tuple[QuantizeRecipe, str]:
    """Return the recipe and the gate's policy; both say nothing of labels where those cannot."""
    recipe, policy = load_quantize_recipe(settings.recipe), settings.policy
    if photographs.are_own or not {recipe.policy, policy} & set(_UNLABELLED):
        return recipe, policy
    say("    labels of images that are no faces judge nothing: policy quantised_unlabelled")
    policy_name = recipe.policy and _UNLABELLED.get(recipe.policy, recipe.policy)
    return recipe.model_copy(update={"policy": policy_name}), _UNLABELLED.get(policy, policy)


def _plan(
    weights: Weights,
    recipe: QuantizeRecipe,
    policy: str,
    photographs: Photographs,
    settings: Settings,
) -> dict[str, object]:
    """Return everything that decides what the records say."""
    return {
        "edgefiqa": __version__,
        "weights": weights.card.sha256,
        "size": weights.size,
        "recipe": recipe.model_dump(mode="json"),
        "policy": policy,
        "photographs": photographs.identity(),
        "images": {
            "calibration": settings.calibration,
            "evaluation": settings.evaluation,
            "held_back_share": settings.held_back_share,
        },
    }


def _claim(out: Path, plan: dict[str, object]) -> None:
    """Remove what another demo left here; a folder that no demo made is left alone."""
    if has_plan(out, plan, name=PLAN_NAME):
        return
    noted = out / PLAN_NAME
    if noted.is_file():
        older = json.loads(noted.read_text(encoding="utf-8"))
        same = all(older.get(name) == plan[name] for name in ("edgefiqa", "weights", "size"))
        for name in (*_FOLDERS, *_OWN_FOLDERS, *(() if same else ("export",))):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in _MEASURED:
            (out / name).unlink(missing_ok=True)
    write_text(noted, json.dumps(plan, indent=1) + "\n")


def _write_report(out: Path, pictures: Pictures, scored: Scored, policy: str) -> Path:
    """Write ``scores.png`` and the report; the Markdown ends in what people can judge."""
    write_sheet(pictures, scored.columns[0].scores, out / "scores.png")
    page, markdown, _ = write_report(load_run(out), out, policy=load_policy(policy))
    parts = [
        markdown.read_text(encoding="utf-8").rstrip(),
        heading("Every file against torch"),
        parity_table(Manifest.load(out / "export")),
        heading("Scores (higher is better)"),
        "![the pictures with torch's scores](scores.png)",
        pictures_table(pictures, scored, out),
    ]
    write_text(markdown, "\n\n".join(parts) + "\n")
    return page
