"""Teachers that are only asked: in torch, or on CPUs in ONNX Runtime, which takes half the time."""

import logging
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn

from edgefiqa.errors import MissingExtraError, UsageError
from edgefiqa.labelling_choices import TeacherRuntime
from edgefiqa.train.teacher import Lite0Scorer

__all__ = ["FrozenTeacher", "TeacherRuntime", "import_onnxruntime"]

# The first one with Gelu as one operator.
_OPSET = 20
# Four quarter turns, each mirrored or not.
_TURNS = 8


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime, which training without it does not need.

    Raises:
        MissingExtraError: It, or what exports to it, is not installed.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as missing:
        raise MissingExtraError("onnxruntime", "convert") from missing
    module: ModuleType = onnxruntime
    return module


class _Outputs(nn.Module):
    """A teacher whose outputs are its scores and, if asked for, its maps."""

    def __init__(self, teacher: nn.Module, *, maps: bool) -> None:
        super().__init__()
        self.teacher, self._maps = teacher, maps

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if not self._maps:
            return (self.teacher(images),)
        scorer = cast(Lite0Scorer, self.teacher)
        levels = scorer.maps(images)
        return (scorer.score(levels), *levels)


class FrozenTeacher:
    """A trained scorer, asked for scores and for feature maps; not trained, not part of any module.

    Args:
        teacher: The scorer, in evaluation mode; with `maps` a `Lite0Scorer`.
        maps: Ask for its maps too.
        bfloat16: Run it in bfloat16 (torch only).
        runtime: What executes it.
        turned: Show it each image turned and mirrored in one of eight ways, drawn from torch's
            generator. What it says on average is then the mean over eight views, at the price of
            one.

    Raises:
        UsageError: ONNX Runtime is asked for bfloat16.
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        maps: bool,
        bfloat16: bool = False,
        runtime: TeacherRuntime = TeacherRuntime.TORCH,
        turned: bool = False,
    ) -> None:
        if bfloat16 and runtime is TeacherRuntime.ONNXRUNTIME:
            raise UsageError(
                "teachers run in float32 in ONNX Runtime",
                value="bfloat16: true",
                allowed="bfloat16: false, or runtime: torch",
            )
        self._outputs = _Outputs(teacher, maps=maps).eval()
        self._bfloat16, self._runtime, self._turned = bfloat16, runtime, turned
        # One for each size of image. They see one image at a time: no slower there than batches,
        # and the last batch of a run may be smaller.
        self._sessions: dict[torch.Size, Callable[[Tensor], list[Tensor]]] = {}

    def __call__(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Ask the teacher.

        Args:
            images: float32 ``[N,3,H,W]``, normalised; square where it turns them.

        Returns:
            float32 scores ``[N]``, and its maps (none without `maps`), which lie on the images
            as they came.

        Raises:
            UsageError: ONNX Runtime is asked about images that are not in the CPU's memory, or
                images to be turned are not square.
        """
        if not self._turned:
            return self._ask(images)
        if images.shape[2] != images.shape[3]:
            raise UsageError(
                "images that are turned must be square", value=f"{list(images.shape[2:])} pixels"
            )
        turns = torch.randint(_TURNS, (len(images),)).tolist()
        scores, maps = self._ask(_stack(_turn, images, turns))
        return scores, [_stack(_turn_back, level, turns) for level in maps]

    def _ask(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        if self._runtime is TeacherRuntime.ONNXRUNTIME:
            scores, *maps = self._ask_onnxruntime(images)
        else:
            kind = images.device.type
            self._outputs.to(images.device)
            with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, self._bfloat16):
                scores, *maps = self._outputs(images)
        return scores.float(), maps

    @torch.no_grad()
    def score_map(self, maps: Sequence[Tensor]) -> Tensor:
        """Split scores into what each place adds to them, see `Lite0Scorer.score_map`."""
        return cast(Lite0Scorer, self._outputs.teacher).score_map(maps)

    def _ask_onnxruntime(self, images: Tensor) -> list[Tensor]:
        if images.device.type != "cpu":
            raise UsageError(
                "ONNX Runtime asks teachers on CPUs only",
                value=images.device,
                allowed="runtime: torch",
            )
        if images.shape[1:] not in self._sessions:
            self._sessions[images.shape[1:]] = _session(self._outputs, images[:1])
        ask = self._sessions[images.shape[1:]]
        found = [ask(images[i : i + 1]) for i in range(len(images))]
        return [torch.cat(level) for level in zip(*found, strict=True)]


def _turn(image: Tensor, turn: int) -> Tensor:
    """Turn a square ``[C,S,S]`` image in one of eight ways; 0 leaves it as it is."""
    return torch.rot90(image.flip(2) if turn >= _TURNS // 2 else image, turn, (1, 2))


def _turn_back(image: Tensor, turn: int) -> Tensor:
    """Undo `_turn`."""
    image = torch.rot90(image, -turn, (1, 2))
    return image.flip(2) if turn >= _TURNS // 2 else image


def _stack(change: Callable[[Tensor, int], Tensor], images: Tensor, turns: Sequence[int]) -> Tensor:
    """Change each image in another way."""
    return torch.stack([change(image, turn) for image, turn in zip(images, turns, strict=True)])


def _session(outputs: nn.Module, images: Tensor) -> Callable[[Tensor], list[Tensor]]:
    """Export a network for images of one size; return what runs it on torch's number of threads."""
    ort = import_onnxruntime()
    # The exporter tells of each of its steps.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        program = torch.onnx.export(
            outputs,
            (images.contiguous(),),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["images"],
            verbose=False,
        )
    assert program is not None
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Spinning workers steal the processor from the training step.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = program.model_proto.SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        found = session.run(None, {"images": images.contiguous().numpy()})
        return [torch.from_numpy(array) for array in found]

    return run
