"""Splitting large depthwise convolutions is exact and leaves the rest alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models import lively
from torch import nn

from edgefiqa.convert.prepare import prepare_scorer
from edgefiqa.convert.xnnpack import MAX_DEPTHWISE_TAPS, SplitDepthwise, split_large_depthwise


@settings(max_examples=30, deadline=None)
@given(
    kernel=st.tuples(st.sampled_from([3, 5, 7, 9, 11]), st.sampled_from([3, 5, 7, 9])),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    bias=st.booleans(),
)
def test_four_parts_make_the_whole(
    kernel: tuple[int, int], height: int, width: int, bias: bool
) -> None:
    torch.manual_seed(0)
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = nn.Conv2d(3, 3, kernel, padding=padding, groups=3, bias=bias).double()
    split = SplitDepthwise(conv).double()
    maps = torch.randn(2, 3, height, width, dtype=torch.float64)
    torch.testing.assert_close(split(maps), conv(maps), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "count"), [("efficient-fiqa-student", 6), ("mspt", 0), ("ensemble", 0)]
)
def test_models_say_the_same(name: str, count: int) -> None:
    scorer = prepare_scorer(lively(name), 96)
    split = split_large_depthwise(scorer)
    assert sum(isinstance(module, SplitDepthwise) for module in split.modules()) == count
    assert not any(isinstance(module, SplitDepthwise) for module in scorer.modules())
    assert len(split.folded) == len(scorer.folded) + (count > 0)
    image = torch.randint(0, 256, (1, 96, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(split(image), scorer(image), rtol=1e-5, atol=1e-6)
    for module in split.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            assert module.kernel_size[0] * module.kernel_size[1] <= MAX_DEPTHWISE_TAPS
