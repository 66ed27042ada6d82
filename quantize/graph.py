"""What stands around each layer: read from the exported graph, whatever the network's modules are.

``torch.export`` gives a graph of ATen operators whose parameters keep their dotted names. From it
come the batch norms that can be folded, the activation behind each layer, and the pairs of layers
whose channels may be rescaled against each other.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.fx import Node

__all__ = ["Chain", "Neighbour", "neighbours"]

_LAYERS = {
    torch.ops.aten.conv2d.default,
    torch.ops.aten.conv2d.padding,
    torch.ops.aten.linear.default,
}
_ACTIVATIONS = {
    torch.ops.aten.relu.default: "relu",
    torch.ops.aten.relu_.default: "relu",
    torch.ops.aten.hardtanh.default: "hardtanh",
    torch.ops.aten.hardtanh_.default: "hardtanh",
    torch.ops.aten.hardswish.default: "hardswish",
    torch.ops.aten.hardswish_.default: "hardswish",
    torch.ops.aten.hardsigmoid.default: "hardsigmoid",
    torch.ops.aten.hardsigmoid_.default: "hardsigmoid",
    torch.ops.aten.gelu.default: "gelu",
    torch.ops.aten.silu.default: "silu",
    torch.ops.aten.sigmoid.default: "sigmoid",
}
_HOMOGENEOUS = {
    torch.ops.aten.mean.dim,
    torch.ops.aten.adaptive_avg_pool2d.default,
    torch.ops.aten.dropout.default,
}
_PRODUCT = torch.ops.aten.mul.Tensor
_BATCH_NORM = torch.ops.aten.batch_norm.default


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """What reads one layer's output, if a single operator does.

    Attributes:
        layer: The layer's dotted name.
        batch_norm: Dotted name of the batch norm that reads it.
        activation: The activation that reads it, the batch norm apart.
        readers: The layers that alone read what the activation gives, channel for channel; means
            over the map and products with a gate, as in squeeze-excite, may stand between. Empty
            where anything else reads it too.
    """

    layer: str
    batch_norm: str | None = None
    activation: str | None = None
    readers: tuple[str, ...] = ()


Chain = dict[str, Neighbour]


def neighbours(scorer: nn.Module, image: torch.Tensor) -> Chain:
    """Find the neighbours of every convolution and Linear, in the order they run.

    Args:
        scorer: The network, in evaluation mode.
        image: An example of its input.

    Returns:
        Layer name → its neighbours.
    """
    program = torch.export.export(scorer, (image,))
    names = dict(program.graph_signature.inputs_to_parameters)
    names |= dict(program.graph_signature.inputs_to_buffers)
    found = {}
    for node in program.graph.nodes:
        if node.target in _LAYERS:
            parameter = _parameter(node, names)
            if parameter is not None:
                found[parameter] = _describe(parameter, node, names)
    return found


def _parameter(node: Node, names: dict[str, str]) -> str | None:
    """Return the dotted module name of a layer or batch norm, from its weight or bias."""
    for argument in node.args[1:5]:
        if isinstance(argument, Node) and argument.name in names:
            return names[argument.name].rpartition(".")[0]
    return None


def _only_user(node: Node) -> Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _describe(text: str, node: Node, names: dict[str, str]) -> Neighbour:
    batch_norm, activation, last = None, None, node
    following = _only_user(last)
    if following is not None and following.target is _BATCH_NORM:
        batch_norm, last = _parameter(following, names), following
        following = _only_user(last)
    if following is not None and following.target in _ACTIVATIONS:
        activation, last = _ACTIVATIONS[following.target], following
    return Neighbour(
        layer=text,
        batch_norm=batch_norm,
        activation=activation,
        readers=_readers(last, names),
    )


def _readers(start: Node, names: dict[str, str]) -> tuple[str, ...]:
    """Return the layers that a per-channel scale of a tensor would reach, if nothing else does."""
    scaled, waiting, found = {start}, [start], []
    while waiting:
        for user in waiting.pop().users:
            if user.target in _LAYERS:
                name = _parameter(user, names)
                if name is None or user.args[0] not in scaled:
                    return ()
                found.append(name)
            elif user.target in _HOMOGENEOUS:
                scaled.add(user)
                waiting.append(user)
            elif user.target is _PRODUCT:
                if user in scaled:  # both factors would be scaled
                    return ()
                scaled.add(user)
                waiting.append(user)
            else:
                return ()
    return tuple(dict.fromkeys(found))
