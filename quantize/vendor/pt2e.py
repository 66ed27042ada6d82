"""Quantising an exported torch program after training (torchao's PT2E).

XNNPACK and Core ML document the same way: prepare with the backend's quantiser, calibrate, convert.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["quantize_program"]


def quantize_program(
    module: nn.Module, quantizer: Any, example: Tensor, calibration: Iterable[Tensor]
) -> torch.fx.GraphModule:
    """Quantise a module after training.

    Args:
        module: The network in evaluation mode, with one input.
        quantizer: A ``torchao.quantization.pt2e.quantizer.Quantizer``: it says what is quantised.
        example: An input to trace with.
        calibration: Inputs from which observers take their ranges; they are run even where every
            range is found at inference, since the observers of weights want a run, too.

    Returns:
        The program with ``quantized_decomposed`` operators and integer weights.
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    program = torch.export.export(module, (example,)).module()
    prepared = prepare_pt2e(program, quantizer)
    with torch.no_grad():
        for image in calibration:
            prepared(image)
    converted: torch.fx.GraphModule = convert_pt2e(prepared)
    return converted
