"""The Core ML exporter's graph rewriting."""

import torch
from torch import Tensor, nn

from edgefiqa.convert.exporters.coreml import remove_aliases


class Renaming(nn.Module):
    """A network with the node that coremltools does not know, in the middle and at the end."""

    def forward(self, x: Tensor) -> Tensor:
        middle: Tensor = torch.ops.aten.alias.default(x * 2)
        end: Tensor = torch.ops.aten.alias.default(middle + 1)
        return end


def test_aliases_are_removed_and_nothing_else_changes() -> None:
    program = torch.export.export(Renaming(), (torch.ones(3),))
    alias = torch.ops.aten.alias.default
    assert sum(node.target is alias for node in program.graph.nodes) == 2
    remove_aliases(program)
    assert not any(node.target is alias for node in program.graph.nodes)
    assert sum(node.op == "call_function" for node in program.graph.nodes) == 2
    x = torch.tensor([1.0, -2.0, 0.5])
    (result,) = program.graph_module(x)
    torch.testing.assert_close(result, x * 2 + 1)
