"""Mixed precision on CPUs: when it pays, and what stays in float32."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgefiqa.train.precision import float32_head, has_bfloat16


def run(layers: nn.ModuleDict) -> dict[str, torch.dtype]:
    """Return what each layer's output is made of, under autocast."""
    kinds, value = {}, torch.rand(2, 3, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        for name, layer in layers.items():
            value = layer(value.mean((2, 3)) if name == "head" else value)
            kinds[name] = value.dtype
    return kinds


def test_the_head_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 1))
    layers = nn.ModuleDict({"point": nn.Conv2d(3, 8, 1), "head": head})
    plain = dict.fromkeys(("point", "head"), torch.bfloat16)
    assert run(layers) == plain
    with float32_head(layers):
        assert run(layers) == plain | {"head": torch.float32}
        features: Tensor = torch.rand(2, 8)
        expected = head[1](head[0](features))
        with torch.autocast("cpu", torch.bfloat16):
            found = head(features)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert run(layers) == plain


def test_has_bfloat16_is_what_the_system_says() -> None:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        pytest.skip("Linux only")
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", info.read_text(), re.MULTILINE)
    assert flags is not None
    known = {"avx512_bf16", "amx_bf16", "bf16"} & set(flags[1].split())
    assert has_bfloat16() == bool(known)
