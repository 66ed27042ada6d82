"""An exact rewrite for files that XNNPACK runs (LiteRT, ExecuTorch).

XNNPACK has depthwise kernels of up to 25 taps. A larger one runs as a convolution of C groups of
one output channel each, which wastes 15 of 16 vector lanes: EdgeNeXt's 7×7 and 9×9 kernels, 2 % of
the student's arithmetic, cost it a fifth of its time that way (``benchmarks/README.md``).
"""

import copy

import torch
from torch import Tensor, nn

from edgefiqa.convert.prepare import ExportScorer

__all__ = ["MAX_DEPTHWISE_TAPS", "SPLIT_NOTE", "SplitDepthwise", "split_large_depthwise"]

MAX_DEPTHWISE_TAPS = 25
SPLIT_NOTE = "{} depthwise convolutions of more than 25 taps → four of dilation 2 each"


class SplitDepthwise(nn.Module):
    """A k×k depthwise convolution as the sum of four with dilation 2.

    The taps are divided by the parity of their row and column. With padding p on all sides, the
    even taps of a row are a kernel of ⌈k/2⌉ taps, dilation 2 and padding p; the odd ones ⌊k/2⌋ taps
    and padding p − 1: 9×9 = 5×5 + 5×4 + 4×5 + 4×4.
    """

    def __init__(self, source: nn.Conv2d) -> None:
        super().__init__()
        padding = source.padding
        assert isinstance(padding, tuple)
        self.parts = nn.ModuleList()
        for row in (0, 1):
            for column in (0, 1):
                weight = source.weight.detach()[:, :, row::2, column::2]
                first = row == column == 0
                part = nn.Conv2d(
                    source.in_channels,
                    source.out_channels,
                    (weight.shape[2], weight.shape[3]),
                    padding=(padding[0] - row, padding[1] - column),
                    dilation=2,
                    groups=source.groups,
                    bias=first and source.bias is not None,
                )
                part.weight = nn.Parameter(weight.clone())
                if part.bias is not None and source.bias is not None:
                    part.bias = nn.Parameter(source.bias.detach().clone())
                self.parts.append(part)

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve: float ``[n, C, H, W]`` → the same shape."""
        first, *rest = [part(maps) for part in self.parts]
        total: Tensor = first
        for other in rest:
            total = total + other
        return total


def _is_large_depthwise(module: nn.Conv2d) -> bool:
    if isinstance(module.padding, str):
        return False
    (height, width), padding = module.kernel_size, module.padding
    return (
        height * width > MAX_DEPTHWISE_TAPS
        and module.groups == module.in_channels == module.out_channels
        and tuple(module.stride) == (1, 1)
        and tuple(module.dilation) == (1, 1)
        and tuple(padding) == (height // 2, width // 2)
        and module.padding_mode == "zeros"
    )


@torch.no_grad()
def split_large_depthwise(scorer: ExportScorer) -> ExportScorer:
    """Return a copy in which every depthwise convolution of more than 25 taps is split.

    Args:
        scorer: The prepared network; it is not changed.

    Returns:
        The copy; its ``folded`` says what was done.
    """
    split = copy.deepcopy(scorer)
    found = 0
    for parent in list(split.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and _is_large_depthwise(child):
                setattr(parent, name, SplitDepthwise(child))
                found += 1
    if found:
        split.folded = [*split.folded, SPLIT_NOTE.format(found)]
    return split
