"""Scoring one chunk of images: the same work, to the bit, whichever process or machine does it."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from edgefiqa.data.image_set import ImageSet, open_image_set
from edgefiqa.errors import DataError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.labelling_choices import ScoringPrecision
from edgefiqa.models.card import CARD_NAME, WEIGHTS_NAME, ModelCard
from edgefiqa.models.normalisation import IMAGENET_MEAN, IMAGENET_STD
from edgefiqa.models.store import DEFAULT_MODEL, default_model_dir
from edgefiqa.preprocess import check_size, load_tensor, resize_and_crop
from edgefiqa.train.frozen_teacher import FrozenTeacher, TeacherRuntime
from edgefiqa.train.label_table import PseudoLabel, write_rows
from edgefiqa.train.scorers import load_scorer

__all__ = [
    "Chunk",
    "ChunkScorer",
    "LabelSettings",
    "ScoringPrecision",
    "Teacher",
    "load_teacher",
]


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """How to label.

    Attributes:
        size: Side of the square that is scored, in pixels; the first teacher's if None.
        batch: Images a forward pass.
        chunk: Images that are scored and committed together; lost when a run is killed.
        views: 1 scores the image; 2 also its mirror image.
        precision: What the networks compute in.
        runtime: What executes them.
        threads: Torch threads of each worker; another number may change the last bit.
        readers: Threads of each worker that decode while it computes; 0 where every core has a
            worker.
        device: A torch device.
        max_unreadable: Share of images without a score above which labelling stops.
    """

    size: int | None = None
    batch: int = 8
    chunk: int = 64
    views: int = 1
    precision: ScoringPrecision = ScoringPrecision.FLOAT32
    runtime: TeacherRuntime = TeacherRuntime.TORCH
    threads: int = 1
    readers: int = 0
    device: str = "cpu"
    max_unreadable: float = 0.01

    def __post_init__(self) -> None:
        if min(self.batch, self.chunk, self.threads) < 1 or self.readers < 0:
            value = f"batch {self.batch}, chunk {self.chunk}, threads {self.threads}"
            raise UsageError("these settings are not usable", value=value, allowed="1 or more")
        if self.views not in (1, 2):
            raise UsageError("no such number of views", value=self.views, allowed="1 or 2")
        if self.size is not None:
            check_size(self.size)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A run of images that is scored and committed as one.

    Attributes:
        number: Its place in the order.
        source: An image set, or the folder of the photographs.
        rows: Rows of the set; empty for photographs.
        photos: Paths below the folder (or absolute); empty for a set.
    """

    number: int
    source: str
    rows: tuple[int, ...] = ()
    photos: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows) or len(self.photos)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A loaded scorer.

    Attributes:
        model: Normalised float32 NCHW to ``[n]``, in evaluation mode.
        size: Input side in pixels it was made for; None where no card says so.
        sha256: SHA-256 of its weights.
    """

    model: nn.Module
    size: int | None
    sha256: str


def load_teacher(source: str | Path) -> Teacher:
    """Load whatever can label.

    Args:
        source: ``default``, or what `edgefiqa.train.scorers.load_scorer` takes.

    Raises:
        CheckpointError: There are no usable weights.
    """
    if str(source) == DEFAULT_MODEL:
        source = default_model_dir()
    path = Path(source)
    model = load_scorer(path)
    file = path / WEIGHTS_NAME if path.is_dir() else path
    card = file.parent / CARD_NAME
    size = ModelCard.load(card).size if card.is_file() else None
    return Teacher(model=model, size=size, sha256=sha256_of(file))


def scoring_size(teachers: Sequence[Teacher], settings: LabelSettings) -> int:
    """Return the side to score at: as set, else the first teacher's.

    Raises:
        UsageError: Neither says it.
    """
    size = settings.size or teachers[0].size
    if size is None:
        what = "the teacher has no card that says its input size"
        raise UsageError(what, next_step="name the size it was trained at: --size")
    return size


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """One image on its way to the networks: its row so far, and pixels unless it has an error."""

    row: PseudoLabel
    pixels: NDArray[np.uint8] | None = None


class ChunkScorer:
    """Teachers and settings, ready to score chunks.

    Args:
        teachers: The loaded models.
        settings: What decides the scores.
    """

    def __init__(self, teachers: Sequence[Teacher], settings: LabelSettings) -> None:
        self.settings = settings
        self.size = scoring_size(teachers, settings)
        self._device = torch.device(settings.device)
        self._models = [
            FrozenTeacher(
                teacher.model.to(memory_format=torch.channels_last),
                maps=False,
                bfloat16=settings.precision is ScoringPrecision.BFLOAT16,
                runtime=settings.runtime,
            )
            for teacher in teachers
        ]
        self._mean = torch.tensor(IMAGENET_MEAN, device=self._device)
        self._std = torch.tensor(IMAGENET_STD, device=self._device)
        self._sets: dict[str, ImageSet] = {}

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.settings.readers, thread_name_prefix="decode")

    def score(self, chunk: Chunk) -> str:
        """Score a chunk.

        Args:
            chunk: The images.

        Returns:
            One CSV row an image in the chunk's order, without a header; `mapped_score` is empty.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(self.settings.threads)
        try:
            return write_rows(self._rows(chunk), header=False)
        finally:
            torch.set_num_threads(before)

    def _rows(self, chunk: Chunk) -> list[PseudoLabel]:
        waiting: list[_Loaded] = []
        rows: list[PseudoLabel] = []
        for loaded in self._load_all(chunk):
            waiting.append(loaded)
            # Counted with the unreadable ones, so that where a batch ends depends on nothing else.
            if len(waiting) == self.settings.batch:
                rows += self._score_batch(waiting)
                waiting = []
        return rows + self._score_batch(waiting)

    def _load_all(self, chunk: Chunk) -> Iterator[_Loaded]:
        if chunk.photos:
            load, items = self._load_photo, [(chunk.source, name) for name in chunk.photos]
        else:
            load, items = self._load_row, [(chunk.source, str(row)) for row in chunk.rows]
        return self._readers.map(load, items) if self.settings.readers else map(load, items)

    def _load_photo(self, item: tuple[str, str]) -> _Loaded:
        folder, name = item
        # A name may hold bytes that are no text; a label file is UTF-8.
        shown = name.encode("utf-8", "backslashreplace").decode()
        try:
            pixels = load_tensor(Path(folder, name), self.size, name=shown)[0]
        except DataError as error:
            return _Loaded(row=PseudoLabel(image=shown, error=str(error)))
        digest = hashlib.sha256(pixels).hexdigest()
        return _Loaded(row=PseudoLabel(image=shown, sha256=digest), pixels=pixels)

    def _load_row(self, item: tuple[str, str]) -> _Loaded:
        source, row = item[0], int(item[1])
        if source not in self._sets:
            self._sets[source] = open_image_set(Path(source))
        images = self._sets[source]
        record, size = images.records[row], self.size
        label = PseudoLabel(image=record["key"], sha256=record["sha256"])
        try:
            pixels = resize_and_crop(Image.fromarray(images.image(row)), size, name=label.image)
        except DataError as error:
            return _Loaded(row=PseudoLabel(image=label.image, error=str(error)))
        return _Loaded(row=label, pixels=pixels)

    def _score_batch(self, batch: Sequence[_Loaded]) -> list[PseudoLabel]:
        pixels = [loaded.pixels for loaded in batch if loaded.pixels is not None]
        scores = iter(self._forward(np.stack(pixels)) if pixels else ())
        return [
            loaded.row if loaded.pixels is None else _with_scores(loaded.row, next(scores))
            for loaded in batch
        ]

    @torch.inference_mode()
    def _forward(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n,S,S,3]``; float32 ``[n, teachers · views]``."""
        values = torch.from_numpy(images).to(self._device).float()
        values = values.div_(255).sub_(self._mean).div_(self._std).permute(0, 3, 1, 2)
        views = [values, values.flip(3)][: self.settings.views]
        scores = [model(view)[0] for model in self._models for view in views]
        found: NDArray[np.float32] = torch.stack(scores, dim=1).cpu().numpy()
        return found


def _with_scores(row: PseudoLabel, scores: NDArray[np.float32]) -> PseudoLabel:
    values = scores.astype(np.float64)
    mean, spread = float(values.mean()), float(values.std()) if len(values) > 1 else None
    if not np.isfinite(mean):
        return PseudoLabel(image=row.image, sha256=row.sha256, error=f"the model's score is {mean}")
    return PseudoLabel(image=row.image, sha256=row.sha256, raw_score=mean, spread=spread)
