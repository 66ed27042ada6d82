"""Multi-stage progressive training (MSPT): resolution and diversity grow from stage to stage.

::

    stage     low ──best weights──▶ middle ──best weights──▶ high ──▶ OUT
    images    224²                  384²                     640²
    learns    labelled              pseudo_1                 pseudo_2
    replays                         labelled                 labelled ∪ pseudo_1

A stage's batches are drawn from its sets and, by the share `replay`, from the union of all
earlier ones, so that nothing is forgotten; the two mean losses are weighted by these shares. All
stages are measured on the first set's held-back images, each at its size.
"""

import bisect
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefiqa.data.image_set import ImageSet, Split, full_disk_named, is_image_set, open_image_set
from edgefiqa.errors import UsageError
from edgefiqa.files import write_text
from edgefiqa.models import ModelCard, save_model
from edgefiqa.models.card import CARD_NAME
from edgefiqa.recipe import load_recipe
from edgefiqa.train.cards import CardText
from edgefiqa.train.parallel import processes
from edgefiqa.train.run import TrainResult
from edgefiqa.train.run import run as train
from edgefiqa.train.scorers import load_scorer
from edgefiqa.train.self_training import pseudo_set
from edgefiqa.train.sets import TrainingSet, labelled_rows
from edgefiqa.train.settings import StagedRecipe, TrainingStage, TrainRecipe
from edgefiqa.train.sources import Source, labelled_source
from edgefiqa.workers import processor_count

__all__ = [
    "NamedData",
    "StagedResult",
    "join_sets",
    "parse_data",
    "run_stages",
    "stage_sets",
    "train_recipe",
]

LABELLED = "labelled"
_NAMED = re.compile(r"([A-Za-z]\w*)=(.+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class NamedData:
    """Images by the name that recipes give them.

    Attributes:
        name: The set's name, as stages refer to it.
        path: An image set, or a folder of photographs with a label file.
        labels: Labels of an image set: a folder of ``edgefiqa label``, instead of its labels. Of a
            folder: the label file; the only one in it if None.
    """

    name: str
    path: Path
    labels: Path | None = None


def parse_data(text: str) -> NamedData:
    """Read ``[NAME=]PATH[:LABELS]``; without a name it is the labelled set.

    Args:
        text: What the command line says.

    Returns:
        The parts.
    """
    named = _NAMED.fullmatch(text)
    name, rest = (named[1], named[2]) if named else (LABELLED, text)
    path, _, labels = rest.rpartition(":")
    if not path or Path(rest).exists():
        return NamedData(name=name, path=Path(rest))
    return NamedData(name=name, path=Path(path), labels=Path(labels))


@dataclass(frozen=True, kw_only=True)
class StagedResult(TrainResult):
    """The last stage's result, and all stages'.

    Attributes:
        stages: One a stage: its name, size, what it drew from, and its result.
    """

    stages: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class _Joined(ImageSet):
    """Several sets of one size as one, row after row, nothing copied.

    Attributes:
        parts: The sets.
        starts: Where each begins, and where the last one ends.
    """

    parts: tuple[ImageSet, ...]
    starts: tuple[int, ...]

    def image(self, row: int) -> NDArray[np.uint8]:
        number = bisect.bisect_right(self.starts, row) - 1
        return self.parts[number].image(int(row) - self.starts[number])


def _join_images(parts: Sequence[ImageSet]) -> _Joined:
    text = " ".join(part.identity for part in parts)
    return _Joined(
        path=parts[0].path,
        meta={"size": parts[0].size, "index_sha256": hashlib.sha256(text.encode()).hexdigest()},
        records=[record for part in parts for record in part.records],
        parts=tuple(parts),
        starts=tuple(accumulate(map(len, parts), initial=0)),
    )


def join_sets(
    sets: Sequence[TrainingSet], *, weight: float = 1.0, batch: int | None = None
) -> TrainingSet:
    """Make the union of sets, from which rows are drawn with equal chances.

    Args:
        sets: Sets of images of one size.
        weight: Weight of the union's mean loss.
        batch: Images a step; the phase's batch if None.

    Returns:
        The union.
    """
    if len(sets) == 1:
        return replace(sets[0], weight=weight, batch=batch)
    images = _join_images([chosen.images for chosen in sets])
    rows = [chosen.rows + start for chosen, start in zip(sets, images.starts, strict=False)]
    return TrainingSet(
        name="+".join(chosen.name for chosen in sets),
        images=images,
        rows=np.concatenate(rows),
        targets=np.concatenate([chosen.targets for chosen in sets]),
        weight=weight,
        batch=batch,
    )


def stage_sets(
    stage: TrainingStage, new: Sequence[TrainingSet], earlier: Sequence[TrainingSet]
) -> list[TrainingSet]:
    """Share out a stage's batches.

    Args:
        stage: Says which share is replayed.
        new: The stage's sets.
        earlier: Those of earlier stages.

    Returns:
        What `edgefiqa.train.fit` takes: one set, or what is new and what is replayed.

    Raises:
        UsageError: The share leaves no whole image for one of the two, or the batch changes.
    """
    batches = {phase.batch for phase in stage.train.phases}
    replayed = [round(stage.replay * batch) for batch in batches]
    if not earlier or not stage.replay:
        return [join_sets(new)]
    batch = batches.pop()
    if batches or not 0 < replayed[0] < batch:
        raise UsageError(
            f"stage {stage.name!r} cannot share out its batches",
            value=f"replay {stage.replay} of {', '.join(map(str, {batch, *batches}))} images",
            allowed="phases of one batch, and at least one image of it for either part",
        )
    share = replayed[0] / batch
    return [
        join_sets(new, weight=1 - share, batch=batch - replayed[0]),
        join_sets(earlier, weight=share, batch=replayed[0]),
    ]


def run_stages(
    recipe: StagedRecipe,
    data: Sequence[NamedData],
    out: Path,
    *,
    text: CardText | None = None,
    workers: int | None = None,
) -> StagedResult:
    """Run all stages, or go on where an interrupted run stopped.

    Args:
        recipe: The stages.
        data: The sets that they name, the first one labelled and with held-back images. If it is
            the only one, every stage learns from it, at its size.
        out: Receives a folder a stage, and the last one's weights, card and result.
        text: The words of the cards.
        workers: Processes that pack images; one a core if None.

    Returns:
        The result, also written to ``result.json``.

    Raises:
        UsageError: The recipe names a set that is not given, or a set is too small.
        DataError: A set cannot be used.
        CheckpointError: `out` holds a run of another recipe or of other sets.
    """
    pool = _Pool(data, out / "sets", workers or processor_count())
    # The last stage's too: what cannot be had is to be known before the first is trained.
    plan = [(stage, *_names(stage, recipe, pool)) for stage in recipe.stages]
    for stage, new, earlier in plan:
        for name in dict.fromkeys((pool.first, *new, *earlier)):
            pool.at(name, stage.size)
    done: list[dict[str, Any]] = []
    for stage, new, earlier in plan:
        sets = stage_sets(
            stage,
            [pool.training_set(name, pool.at(name, stage.size)) for name in new],
            [pool.training_set(name, pool.at(name, stage.size)) for name in earlier],
        )
        result = train(
            stage.train,
            pool.at(pool.first, stage.size),
            out / stage.name,
            sets=sets,
            initial=Path(done[-1]["directory"]) if done else None,
            text=text,
        )
        about = {"stage": stage.name, "size": stage.size, "new": new, "replayed": earlier}
        done.append({**about, **asdict(result)})
    return _finish(done, out, text)


def train_recipe(path: Path, data: Sequence[NamedData], out: Path) -> TrainResult:
    """Train what a recipe describes, in one go or in stages.

    Args:
        path: A YAML file; with ``stages`` it is a `StagedRecipe`, else a `TrainRecipe`.
        data: The labelled set first; without stages the others' mean losses count once each.
        out: Output folder.

    Returns:
        The result.

    Raises:
        RecipeError: The recipe cannot be read or has faults.
        UsageError: The sets do not fit the recipe.
        DataError: A set cannot be used.
    """
    staged = re.compile(rb"^stages\s*:", re.MULTILINE)
    if path.is_file() and staged.search(path.read_bytes()):
        return run_stages(load_recipe(path, StagedRecipe), data, out)
    recipe = load_recipe(path, TrainRecipe)
    pool = _Pool(data, out / "sets", processor_count())
    largest = max(phase.crop for phase in recipe.phases)
    return train(
        recipe,
        pool.no_smaller_than(pool.first, largest),
        out,
        pseudo=[
            pool.training_set(given.name, pool.no_smaller_than(given.name, largest))
            for given in data[1:]
        ],
    )


def _names(
    stage: TrainingStage, recipe: StagedRecipe, pool: "_Pool"
) -> tuple[list[str], list[str]]:
    """Return the sets that are new in a stage, and those of earlier stages that are not."""
    before = recipe.stages[: recipe.stages.index(stage)]
    new = list(dict.fromkeys(pool.resolve(name) for name in stage.sets))
    earlier = [pool.resolve(name) for past in before for name in past.sets]
    return new, [name for name in dict.fromkeys(earlier) if name not in new]


class _Pool:
    """The given sets, each at every size that is asked for.

    Args:
        data: What was given.
        out: Where sets that are made go.
        workers: Processes that make them.
    """

    def __init__(self, data: Sequence[NamedData], out: Path, workers: int) -> None:
        if not data or len({given.name for given in data}) < len(data):
            value = ", ".join(given.name for given in data) or None
            raise UsageError("sets need different names", value=value, allowed="NAME=SET")
        self.first = data[0].name
        self._labels: dict[str, Path | None] = {}
        self._sources: dict[str, Source] = {}
        for given in data:
            is_packed = is_image_set(given.path)
            self._labels[given.name] = given.labels if is_packed else None
            # One process makes what is missing, the others then find it.
            with processes().main_process_first():
                self._sources[given.name] = labelled_source(
                    given.path,
                    None if is_packed else given.labels,
                    out,
                    workers=workers,
                    name=given.name,
                )

    def resolve(self, name: str) -> str:
        """Return which of the given sets a recipe means; refuse one that is not there."""
        if len(self._sources) == 1:
            return self.first
        if name not in self._sources:
            raise UsageError(
                f"the recipe names a set that is not given: {name!r}",
                value=", ".join(self._sources),
                next_step=f"add --data {name}=SET[:LABELS], or give the labelled set alone",
            )
        return name

    def at(self, name: str, size: int) -> Path:
        """Return a set of a size, made if need be."""
        with processes().main_process_first():
            return self._sources[name].at(size)

    def no_smaller_than(self, name: str, size: int) -> Path:
        """Return a set as it was given, or photographs packed at a size."""
        with processes().main_process_first():
            return self._sources[name].no_smaller_than(size)

    def training_set(self, name: str, path: Path) -> TrainingSet:
        """Return a set's training rows and their labels or pseudo-labels."""
        images = open_image_set(path)
        labels = self._labels[name]
        if labels is None:
            return labelled_rows(images, Split.TRAIN, name=name)
        return pseudo_set(name, images, labels)


def _finish(done: Sequence[Mapping[str, Any]], out: Path, text: CardText | None) -> StagedResult:
    """Make the last stage's scorer the run's, with the stages in its card."""
    last = done[-1]
    folder = Path(last["directory"])
    facts = ("stage", "size", "new", "replayed", "steps", "sha256", "metrics")
    stages = [{name: stage[name] for name in facts} for stage in done]
    card = ModelCard.load(folder / CARD_NAME)
    changes = {"provenance": {**card.provenance, "stages": stages}}
    card = card.model_copy(update=changes if text else {**changes, "name": out.name})
    result = {k: v for k, v in last.items() if k not in ("stage", "size", "new", "replayed")}
    steps = sum(stage["steps"] for stage in done)
    found = StagedResult(**{**result, "directory": str(out), "steps": steps, "stages": list(done)})
    state = processes()
    if state.is_main_process:
        with full_disk_named(out):
            save_model(load_scorer(folder), out, card)
            write_text(out / "result.json", json.dumps(asdict(found), indent=2) + "\n")
    state.wait_for_everyone()
    return found
