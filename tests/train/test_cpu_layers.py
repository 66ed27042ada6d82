"""Quicker layers compute what torch's layers compute."""

import copy
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.edgenext import ConvBlock, SplitTransposeBlock
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgefiqa.train.cpu_layers import fast_layers
from edgefiqa.train.scorers import build_scorer


def gradients(
    model: nn.Module, images: Tensor, *, mixed: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output, and the gradients of a sum that weighs each of its values differently."""
    model.zero_grad()
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        found = model(images)
    found = found.float()
    weights = torch.linspace(0.5, 1.5, found.numel(), dtype=found.dtype).view(found.shape)
    (found * weights).sum().backward()
    assert images.grad is not None
    named = {name: p.grad for name, p in model.named_parameters()} | {"images": images.grad}
    return found.detach(), {name: value for name, value in named.items() if value is not None}


def make_used(model: nn.Module) -> None:
    """Move scales and shifts: a new norm's, 1 and 0, would hide what they are taken for."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


def assert_alike(model: nn.Module, images: Tensor, *, tolerance: float) -> None:
    """Compare a copy with fast layers with the model, relative to each tensor's largest value."""
    make_used(model)
    quick = copy.deepcopy(model)
    expected, wanted = gradients(model, images)
    with fast_layers(quick):
        found, got = gradients(quick, images)
    assert wanted.keys() == got.keys()
    for name, value in {"output": found, **got}.items():
        other = expected if name == "output" else wanted[name]
        scale = other.abs().max().clamp_min(1e-6)
        assert (value - other).abs().max() / scale < tolerance, name


@settings(max_examples=60, deadline=None)
@given(
    rows=st.sampled_from([1, 3, 5, 7]),
    columns=st.sampled_from([3, 4, 5, 7, 9]),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(9, 17), st.integers(9, 17)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    bias=st.booleans(),
    nhwc=st.booleans(),
)
def test_any_depthwise_convolution(
    rows: int,
    columns: int,
    stride: tuple[int, int],
    size: tuple[int, int],
    padding: tuple[int, int],
    bias: bool,
    nhwc: bool,
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(24, 24, (rows, columns), stride, padding=padding, groups=24, bias=bias)
    images = torch.randn(2, 24, *size)
    if nhwc:
        images = images.contiguous(memory_format=torch.channels_last)
    assert_alike(nn.Sequential(layer), images, tolerance=1e-4)


@pytest.mark.parametrize("name", ["efficient-fiqa-student", "mspt", "ensemble", "lite0"])
def test_whole_networks(name: str) -> None:
    model = build_scorer(name, pretrained=False, seed=0, layer_scale=_scale(name)).eval()
    model.to(memory_format=torch.channels_last)
    images = torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    assert_alike(model, images.contiguous(memory_format=torch.channels_last), tolerance=2e-3)


@pytest.mark.parametrize("channels", [24, 72])
@pytest.mark.parametrize("nhwc", [False, True])
def test_blocks_in_any_memory_order(channels: int, nhwc: bool) -> None:
    torch.manual_seed(0)
    block = SplitTransposeBlock(channels, num_scales=2, num_heads=4, ls_init_value=0.1)
    maps = torch.randn(2, channels, 9, 7)
    if nhwc:
        maps = maps.contiguous(memory_format=torch.channels_last)
    assert_alike(ConvBlock(channels, kernel_size=5, ls_init_value=0.1), maps, tolerance=1e-4)
    assert_alike(block, maps, tolerance=1e-4)


@pytest.mark.parametrize("kind", [ConvBlock, partial(SplitTransposeBlock, num_scales=2)])
def test_drop_path(kind: Callable[..., nn.Module]) -> None:
    # Where training drops every path, what is left is what no path touches.
    torch.manual_seed(0)
    block = kind(24, ls_init_value=0.1, drop_path=1.0)
    maps = torch.randn(2, 24, 9, 9)
    assert_alike(block.train(), maps, tolerance=1e-4)
    assert_alike(block.eval(), maps, tolerance=1e-4)


def _scale(name: str) -> float | None:
    # With EdgeNeXt's 1e-6 the blocks would hardly count.
    return 0.1 if name == "efficient-fiqa-student" else None


def test_it_is_the_quick_layers_that_compute() -> None:
    block = ConvBlock(24, kernel_size=5, ls_init_value=0.1)
    maps = torch.randn(1, 24, 8, 8)
    with fast_layers(block):
        nodes, seen = [block(maps).grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None:
            seen.add(node.name())
            nodes += [following for following, _ in node.next_functions]
    assert {"_NormLinearBackward", "_ScaledLinearBackward", "_DepthwiseBackward"} <= seen
    assert not {"GeluBackward0", "ConvolutionBackward0"} & seen


def test_layers_are_put_back_also_after_a_failure() -> None:
    model = build_scorer("efficient-fiqa-student", pretrained=False, seed=0)
    before = [type(layer) for layer in model.modules()]
    with fast_layers(model):
        assert [type(layer) for layer in model.modules()] != before
    assert [type(layer) for layer in model.modules()] == before
    with pytest.raises(ArithmeticError), fast_layers(model):
        assert [type(layer) for layer in model.modules()] != before
        raise ArithmeticError
    assert [type(layer) for layer in model.modules()] == before


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 5, groups=2),
        nn.Conv2d(8, 16, 5, groups=8),
        nn.Conv2d(8, 8, 5, groups=8, dilation=2),
        nn.Conv2d(8, 8, 5, groups=8, padding="same"),
        nn.Conv2d(8, 8, 5, groups=8, padding=2, padding_mode="reflect"),
        nn.Conv2d(1, 1, 5),
        ConvBlock(8, ls_init_value=0).mlp,
    ],
)
def test_other_layers_are_left_alone(layer: nn.Module) -> None:
    kind = type(layer)
    with fast_layers(layer):
        assert type(layer) is kind


def assert_near_in_bfloat16(model: nn.Module, images: Tensor) -> None:
    """Compare fast layers under autocast with float32, next to what torch's layers lose."""
    make_used(model)
    quick = copy.deepcopy(model)
    with fast_layers(quick):
        of_fast_layers = gradients(quick, images, mixed=True)
    exact, fast, usual = (
        {"output": output, **named}
        for output, named in (
            gradients(model, images),
            of_fast_layers,
            gradients(copy.deepcopy(model), images, mixed=True),
        )
    )
    assert exact.keys() == fast.keys()
    errors = {
        name: [float((found[name] - value).norm() / value.norm()) for found in (fast, usual)]
        for name, value in exact.items()
    }
    for name, (of_fast, of_usual) in errors.items():
        assert of_fast < 3 * of_usual + 0.02, name
    of_fast, of_usual = (statistics.median(each) for each in zip(*errors.values(), strict=True))
    assert of_fast < 1.5 * of_usual


@pytest.mark.parametrize("channels", [24, 72])
def test_blocks_in_bfloat16(channels: int) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, channels, 18, 15).contiguous(memory_format=torch.channels_last)
    block = SplitTransposeBlock(channels, num_scales=2, num_heads=4, ls_init_value=0.1)
    assert_near_in_bfloat16(ConvBlock(channels, kernel_size=5, ls_init_value=0.1), maps)
    assert_near_in_bfloat16(block, maps)


def test_whole_network_in_bfloat16() -> None:
    name = "efficient-fiqa-student"
    model = build_scorer(name, pretrained=False, seed=0, layer_scale=_scale(name)).eval()
    torch.manual_seed(0)
    images = torch.randn(3, 3, 96, 96)
    assert_near_in_bfloat16(model.to(memory_format=torch.channels_last), images)


class _Products(TorchDispatchMode):
    """Notes the types that products of matrices are computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in {torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm_}:
            self.types.update(each.dtype for each in args)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("mixed", "kind"), [(True, torch.bfloat16), (False, torch.float32)])
def test_type_of_products(mixed: bool, kind: torch.dtype) -> None:
    block = SplitTransposeBlock(24, num_scales=2, num_heads=4, ls_init_value=0.1)
    with fast_layers(block), _Products() as products:
        gradients(block, torch.randn(1, 24, 8, 8), mixed=mixed)
    assert products.types == {kind}


def test_in_mixed_precision_depthwise_layers_stay_in_float32() -> None:
    torch.manual_seed(0)
    block = ConvBlock(8, kernel_size=5, ls_init_value=0.1)
    maps = torch.randn(1, 8, 9, 9)
    expected = block.conv_dw(maps)
    # A copy, as of averaged weights, has separate weights and keeps the fast layers.
    with fast_layers(block):
        other = copy.deepcopy(block)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
    with torch.autocast("cpu", torch.bfloat16):
        found = other.conv_dw(maps)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
