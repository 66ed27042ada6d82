"""Dense targets: the teacher's feature maps, computed once, and the student's projections to them.

The maps of every training image and of its mirror image are stored as int8 after each channel
was brought to mean 0 and deviation 1 over the corpus. A training step then needs no teacher: a
crop that starts on the 32-pixel grid has its targets at the matching place of each stored map.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgefiqa.data.batches import Batch, normalise
from edgefiqa.errors import DataError
from edgefiqa.files import write_text
from edgefiqa.train import MAP_CHANNELS, MAP_STRIDES, Lite0Scorer, training_progress

__all__ = [
    "FeatureCache",
    "Projections",
    "build_feature_cache",
    "feature_loss",
    "open_feature_cache",
    "student_maps",
]

# int8 steps per standard deviation: values are kept up to 7.9 deviations.
_STEPS_PER_DEVIATION = 16.0


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """A finished cache.

    Attributes:
        maps: One int8 array a stride, ``[n,2,h,w,C]``; the second axis is plain, mirrored.
        scores: The teacher's scores, float32 ``[n,2]``.
        positions: Corpus row to cache row, -1 where a row is not cached.
    """

    maps: tuple[NDArray[np.int8], ...]
    scores: NDArray[np.float32]
    positions: NDArray[np.int64]

    def targets(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Cut the targets of a batch.

        Args:
            batch: Crops that start at multiples of 32 pixels.

        Returns:
            One float32 map a stride ``[N,C,h,w]``, and the teacher's scores ``[N]`` of the whole
            images.
        """
        rows, sides = self.positions[batch.rows], batch.mirrored.astype(np.int64)
        crop = batch.images.shape[-1]
        targets = []
        for stored, stride in zip(self.maps, MAP_STRIDES, strict=True):
            width = crop // stride
            windows = np.stack(
                [
                    stored[row, side, top : top + width, left : left + width]
                    for row, side, top, left in zip(
                        rows, sides, batch.tops // stride, batch.lefts // stride, strict=True
                    )
                ]
            )
            values = torch.from_numpy(windows).float().div_(_STEPS_PER_DEVIATION)
            targets.append(values.permute(0, 3, 1, 2))
        return targets, torch.from_numpy(self.scores[rows, sides])


class Projections(nn.Module):
    """One 1×1 convolution a stride, from the student's channels to the teacher's.

    Args:
        channels: The student's channels at strides 8, 16 and 32.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        pairs = zip(channels, MAP_CHANNELS, strict=True)
        self.layers = nn.ModuleList(nn.Conv2d(own, wanted, 1) for own, wanted in pairs)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Project.

        Args:
            maps: The student's maps ``[N,C,h,w]`` at strides 8, 16 and 32.

        Returns:
            Maps with the teacher's channels.
        """
        return [layer(level) for layer, level in zip(self.layers, maps, strict=True)]


def feature_loss(projected: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Compute the mean over strides of the mean squared difference.

    Args:
        projected: What `Projections` returned.
        targets: Channel-normalised teacher maps of the same shapes.

    Returns:
        Scalar; 1 for a student that always says 0.
    """
    losses = [
        functional.mse_loss(own.float(), wanted)
        for own, wanted in zip(projected, targets, strict=True)
    ]
    return torch.stack(losses).mean()


def student_maps(backbone: nn.Module, images: Tensor) -> list[Tensor]:
    """Run an EdgeNeXt and keep what its stages return.

    Args:
        backbone: timm's EdgeNeXt, without head.
        images: float32 ``[N,3,H,W]``, normalised.

    Returns:
        Maps at strides 8, 16 and 32.
    """
    value: Tensor = backbone.get_submodule("stem")(images)
    maps = []
    for stage in backbone.get_submodule("stages").children():
        value = stage(value)
        maps.append(value)
    return maps[1:]


def _paths(out: Path) -> list[Path]:
    return [out / f"stride{stride:02d}.npy" for stride in MAP_STRIDES]


def _pair(images: NDArray[np.uint8]) -> Tensor:
    """Return plain and mirrored images, interleaved: ``[2n,3,H,W]``."""
    both = np.stack((images, images[:, :, ::-1]), axis=1)
    return normalise(both.reshape(-1, *images.shape[1:]))


@torch.inference_mode()
def _statistics(
    teacher: Lite0Scorer, images: NDArray[np.uint8], rows: NDArray[np.int64]
) -> list[tuple[Tensor, Tensor]]:
    """Return mean and deviation of each channel over a spread sample of the images."""
    sample = rows[:: max(1, len(rows) // 256)]
    parts: list[list[Tensor]] = [[] for _ in MAP_STRIDES]
    for first in range(0, len(sample), 16):
        found = teacher.maps(normalise(images[sample[first : first + 16]]))
        for part, level in zip(parts, found, strict=True):
            part.append(torch.stack((level.mean((0, 2, 3)), level.square().mean((0, 2, 3)))))
    statistics = []
    for part in parts:
        mean, square = torch.stack(part).mean(0)
        statistics.append((mean, (square - mean.square()).clamp_min(1e-6).sqrt()))
    return statistics


@torch.inference_mode()
def build_feature_cache(
    teacher: Lite0Scorer,
    images: NDArray[np.uint8],
    rows: NDArray[np.int64],
    out: Path,
    *,
    identity: dict[str, Any],
    bfloat16: bool = False,
    chunk: int = 16,
) -> FeatureCache:
    """Compute the teacher's maps and scores, or go on with an interrupted cache.

    Args:
        teacher: The teacher; it is put into evaluation mode.
        images: The corpus' images.
        rows: The rows to compute.
        out: The cache's folder; about 230 kB an image at 288².
        identity: What the cache depends on (hashes); another identity raises.
        bfloat16: Compute in bfloat16: faster, and not always repeatable bit for bit.
        chunk: Images a step, each also mirrored.

    Returns:
        The finished cache.

    Raises:
        DataError: `out` holds a cache of another identity.
    """
    state = out / "state.json"
    identity = {**identity, "images": len(rows), "bfloat16": bfloat16}
    done = _start_cache(state, identity, images.shape[1], rows)
    if done < len(rows):
        teacher.eval()
        statistics = _statistics(teacher, images, rows)
        stores = [np.load(path, mmap_mode="r+") for path in _paths(out)]
        scores = np.load(out / "scores.npy", mmap_mode="r+")
        with training_progress("teacher maps", done=done, total=len(rows)) as bar:
            for first in range(done, len(rows), chunk):
                part = slice(first, min(first + chunk, len(rows)))
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
                    found = teacher.maps(_pair(images[rows[part]]))
                scores[part] = teacher.score(found).float().numpy().reshape(-1, 2)
                for store, level, (mean, deviation) in zip(stores, found, statistics, strict=True):
                    values = (level.float().permute(0, 2, 3, 1) - mean) / deviation
                    steps = values.mul_(_STEPS_PER_DEVIATION).round_().clamp_(-127, 127)
                    store[part] = steps.to(torch.int8).numpy().reshape(-1, 2, *store.shape[2:])
                bar.advance(part.stop - first)
                if part.stop == len(rows) or (first // chunk) % 32 == 31:
                    for store in (*stores, scores):
                        store.flush()
                    write_text(state, json.dumps({"identity": identity, "done": part.stop}))
    return open_feature_cache(out, corpus_images=len(images))


def _start_cache(state: Path, identity: dict[str, Any], side: int, rows: NDArray[np.int64]) -> int:
    """Return how many images an interrupted cache holds; make the files of a new one."""
    if state.exists():
        known = json.loads(state.read_text(encoding="utf-8"))
        if known["identity"] != identity:
            next_step = "remove the folder, or name another one"
            raise DataError(
                "feature cache of another teacher or corpus",
                value=state.parent,
                next_step=next_step,
            )
        return int(known["done"])
    out = state.parent
    out.mkdir(parents=True, exist_ok=True)
    for path, stride, channels in zip(_paths(out), MAP_STRIDES, MAP_CHANNELS, strict=True):
        shape = (len(rows), 2, side // stride, side // stride, channels)
        np.lib.format.open_memmap(path, "w+", np.int8, shape)
    np.lib.format.open_memmap(out / "scores.npy", "w+", np.float32, (len(rows), 2))
    np.save(out / "rows.npy", rows)
    write_text(state, json.dumps({"identity": identity, "done": 0}))
    return 0


def open_feature_cache(out: Path, *, corpus_images: int) -> FeatureCache:
    """Open a cache that `build_feature_cache` finished.

    Args:
        out: Its folder.
        corpus_images: Images in the corpus.

    Returns:
        The cache; maps are mapped into memory, not read.
    """
    rows = np.load(out / "rows.npy")
    positions = np.full(corpus_images, -1, np.int64)
    positions[rows] = np.arange(len(rows))
    return FeatureCache(
        maps=tuple(np.load(path, mmap_mode="r") for path in _paths(out)),
        scores=np.load(out / "scores.npy"),
        positions=positions,
    )
