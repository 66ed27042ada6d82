"""What users hand over, photographs or image sets, as the image sets that the pipeline needs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgefiqa.data.check import check_labelled, check_unlabelled
from edgefiqa.data.check_report import CheckPlan, CheckReport, require_usable, write_report
from edgefiqa.data.image_set import is_image_set, open_image_set
from edgefiqa.data.near_duplicates import split_clusters
from edgefiqa.data.pack import pack_photos
from edgefiqa.data.subsets import derive_image_set
from edgefiqa.errors import DataError, UsageError

__all__ = ["Source", "labelled_source", "unlabelled_sources"]

# Without labels there is nothing to measure on: none are held back.
_ALL = CheckPlan(held_back_share=0.0)


class Source:
    """Images that can be had at a size.

    Args:
        path: An image set, or a folder of photographs.
        manifest: Manifest of a folder: which photographs, with labels and splits.
        sets: Where image sets made of a folder go; their names begin with `name`.
        name: What the source is called in folders and messages.
        workers: Processes.
    """

    def __init__(
        self, path: Path, manifest: Path | None, *, sets: Path, name: str, workers: int
    ) -> None:
        self._path, self._manifest = path, manifest
        self._sets, self._name, self._workers = sets, name, workers

    def at(self, size: int) -> Path:
        """Return the image set of a size; made of the photographs, or of a larger set, if need be.

        Args:
            size: Short side in pixels.

        Returns:
            Its folder.

        Raises:
            UsageError: An image set was handed over that is smaller.
        """
        if self._manifest is not None:
            out = self._sets / f"{self._name}-{size}"
            pack_photos(self._path, self._manifest, out, size, self._workers)
            return out
        images = open_image_set(self._path)
        if images.size == size:
            return self._path
        out = self._sets / f"{self._name}-{size}"
        return derive_image_set(images, out, size=size, workers=self._workers).path

    def no_smaller_than(self, size: int) -> Path:
        """Return an image set of at least a size: the one handed over, or one of the photographs.

        Args:
            size: Short side in pixels.

        Returns:
            Its folder.
        """
        return self._path if self._manifest is None else self.at(size)


def labelled_source(
    path: Path, labels: Path | None, out: Path, *, workers: int, name: str = "labelled"
) -> Source:
    """Take the labelled images.

    Args:
        path: An image set, or a folder of photographs with a label file.
        labels: The label file; the only one in the folder if not given.
        out: Where checks and sets of a folder go.
        workers: Processes.
        name: What their names begin with.

    Returns:
        The source.

    Raises:
        DataError: The labels or photographs cannot be used; what was found is in ``check.json``.
        UsageError: A label file is named for an image set, which has its labels.
    """
    if _is_set(path):
        if labels is not None:
            raise UsageError(
                "a label file is for a folder of photographs, an image set has its labels",
                value=labels,
                next_step="leave out --labels, or name the folder of photographs",
            )
        return Source(path, None, sets=out, name=name, workers=workers)
    manifest = _checked(check_labelled(path, labels, None, workers=workers), out / f"{name}-check")
    return Source(path, manifest, sets=out, name=name, workers=workers)


def unlabelled_sources(paths: Sequence[Path], out: Path, *, workers: int) -> list[Source]:
    """Take the unlabelled images, as two sources that share no near duplicates.

    Args:
        paths: Two image sets or folders; or one folder of photographs, which is cut in two by
            clusters of near duplicates.
        out: Where checks and sets of folders go.
        workers: Processes.

    Returns:
        Two sources.

    Raises:
        UsageError: One image set only, or more than two paths.
        DataError: Photographs cannot be used, or those of one folder cannot be cut in two.
    """
    if len(paths) == 1 and not _is_set(paths[0]):
        report = check_unlabelled(paths[0], plan=_ALL, workers=workers)
        return [
            Source(paths[0], manifest, sets=out, name=f"unlabelled-{n}", workers=workers)
            for n, manifest in enumerate(_halves(report, out), start=1)
        ]
    if len(paths) != 2:
        raise UsageError(
            "self-training needs two unlabelled sets",
            value=", ".join(map(str, paths)) or None,
            allowed="--unlabelled twice, or once with a folder of photographs, which is cut in two",
        )
    sources = []
    for number, path in enumerate(paths, start=1):
        name = f"unlabelled-{number}"
        manifest = None
        if not _is_set(path):
            manifest = _checked(
                check_unlabelled(path, plan=_ALL, workers=workers), out / f"{name}-check"
            )
        sources.append(Source(path, manifest, sets=out, name=name, workers=workers))
    return sources


def _is_set(path: Path) -> bool:
    """Tell image sets from folders of photographs.

    Raises:
        DataError: It is an image set, but an unfinished one.
    """
    unfinished = (path / "plan.json").is_file() and (path / "shards").is_dir()
    if unfinished and not is_image_set(path):
        next_step = "run the command that builds it again: it goes on where it stopped"
        raise DataError("this image set is unfinished", value=path, next_step=next_step)
    return is_image_set(path)


def _checked(report: CheckReport, out: Path) -> Path:
    write_report(report, out)
    require_usable(report)
    return out / "manifest.jsonl"


def _halves(report: CheckReport, out: Path) -> list[Path]:
    """Write the manifests of two halves that share no cluster."""
    clusters = np.array([row.cluster for row in report.rows], np.int64)
    second = split_clusters(clusters, 0.5, 42)
    if not report.faults and len(set(clusters.tolist())) < 2:
        raise DataError(
            "the unlabelled photographs cannot be cut in two, all are near duplicates",
            value=report.folder,
            allowed="two different photographs or more",
        )
    return [
        _checked(
            replace(
                report,
                rows=tuple(row for row, kept in zip(report.rows, mask, strict=True) if kept),
            ),
            out / f"unlabelled-{number}-check",
        )
        for number, mask in ((1, ~second), (2, second))
    ]
