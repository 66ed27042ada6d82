"""Rewrites before quantisation are exact, and do what they are for."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models import lively
from torch import nn

from edgefiqa.convert.prepare import ExportScorer, Normalise, prepare_scorer
from edgefiqa.errors import DataError
from edgefiqa.quantize.graph import neighbours
from edgefiqa.quantize.preparation import frame_image, prepare_for_int8
from edgefiqa.quantize.statistics import observe

SIZE = 64


def images(count: int = 4, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def score(scorer: torch.nn.Module, batch: np.ndarray) -> list[float]:
    with torch.inference_mode():
        return [float(scorer(torch.from_numpy(image[None]))[0]) for image in batch]


@pytest.mark.parametrize(
    ("name", "norms", "least_smoothed"),
    [
        ("mspt", 34, 10),
        ("mobilenetv2", 52, 2),
        ("efficient-fiqa-student", 0, 0),
        ("ensemble", 34, 10),
    ],
)
def test_prepared_network_says_the_same(name: str, norms: int, least_smoothed: int) -> None:
    scorer = prepare_scorer(lively(name), SIZE)
    before = {key: value.clone() for key, value in scorer.state_dict().items()}
    prepared = prepare_for_int8(scorer, images())
    np.testing.assert_allclose(
        score(prepared.scorer, images()), score(scorer, images()), rtol=1e-4, atol=2e-4
    )
    left = [m for m in prepared.scorer.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    found = [m for m in scorer.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(found) - len(left) >= norms
    notes = " ".join(note for note in prepared.scorer.folded if "smoothed" in note)
    smoothed = re.search(r"channels of (\d+) activations", notes)
    assert int(smoothed[1] if smoothed else 0) >= least_smoothed
    for key, value in scorer.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} of the caller's scorer was changed"


class Padded(nn.Module):
    """One or two stems that pad; `beside` reads the normalised image too."""

    def __init__(self, stems: list[nn.Conv2d], *, beside: float = 0.0) -> None:
        super().__init__()
        self.stems, self.beside = nn.ModuleList(stems), beside

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        pooled = [torch.relu(stem(maps)).mean((1, 2, 3)) for stem in self.stems]
        return torch.stack(pooled).sum(0) + self.beside * maps.mean((1, 2, 3))


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    stems=st.integers(1, 2),
)
def test_framed_image_is_the_padded_normalised_one(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: int,
    bias: bool,
    stems: int,
) -> None:
    torch.manual_seed(0)
    options = {"padding": padding, "dilation": dilation, "bias": bias}
    network = Padded([nn.Conv2d(3, 4, kernel, stride, **options) for _ in range(stems)])  # type: ignore[arg-type]
    scorer = ExportScorer(network, Normalise(), []).eval()
    batch = images(size=13)
    wanted = score(scorer, batch)
    assert frame_image(scorer, torch.from_numpy(batch[:1]))
    assert all(
        module.padding == (0, 0) for module in scorer.modules() if isinstance(module, nn.Conv2d)
    )
    np.testing.assert_allclose(score(scorer, batch), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("beside", [0.5, 0.0])
def test_image_is_framed_only_where_stems_alone_read_it(beside: float) -> None:
    stems = [nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1 if beside else 0)]
    scorer = ExportScorer(Padded(stems, beside=beside), Normalise(), []).eval()
    batch = images(size=13)
    wanted = score(scorer, batch)
    assert not frame_image(scorer, torch.from_numpy(batch[:1]))
    assert score(scorer, batch) == wanted


def test_smoothing_evens_out_the_channels_of_an_activation() -> None:
    torch.manual_seed(0)
    first, second = torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 4, 1)
    first.weight.data *= torch.logspace(-2, 2, 8).view(-1, 1, 1, 1)
    network = torch.nn.Sequential(
        first, torch.nn.ReLU(), second, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(0)
    )
    scorer = ExportScorer(network, torch.nn.Identity(), []).eval()
    name = "network.2"
    before = observe(scorer, images(size=8))[name].input_peak
    prepared = prepare_for_int8(scorer, images(size=8))
    after = observe(prepared.scorer, images(size=8))[name].input_peak
    assert before is not None
    assert after is not None

    def spread(peaks: torch.Tensor) -> float:
        peak = peaks[peaks > 0]
        return float(peak.max() / peak.min())

    assert spread(after) < 0.2 * spread(before)


def test_neighbours_of_squeeze_excite() -> None:
    chain = neighbours(
        prepare_scorer(lively("mspt"), SIZE), torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8)
    )
    first = chain["network.backbone.blocks.0.0.conv_dw"]
    assert first.activation == "relu"
    assert first.batch_norm == "network.backbone.blocks.0.0.bn1"
    # The gate's layer and the one behind the product both read its channels.
    assert set(first.readers) == {
        "network.backbone.blocks.0.0.se.conv_reduce",
        "network.backbone.blocks.0.0.conv_pw",
    }
    # A residual sum reads this one: nothing may rescale it.
    assert chain["network.backbone.blocks.1.1.conv_pwl"].readers == ()


def test_a_layer_that_is_not_finite_is_named() -> None:
    scorer = prepare_scorer(lively("mspt"), SIZE)
    layer = scorer.get_submodule("network.backbone.blocks.1.0.conv_pw")
    assert isinstance(layer, torch.nn.Conv2d)
    layer.weight.data[0] = torch.nan
    with pytest.raises(DataError, match=r"blocks\.1\.0\.conv_pw, calibration image 0"):
        observe(scorer, images())
