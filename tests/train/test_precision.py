"""What stays in float32 in mixed precision."""

import copy

import torch
from torch import Tensor, nn

from edgefiqa.train.precision import keep_float32


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "point": nn.Conv2d(3, 8, 1),
            "deep": nn.Conv2d(8, 8, 3, padding=1, groups=8),
            "grouped": nn.Conv2d(8, 8, 1, groups=2),
            "head": nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 1)),
        }
    )


def run(layers: nn.Module) -> dict[str, Tensor]:
    assert isinstance(layers, nn.ModuleDict)
    found: dict[str, Tensor] = {}
    value = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        for name, layer in layers.items():
            value = layer(value.mean((2, 3)) if name == "head" else value)
            found[name] = value
    return found


def kinds(found: dict[str, Tensor]) -> dict[str, torch.dtype]:
    return {name: value.dtype for name, value in found.items()}


def test_depthwise_layers_and_the_head_are_computed_in_float32() -> None:
    layers = network()
    plain = dict.fromkeys(layers._modules, torch.bfloat16)
    assert kinds(run(layers)) == plain
    undo = keep_float32(layers, torch.device("cpu"))
    # A copy, as of averaged weights, is one of its own.
    other = copy.deepcopy(layers)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.zero_()
    found = run(other)
    assert kinds(found) == plain | {"deep": torch.float32, "head": torch.float32}
    deep = network().get_submodule("deep")
    torch.testing.assert_close(found["deep"], deep(found["point"].float()), rtol=0, atol=1e-6)
    undo()
    assert kinds(run(layers)) == plain
    assert {type(layer) for layer in layers.modules()} == {
        *(nn.ModuleDict, nn.Sequential, nn.Conv2d, nn.Linear)
    }


def test_other_devices_keep_their_convolutions() -> None:
    layers = network()
    keep_float32(layers, torch.device("cuda"))
    assert type(layers.get_submodule("deep")) is nn.Conv2d
