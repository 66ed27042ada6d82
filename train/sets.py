"""What is trained on, and where in it a run stands: a pure function of the step."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgefiqa.data.batches import draw_batch
from edgefiqa.data.image_set import ImageSet, Split
from edgefiqa.errors import DataError
from edgefiqa.train.parallel import own_share
from edgefiqa.train.settings import ResolutionPhase, TrainRecipe

__all__ = [
    "DrawnBatch",
    "Position",
    "SamplingPlan",
    "TrainingSet",
    "check_set",
    "draw_position",
    "labelled_rows",
]


@dataclass(frozen=True)
class TrainingSet:
    """Some images of a set and what a scorer should say about them.

    Attributes:
        name: For messages and the log.
        images: The image set.
        rows: int64 ``[n]``, which of its images.
        targets: float32 ``[n]``, labels or pseudo-labels, one a row.
        weight: Weight of this set's mean loss.
        batch: Images a step; the phase's batch if None.
    """

    name: str
    images: ImageSet
    rows: NDArray[np.int64]
    targets: NDArray[np.float32]
    weight: float = 1.0
    batch: int | None = None

    @property
    def identity(self) -> list[str | int | float | None]:
        """What a checkpoint remembers of the set."""
        digest = hashlib.sha256(self.rows.tobytes() + self.targets.tobytes()).hexdigest()
        return [self.name, self.images.identity, digest, self.weight, self.batch]


def check_set(chosen: TrainingSet) -> None:
    """Refuse a set that nothing can be learned from, or measured on.

    Args:
        chosen: The set.

    Raises:
        DataError: It is empty, has a target that is no number, or all its targets are equal.
    """
    if not len(chosen.rows) or len(chosen.rows) != len(chosen.targets):
        found = f"{len(chosen.rows)} images, {len(chosen.targets)} labels"
        raise DataError(f"set {chosen.name!r} cannot be used", value=found, allowed="one a row")
    wrong = np.flatnonzero(~np.isfinite(chosen.targets))
    if len(wrong):
        keys = ", ".join(chosen.images.records[chosen.rows[i]]["key"] for i in wrong[:3])
        raise DataError(
            f"{len(wrong)} label(s) of set {chosen.name!r} are no numbers",
            value=keys,
            allowed="finite numbers",
            next_step="remove these images or label them: edgefiqa data check lists them",
        )
    if len(chosen.rows) > 1 and np.ptp(chosen.targets) == 0:
        raise DataError(
            f"all labels of set {chosen.name!r} are equal: no order can be learned or measured",
            value=float(chosen.targets[0]),
        )


def labelled_rows(images: ImageSet, split: Split, *, name: str | None = None) -> TrainingSet:
    """Return a split of a labelled set with its labels as targets.

    Args:
        images: The set.
        split: Which part.
        name: For messages; the split's name if not given.

    Returns:
        Rows and targets.

    Raises:
        DataError: The split is empty.
    """
    rows = images.rows(split)
    if not len(rows):
        next_step = "split the labelled images by cluster: edgefiqa data pack --help"
        raise DataError(
            f"the set has no images of the split {split.value!r}",
            value=images.path,
            next_step=next_step,
        )
    return TrainingSet(name or split.value, images, rows, images.labels[rows])


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a run stands before a step.

    Attributes:
        phase: The step's phase.
        firsts: Images drawn of each set before this step.
        epoch: Passes over the first set before this step.
    """

    phase: ResolutionPhase
    firsts: tuple[int, ...]
    epoch: float


class SamplingPlan:
    """The steps of a run.

    Args:
        recipe: Its phases.
        sets: The first one's passes are the epochs.
    """

    def __init__(self, recipe: TrainRecipe, sets: Sequence[TrainingSet]) -> None:
        self._sets, self._rows = sets, len(sets[0].rows)
        self._phases = [(phase, self._length(phase)) for phase in recipe.phases]
        self.steps = sum(length for _, length in self._phases)
        self.images = self.images_before(self.steps)

    def _length(self, phase: ResolutionPhase) -> int:
        if phase.steps is not None:
            return phase.steps
        batch = self._sets[0].batch or phase.batch
        return max(1, -int(-(phase.epochs or 0) * self._rows // batch))

    def batches(self, phase: ResolutionPhase) -> list[int]:
        """Return how many images a step of a phase draws of each set."""
        return [chosen.batch or phase.batch for chosen in self._sets]

    def at(self, step: int) -> Position:
        """Return the position before a step; after the last step, that of the end."""
        firsts, left = [0] * len(self._sets), step
        for phase, length in self._phases:
            done = min(left, length)
            firsts = [
                first + done * batch
                for first, batch in zip(firsts, self.batches(phase), strict=True)
            ]
            left -= done
            if left == 0 and done < length:
                break
        return Position(phase=phase, firsts=tuple(firsts), epoch=firsts[0] / self._rows)

    def images_before(self, step: int) -> int:
        """Return how many images all steps before this one draw."""
        return sum(self.at(step).firsts)

    def ends_epoch(self, step: int) -> bool:
        """Tell whether a pass over the first set ends within a step."""
        return int(self.at(step + 1).epoch) > int(self.at(step).epoch)


@dataclass(frozen=True, kw_only=True)
class DrawnBatch:
    """What this process computes of one step.

    Attributes:
        images: float32 NCHW, channels_last, the sets one after the other.
        sizes: Images of each set among them.
        targets: float32 ``[N]``, in the same order.
    """

    images: Tensor
    sizes: list[int]
    targets: Tensor


def draw_position(sets: Sequence[TrainingSet], position: Position, seed: int) -> DrawnBatch:
    """Draw this process' share of one step.

    Args:
        sets: What to draw from.
        position: Where the run stands.
        seed: The run's seed; each set is drawn in another order.

    Returns:
        The batch.
    """
    images, sizes, targets = [], [], []
    for number, (chosen, first) in enumerate(zip(sets, position.firsts, strict=True)):
        count = chosen.batch or position.phase.batch
        batch = draw_batch(
            chosen.images,
            chosen.rows,
            first=first,
            count=count,
            crop=position.phase.crop,
            grid=1,
            seed=seed + number,
            turned=position.phase.turned,
            part=own_share(count),
        )
        images.append(batch.images)
        sizes.append(len(batch.rows))
        targets.append(_targets(chosen, batch.rows))
    # One set's images need no copy.
    joined = torch.cat(images) if len(images) > 1 else images[0]
    return DrawnBatch(images=joined, sizes=sizes, targets=torch.cat(targets))


def _targets(chosen: TrainingSet, drawn: NDArray[np.int64]) -> Tensor:
    order = np.argsort(chosen.rows, kind="stable")
    places = order[np.searchsorted(chosen.rows, drawn, sorter=order)]
    return torch.from_numpy(chosen.targets[places].astype(np.float32))
