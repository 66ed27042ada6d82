"""Statistics of the calibration images, against what the layers themselves compute."""

import numpy as np
import pytest
import torch
from torch import nn

from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.quantize.statistics import observe

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 9, 11, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 3, stride=2, padding=1),
        nn.Conv2d(3, 6, (2, 3), padding=(1, 0), dilation=2),
        nn.Conv2d(3, 6, 3, padding=1, groups=3),
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(3, 4, (3, 5), padding="same"),
        nn.Conv2d(3, 4, 3, padding="valid"),
        nn.Linear(3, 7),
    ],
    ids=["strided", "dilated", "depthwise", "pointwise", "same", "valid", "linear"],
)
def test_covariance_is_of_what_an_output_is_computed_from(layer: nn.Conv2d | nn.Linear) -> None:
    rows = isinstance(layer, nn.Linear)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = layer(pixels.permute(0, 2, 3, 1) if rows else pixels)
            return outputs.mean().view(1)

    observed = observe(ExportScorer(Network(), nn.Identity(), []).eval(), IMAGES)["network.layer"]
    pixels = torch.from_numpy(IMAGES).double()
    with torch.inference_mode():
        outputs = layer.double()(pixels if rows else pixels.permute(0, 3, 1, 2))
    by_channel = outputs.reshape(-1, outputs.shape[-1]) if rows else outputs.transpose(0, 1)
    variance = (by_channel.var(0) if rows else by_channel.flatten(1).var(1)).numpy()

    covariance = observed.covariance
    assert covariance is not None
    weight = layer.weight.detach().flatten(1)
    by_row = covariance.repeat_interleave(len(weight) // len(covariance), 0)
    implied = torch.einsum("oi,oij,oj->o", weight, by_row, weight).numpy()
    # Of 2,560 positions drawn among about as many: the draw alone moves a variance by some percent.
    np.testing.assert_allclose(implied, variance, rtol=0.15)
