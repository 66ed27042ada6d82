"""A small network with every kind of layer, plans for it, and its int8 arithmetic in torch."""

import copy
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.manifest import FileMetadata
from edgefiqa.preprocess import InputContract
from edgefiqa.quantize.plan import LayerPlan, Mode, QuantizationPlan, Range, find_layers
from edgefiqa.quantize.statistics import describe_layers

SIZE = 32
STEM, DEPTHWISE, DENSE = "network.stem", "network.depthwise", "network.dense"
FC1, FC2, FC3, HEAD = "network.fc1", "network.fc2", "network.fc3", "network.head"


class SmallNetwork(nn.Module):
    """A patch convolution, two that pad, two Linear of equal weights, a residual and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.dense = nn.Conv2d(16, 16, 3, padding=1)
        self.relu = nn.ReLU()
        self.norm = nn.LayerNorm(16, elementwise_affine=False)
        self.fc1, self.fc2 = nn.Linear(16, 64), nn.Linear(64, 16)
        self.act = nn.GELU()
        self.fc3 = nn.Linear(64, 16)
        self.head = nn.Linear(16, 1)
        with torch.no_grad():
            self.stem.weight /= 64
            self.fc3.weight.copy_(self.fc2.weight)
            self.dense.weight[3] = 0  # a channel that is only its bias
            assert self.dense.bias is not None
            self.dense.bias[3] = 0.5

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.stem(maps)
        maps = self.relu(self.dense(self.depthwise(maps)))
        tokens = maps.permute(0, 2, 3, 1)
        wide = self.act(self.fc1(self.norm(tokens)))
        tokens = tokens + self.fc2(wide) + self.fc3(torch.relu(wide))
        scores: Tensor = self.head(tokens.mean((1, 2))).squeeze(1)
        return scores


def scorer_on_grid() -> ExportScorer:
    """The network behind the contract, its weights rounded to int8 codes an output channel."""
    scorer = ExportScorer(SmallNetwork(), nn.Identity(), []).eval()
    put_on_grid(scorer, [name for name in find_layers(scorer) if name != HEAD])
    return scorer


@torch.no_grad()
def put_on_grid(scorer: ExportScorer, names: Iterable[str]) -> None:
    """Round the weights of layers to int8 codes an output channel, in place."""
    for layer in map(find_layers(scorer).__getitem__, names):
        rows = layer.weight.flatten(1)
        scale = (rows.abs().amax(1, keepdim=True) / 127).clamp_min(1e-20)
        layer.weight.copy_((torch.round(rows / scale) * scale).view_as(layer.weight))


def images(count: int = 24) -> np.ndarray:
    """Blurred noise of varying brightness, uint8 ``[n, S, S, 3]``."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")
    bright = torch.linspace(0.4, 1.0, count).view(-1, 1, 1, 1)
    return (255 * smooth * bright).byte().permute(0, 2, 3, 1).contiguous().numpy()


def plan_for(
    scorer: ExportScorer, mode: Mode, exceptions: Mapping[str, Mode] | None = None
) -> QuantizationPlan:
    """Give all layers a mode, the head float, and the extremes on the images as ranges."""
    seen: dict[str, list[Tensor]] = {}
    hooks = [
        layer.register_forward_hook(
            lambda _, given, output, name=name: seen.setdefault(name, []).extend([given[0], output])
        )
        for name, layer in find_layers(scorer).items()
    ]
    with torch.inference_mode():
        for image in images():
            scorer(torch.from_numpy(image[None]))
    for hook in hooks:
        hook.remove()
    modes = {HEAD: Mode.FLOAT} | dict(exceptions or {})
    layers = describe_layers(scorer, torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8))
    return QuantizationPlan(
        layers=tuple(
            LayerPlan(
                layer=layer,
                mode=modes.get(layer.name, mode),
                input=_extremes(seen[layer.name][::2]),
                output=_extremes(seen[layer.name][1::2]),
            )
            for layer in layers
        )
    )


def _extremes(tensors: list[Tensor]) -> Range:
    low, high = min(float(t.min()) for t in tensors), max(float(t.max()) for t in tensors)
    return Range(low=min(low, 0.0), high=max(high, 0.0))


def rounded(values: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Round to 256 levels from low to high, zero among them."""
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    step = (high - low) / 255
    zero = torch.round(-low / step)
    return (torch.clamp(torch.round(values / step) + zero, 0, 255) - zero) * step


def round_rows(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Round in the range of the values themselves, along some axes."""
    low = values.amin(axes, keepdim=True).clamp_max(0)
    high = values.amax(axes, keepdim=True).clamp_min(0)
    return rounded(values, low, high)


def fake_quantized(
    scorer: ExportScorer,
    plan: QuantizationPlan,
    *,
    outputs: tuple[str, ...],
    linear_axes: tuple[int, ...] = (-1,),
) -> np.ndarray:
    """Score the images with the arithmetic of a plan, float32 ``[n]``.

    Args:
        scorer: With its weights on the grid.
        plan: The plan.
        outputs: Static layers whose outputs are rounded too; ``DENSE`` behind its ReLU.
        linear_axes: What a dynamic Linear takes the range of.
    """
    changed = copy.deepcopy(scorer)
    for layer in plan.layers:
        name, module = layer.layer.name, changed.get_submodule(layer.layer.name)
        if layer.mode is Mode.STATIC:
            limits = Range(low=0, high=255) if name == STEM else layer.input
            assert limits is not None
            module.register_forward_pre_hook(
                lambda _, given, r=limits: rounded(given[0], r.low, r.high)
            )
            if name in outputs:
                assert layer.output is not None
                low, high = (0.0 if name == DENSE else layer.output.low), layer.output.high
                target = changed.get_submodule("network.relu") if name == DENSE else module
                target.register_forward_hook(
                    lambda _, __, out, low=low, high=high: rounded(out, low, high)
                )
        elif layer.mode is Mode.DYNAMIC:
            axes = (1, 2, 3) if isinstance(module, nn.Conv2d) else linear_axes
            module.register_forward_pre_hook(lambda _, given, axes=axes: round_rows(given[0], axes))
    return float_scores(changed)


def float_scores(scorer: ExportScorer) -> np.ndarray:
    """Score the images, float32 ``[n]``."""
    with torch.inference_mode():
        return np.array([float(scorer(torch.from_numpy(image[None]))[0]) for image in images()])


def rms(values: np.ndarray) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def metadata(precision: str = "int8") -> FileMetadata:
    """Metadata of a file of the small network."""
    return FileMetadata(
        name="small",
        model="small",
        version="0" * 12,
        licence="Apache-2.0",
        score_range=(0.0, 1.0),
        parent_sha256="0" * 64,
        precision=precision,
        contract=InputContract(size=SIZE).to_dict(),
    )
