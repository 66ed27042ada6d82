"""Calibration and evaluation images of a demo: degraded copies of different photographs."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edgefiqa.data.corpus import CorpusPlan, build_corpus
from edgefiqa.data.image_set import Split
from edgefiqa.data.near_duplicates import cluster_photos, split_clusters
from edgefiqa.demo.photographs import Photographs
from edgefiqa.demo.settings import Settings
from edgefiqa.measuring.image_source import SourceSpec, describe_images, open_source
from edgefiqa.measuring.records import ImagesRecord
from edgefiqa.workers import processor_count

__all__ = ["ImageSets", "build_image_sets"]

_SHARD = 2
"""Photographs of one unit of work: there are so few that larger ones would leave cores idle."""


@dataclass(frozen=True, kw_only=True)
class ImageSets:
    """Images to calibrate with and images to measure on, of different photographs.

    Attributes:
        calibration: The first.
        evaluation: The second; labelled.
        text: What the evaluation images are, in words.
    """

    calibration: SourceSpec
    evaluation: SourceSpec
    text: str

    @classmethod
    def of_set(cls, path: Path, settings: Settings, *, text: str) -> Self:
        """Take both from one finished image set; its splits share no photograph."""
        train, held_back = (Split.TRAIN.value,), (Split.HELD_BACK.value,)
        return cls(
            calibration=SourceSpec(path=path, splits=train, limit=settings.calibration),
            evaluation=SourceSpec(path=path, splits=held_back, limit=settings.evaluation),
            text=text,
        )

    def describe(self, size: int) -> ImagesRecord:
        """Return the record of the evaluation images, scored at ``size`` pixels."""
        record = describe_images(open_source(self.evaluation), size)
        label = f"what a copy lost against its original, by metrics ({record.label}), not by people"
        return record.model_copy(update={"source": self.text, "label": label})


def build_image_sets(
    photographs: Photographs, out: Path, *, size: int, settings: Settings
) -> ImageSets:
    """Degrade photographs, or go on with that.

    Each photograph belongs to one side alone. Labels say how much a copy lost against its original,
    by full-reference metrics.

    Args:
        photographs: What is degraded.
        out: Folder of the image set; photographs are copied beside it until it is finished.
        size: Side of the images in pixels.
        settings: How many images of each kind.

    Raises:
        DataError: `out` holds another set.
        UsageError: The size is too small for labels.
    """
    copies = out.with_name(f"{out.name}.photographs")
    plan = _plan(photographs, size, settings)
    if not (out / "meta.json").is_file():
        photographs.copy_to(copies)
        build_corpus(copies, out, plan=plan, workers=processor_count())
    shutil.rmtree(copies, ignore_errors=True)
    text = f"degraded copies, made of photographs that calibrate nothing, of {photographs.text}"
    if not photographs.are_own:
        text += "; on these, agreement with labels says nothing of the scorer, drift does"
    return ImageSets.of_set(out, settings, text=text)


def _plan(photographs: Photographs, size: int, settings: Settings) -> CorpusPlan:
    """Share the photographs out, with as many copies of each as give the wanted images."""
    plan = CorpusPlan(
        size=size,
        held_back_share=settings.held_back_share,
        left_out=(),
        photos_per_shard=_SHARD,
    )
    # In the order that the corpus lists them: the draw is over cluster numbers.
    paths = [photographs.files[name] for name in sorted(photographs.files)]
    clusters = cluster_photos(paths, duplicate_bits=plan.duplicate_bits)
    held = int(split_clusters(clusters, plan.held_back_share, plan.seed).sum())
    rest = max(1, len(paths) - held)
    return CorpusPlan(
        **{
            **vars(plan),
            "variants": -(-settings.calibration // rest),
            "held_back_variants": -(-settings.evaluation // max(1, held)),
        }
    )
