"""Dense targets: frozen teachers look at the very crops the student is trained on.

Each teacher's feature maps at strides 8, 16 and 32, every channel with mean 0 and deviation 1,
are what projections of the student's maps should equal. With several teachers the losses, and the
scores they give, are averaged. Nothing of a teacher is stored: crops may start anywhere.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgefiqa.data.batches import normalise
from edgefiqa.data.image_set import ImageSet
from edgefiqa.errors import UsageError
from edgefiqa.files import sha256_of
from edgefiqa.models.card import WEIGHTS_NAME
from edgefiqa.train import (
    MAP_CHANNELS,
    MAP_STRIDES,
    FrozenTeacher,
    Guidance,
    Lite0Scorer,
    TeacherRuntime,
    centre_crop,
    load_scorer,
)

__all__ = [
    "OnlineTeachers",
    "Projections",
    "channel_statistics",
    "cosine_weight",
    "feature_loss",
    "online_guidance",
    "student_maps",
]

STUDENT_CHANNELS = (48, 88, 168)
"""Channels of EdgeNeXt-XX-Small at strides 8, 16 and 32."""

_SAMPLE = 256
Statistics = list[tuple[Tensor, Tensor]]


class Projections(nn.Module):
    """One 1×1 convolution a stride, from the student's channels to the teacher's.

    Args:
        channels: The student's channels at strides 8, 16 and 32.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        pairs = zip(channels, MAP_CHANNELS, strict=True)
        self.layers = nn.ModuleList(
            nn.Conv2d(student_channels, wanted, 1) for student_channels, wanted in pairs
        )

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

    Raises:
        UsageError: The shapes differ, as they do for crops that 32 does not divide.
    """
    for student_map, wanted in zip(projected, targets, strict=True):
        if student_map.shape != wanted.shape:
            raise UsageError(
                "student's and teacher's maps do not lie on each other",
                value=f"{list(student_map.shape)} and {list(wanted.shape)}",
                allowed="crops whose side is a multiple of 32",
            )
    losses = [
        functional.mse_loss(student_map.float(), wanted)
        for student_map, wanted in zip(projected, targets, strict=True)
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


@torch.inference_mode()
def channel_statistics(
    teacher: Lite0Scorer, images: ImageSet, rows: NDArray[np.int64]
) -> Statistics:
    """Estimate mean and deviation of each channel of a teacher's maps.

    Args:
        teacher: In evaluation mode.
        images: The set.
        rows: The rows that are trained on; about 256 of them, evenly spread, are looked at.

    Returns:
        Mean and deviation ``[1,C,1,1]`` of each stride; the same whenever it is called.
    """
    sample = rows[:: max(1, len(rows) // _SAMPLE)]
    parts: list[list[Tensor]] = [[] for _ in MAP_STRIDES]
    for first in range(0, len(sample), 16):
        squares = [centre_crop(images.image(r), images.size) for r in sample[first : first + 16]]
        for part, level in zip(parts, teacher.maps(normalise(np.stack(squares))), strict=True):
            moments = torch.stack((level.mean((2, 3)), level.square().mean((2, 3))))
            part.append(moments)
    found = []
    for part in parts:
        mean, square = torch.cat(part, dim=1).mean(1)
        deviation = (square - mean.square()).clamp_min(1e-6).sqrt()
        found.append((mean.view(1, -1, 1, 1).clone(), deviation.view(1, -1, 1, 1).clone()))
    return found


class OnlineTeachers(nn.Module):
    """Runs the student and its teachers on the same images and compares them.

    Only projections and the channels' statistics are part of the module's state: the teachers are
    frozen files.

    Args:
        teachers: Frozen scorers; with a feature or score map weight each is a `Lite0Scorer`.
        statistics: What `channel_statistics` says of each; empty without a feature weight.
        channels: The student's channels at strides 8, 16 and 32.
        feature_weight: Weight of the map loss; 0 leaves it out.
        score_weight: Weight of the squared difference to the teachers' mean score.
        score_map_weight: Weight of the squared difference to what each place adds to that score; 0
            leaves it out.
        bfloat16: Run the teachers in bfloat16, whatever the student runs in.
        runtime: What executes the teachers.
        turned_apart: Turn what each teacher sees, see `FrozenTeacher`.
    """

    def __init__(
        self,
        teachers: Sequence[nn.Module],
        statistics: Sequence[Statistics],
        *,
        channels: Sequence[int] = STUDENT_CHANNELS,
        feature_weight: float = 1.0,
        score_weight: float = 0.5,
        score_map_weight: float = 0.0,
        bfloat16: bool = False,
        runtime: TeacherRuntime = TeacherRuntime.TORCH,
        turned_apart: bool = False,
    ) -> None:
        super().__init__()
        self._maps = feature_weight > 0 or score_map_weight > 0
        # No modules, so that no teacher is in checkpoints or in the optimiser.
        self._teachers = tuple(
            FrozenTeacher(
                teacher, maps=self._maps, bfloat16=bfloat16, runtime=runtime, turned=turned_apart
            )
            for teacher in teachers
        )
        self._feature_weight, self._score_weight = feature_weight, score_weight
        self._score_map_weight = score_map_weight
        guided = teachers if feature_weight else ()
        self.projections = nn.ModuleList(Projections(channels) for _ in guided)
        for number, levels in enumerate(statistics):
            for stride, (mean, deviation) in zip(MAP_STRIDES, levels, strict=True):
                self.register_buffer(f"mean_{number}_{stride}", mean)
                self.register_buffer(f"deviation_{number}_{stride}", deviation)

    def forward(self, scorer: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Score images and compare with what the teachers say and see.

        Args:
            scorer: The student: an EdgeNeXt scorer, or any scorer where no maps are compared.
            images: float32 ``[N,3,H,W]``, normalised, H and W multiples of 32.

        Returns:
            The student's scores ``[N]``, and the weighted losses ``teacher`` (scores), ``feature``
            and ``score_map``.
        """
        maps: list[Tensor] = []
        if self._maps:
            maps = student_maps(scorer.get_submodule("backbone"), images)
            scores = scorer.get_submodule("head")(maps[-1].float().mean((2, 3))).squeeze(1)
        else:
            scores = scorer(images)
        said, distances, places = [], [], []
        for number, teacher in enumerate(self._teachers):
            own_scores, levels = teacher(images)
            # Out of inference mode, a new tensor: autograd keeps targets for its way back.
            said.append(own_scores + 0.0)
            if self._feature_weight:
                targets = self._normalised(levels, number)
                distances.append(feature_loss(self.projections[number](maps), targets))
            if self._score_map_weight:
                places.append(teacher.score_map(levels))
        difference = (scores.float() - torch.stack(said).mean(0)).square().mean()
        losses = {"teacher": self._score_weight * difference}
        if distances:
            losses["feature"] = self._feature_weight * torch.stack(distances).mean()
        if places:
            # The head is linear: what it says of each place has the score as its mean.
            own_places = scorer.get_submodule("head")(maps[-1].float().permute(0, 2, 3, 1))
            difference = own_places.squeeze(-1) - torch.stack(places).mean(0)
            losses["score_map"] = self._score_map_weight * difference.square().mean()
        return scores, losses

    def _normalised(self, levels: Sequence[Tensor], number: int) -> list[Tensor]:
        """Bring a teacher's maps to mean 0 and deviation 1."""
        return [
            (level.float() - self.get_buffer(f"mean_{number}_{stride}"))
            / self.get_buffer(f"deviation_{number}_{stride}")
            for stride, level in zip(MAP_STRIDES, levels, strict=True)
        ]


def cosine_weight(done: float, *, until: float | None) -> float:
    """Fall from 1 to 0 along half a cosine, and stay there.

    Args:
        done: Share of the run that is done, 0..1.
        until: Where 0 is reached; None stays at 1.

    Returns:
        The weight.
    """
    if until is None:
        return 1.0
    return (1 + math.cos(math.pi * done / until)) / 2 if done < until else 0.0


def online_guidance(
    teachers: Sequence[Path],
    images: ImageSet,
    rows: NDArray[np.int64],
    *,
    feature_weight: float,
    score_weight: float,
    until: float | None,
    score_map_weight: float = 0.0,
    bfloat16: bool = False,
    runtime: TeacherRuntime = TeacherRuntime.TORCH,
    turned_apart: bool = False,
    channels: Sequence[int] = STUDENT_CHANNELS,
) -> Guidance:
    """Load teachers and make them a guidance of `edgefiqa.train.fit`.

    Args:
        teachers: What `edgefiqa.train.load_scorer` takes.
        images: A set whose images show what the teachers' channels are like.
        rows: The rows that are trained on.
        feature_weight: Weight of the map loss; 0 leaves it out.
        score_weight: Weight of the squared difference to the teachers' mean score.
        score_map_weight: Weight of the squared difference to what each place adds to that score; 0
            leaves it out.
        until: Share of the run after which both are 0: the teacher shows the way, the labels
            have the last word. None keeps them to the end.
        bfloat16: Run the teachers in bfloat16.
        runtime: What executes them.
        turned_apart: Turn what each teacher sees, see `FrozenTeacher`.
        channels: The student's channels at strides 8, 16 and 32.

    Returns:
        The guidance.

    Raises:
        UsageError: A teacher has no maps to compare with.
    """
    loaded = [load_scorer(path) for path in teachers]
    if feature_weight or score_map_weight:
        _check_maps(teachers, loaded)
    statistics = [
        channel_statistics(teacher, images, rows)
        for teacher in loaded
        if feature_weight and isinstance(teacher, Lite0Scorer)
    ]
    # Projections start the same whatever this process did before: a resumed pipeline does less.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = OnlineTeachers(
            loaded,
            statistics,
            channels=channels,
            feature_weight=feature_weight,
            score_weight=score_weight,
            score_map_weight=score_map_weight,
            bfloat16=bfloat16,
            runtime=runtime,
            turned_apart=turned_apart,
        )
    settings = f"{feature_weight} {score_weight} {until} {bfloat16} {runtime} {list(channels)}"
    # Appended only where they are used, so that earlier runs keep their identity and can go on.
    if score_map_weight:
        settings += f" {score_map_weight}"
    if turned_apart:
        settings += " turned apart"
    return Guidance(
        module=module,
        weight=partial(cosine_weight, until=until),
        identity=_identity(teachers, settings),
        fades=until is not None,
    )


def _check_maps(teachers: Sequence[Path], loaded: Sequence[nn.Module]) -> None:
    """Refuse teachers whose feature maps cannot be compared with a student's.

    Raises:
        UsageError: A teacher is no lite0.
    """
    for path, teacher in zip(teachers, loaded, strict=True):
        if not isinstance(teacher, Lite0Scorer):
            raise UsageError(
                "this teacher's maps cannot guide a student",
                value=path,
                allowed="a lite0; with others feature_weight: 0, score_map_weight: 0",
            )


def _identity(teachers: Sequence[Path], settings: str) -> str:
    """Return the SHA-256 of what the guidance depends on: the teachers' weights and settings."""
    files = [path / WEIGHTS_NAME if path.is_dir() else path for path in teachers]
    text = " ".join([*(sha256_of(file) for file in files), settings])
    return hashlib.sha256(text.encode()).hexdigest()
