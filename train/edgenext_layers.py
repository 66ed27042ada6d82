"""EdgeNeXt's layers for training in float32 on CPUs: the same sums in less time.

What only scales is moved to what is small: layer scales and those of layer norms into weights, the
lengths of queries and keys into the map of attention::

    γ ⊙ (W₂ gelu(W₁ (g ⊙ n + b) + c₁) + c₂) = (γ W₂) gelu((W₁ g) n + (W₁ b + c₁)) + γ ⊙ c₂
    (q / |q|) (k / |k|)ᵀ = q kᵀ / (|q| |k|ᵀ)

The position encoding, the same for every image, is computed for one. Maps stay in NHWC memory,
where a pixel's channels are a row that a Linear layer takes as it is.
"""

from typing import Any

import torch
from timm.layers import LayerNorm2d, Mlp
from timm.models.edgenext import ConvBlock, SplitTransposeBlock
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["quick_kind"]


def quick_kind(layer: nn.Module) -> type[nn.Module] | None:
    """Return the class that computes what a layer computes, and quicker; None if there is none.

    Args:
        layer: Any layer; one of EdgeNeXt's may have its class replaced by what is returned.
    """
    if type(layer) is ConvBlock and _is_plain(layer):
        return _ConvBlock
    if type(layer) is SplitTransposeBlock and _is_plain(layer):
        return _SplitBlock
    return _Downsample if _is_downsample(layer) else None


def _is_plain(block: Any) -> bool:
    """Tell whether a block has all that is moved into weights, and nothing in between."""
    split = isinstance(block, SplitTransposeBlock)
    scales = [block.gamma, block.gamma_xca] if split else [block.gamma]
    norms = [block.norm, block.norm_xca] if split else [block.norm]
    drops = [layer for layer in block.modules() if isinstance(layer, nn.Dropout)]
    mlp = block.mlp
    return (
        all(isinstance(scale, Tensor) for scale in scales)
        and all(isinstance(n, nn.LayerNorm) and isinstance(n.bias, Tensor) for n in norms)
        and not any(drop.p for drop in drops)
        and isinstance(mlp, Mlp)
        and isinstance(mlp.norm, nn.Identity)
        and isinstance(mlp.act, nn.GELU)
        and mlp.act.approximate == "none"
        and (not split or block.xca.qkv.bias is not None)
    )


def _is_downsample(layer: nn.Module) -> bool:
    if type(layer) is not nn.Sequential or len(layer) != 2:
        return False
    norm, convolution = layer
    return (
        isinstance(norm, LayerNorm2d)
        and isinstance(norm.bias, Tensor)
        and type(convolution) is nn.Conv2d
        and convolution.bias is not None
        and convolution.groups == 1
        # What is padded with would be normalised as well.
        and convolution.padding == (0, 0)
    )


class _ConvBlock(ConvBlock):  # type: ignore[misc]  # timm's layers are untyped
    """EdgeNeXt's convolution block; see the module's docstring."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.conv_dw(x)
        if self.shortcut_after_dw:
            shortcut = x
        result: Tensor = shortcut + self.drop_path(_bottleneck(self, x.permute(0, 2, 3, 1)))
        return result


class _Downsample(nn.Sequential):
    """A norm over channels and a convolution that takes over its scale and shift."""

    def forward(self, images: Tensor) -> Tensor:
        norm, layer = self
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(layer, nn.Conv2d) and layer.bias is not None
        maps = functional.layer_norm(
            images.permute(0, 2, 3, 1), norm.normalized_shape, eps=norm.eps
        )
        weight = layer.weight * norm.weight[:, None, None]
        bias = torch.addmv(layer.bias, layer.weight.sum((2, 3)), norm.bias)
        return functional.conv2d(
            maps.permute(0, 3, 1, 2), weight, bias, layer.stride, dilation=layer.dilation
        )


class _SplitBlock(SplitTransposeBlock):  # type: ignore[misc]
    """EdgeNeXt's block with cross-covariance attention; see the module's docstring."""

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(len(self.convs) + 1, 1)
        done = [self.convs[0](parts[0])]
        for convolution, part in zip(self.convs[1:], parts[1:-1], strict=True):
            done.append(convolution(done[-1] + part))
        maps = torch.cat([part.permute(0, 2, 3, 1) for part in (*done, parts[-1])], -1)
        if self.pos_embd is not None:
            maps = maps + self.pos_embd((1, *maps.shape[1:3])).permute(0, 2, 3, 1)
        maps = maps + self.drop_path(self._attention(maps))
        result: Tensor = x + self.drop_path(_bottleneck(self, maps))
        return result

    def _attention(self, maps: Tensor) -> Tensor:
        """Attend over channels: NHWC maps → the same, scaled by γ."""
        norm, layer, scale = self.norm_xca, self.xca, self.gamma_xca
        normal = functional.layer_norm(maps, maps.shape[-1:], eps=norm.eps)
        joint: Tensor = _Linear.apply(normal, *_after_norm(layer.qkv, norm))
        found = _CrossCovariance.apply(joint.flatten(1, 2), layer.temperature).view(maps.shape)
        result: Tensor = _Linear.apply(
            found, layer.proj.weight * scale[:, None], layer.proj.bias * scale
        )
        return result


def _after_norm(layer: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Return the weight and bias that a Linear layer needs after a norm that only normalises."""
    return layer.weight * norm.weight, torch.addmv(layer.bias, layer.weight, norm.bias)


def _bottleneck(block: Any, maps: Tensor) -> Tensor:
    """Return what a block's norm, MLP and layer scale make of NHWC maps, as NCHW."""
    norm, last, scale = block.norm, block.mlp.fc2, block.gamma
    result: Tensor = _Bottleneck.apply(
        maps,
        *_after_norm(block.mlp.fc1, norm),
        last.weight * scale[:, None],
        last.bias * scale,
        norm.eps,
    )
    return result.permute(0, 3, 1, 2)


def _linear(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return a Linear layer's output; oneDNN adds the bias as it goes, BLAS writes it out first.

    ``conv2d`` itself would leave oneDNN for copies of the maps where one thread has few images.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return functional.linear(maps, weight, bias)
    found: Tensor = torch.ops.aten.mkldnn_convolution(
        maps.permute(0, 3, 1, 2), weight[:, :, None, None], bias, (0, 0), (1, 1), (1, 1), 1
    )
    return found.permute(0, 2, 3, 1)


def _column_sums(rows: Tensor) -> Tensor:
    """Sum a matrix' rows; as a product it takes BLAS two thirds of the time of torch's sum."""
    return rows.t() @ rows.new_ones(len(rows))


def _weight_gradient(gradient: Tensor, rows: Tensor) -> Tensor:
    """Return ``gradientᵀ rows``, both ``[many, few]``.

    BLAS is quickest with the narrower of the two on the left, and does not itself share out the
    many rows between threads.
    """
    if gradient.shape[1] > rows.shape[1]:
        return _weight_gradient(rows, gradient).t()
    threads = torch.get_num_threads()
    if threads == 1 or len(rows) % threads:
        return gradient.t() @ rows
    left, right = (own.view(threads, -1, own.shape[1]) for own in (gradient, rows))
    return (left.mT @ right).sum(0)


class _Linear(torch.autograd.Function):
    """A Linear layer on NHWC maps."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return _linear(maps, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        maps, weight = ctx.saved_tensors
        gradient = gradient.reshape(-1, len(weight))
        of_weight = _weight_gradient(gradient, maps.reshape(-1, maps.shape[-1]))
        return (gradient @ weight).view(maps.shape), of_weight, _column_sums(gradient)


class _Bottleneck(torch.autograd.Function):
    """LayerNorm without scale and shift, Linear, GELU, Linear on NHWC maps.

    The first Linear sees ``n + 1`` and takes ``W 1`` off its bias: a pixel's ``n`` sum to 0, so
    those rows sum to their width, and the weight's gradient holds the bias', which costs a pass
    over the widest maps otherwise.
    """

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        first: Tensor,
        first_bias: Tensor,
        second: Tensor,
        second_bias: Tensor,
        eps: float,
    ) -> Tensor:
        ones = maps.new_ones(maps.shape[-1])
        lifted, mean, rstd = torch.native_layer_norm(maps, maps.shape[-1:], None, ones, eps)
        hidden = _linear(lifted, first, first_bias - first.sum(1))
        active = functional.gelu(hidden)
        ctx.save_for_backward(maps, lifted, mean, rstd, hidden, active, first, second)
        return _linear(active, second, second_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, lifted, mean, rstd, hidden, active, first, second = ctx.saved_tensors
        width, wide = maps.shape[-1], len(first)
        gradient = gradient.reshape(-1, width)
        of_second = _weight_gradient(gradient, active.reshape(-1, wide))
        of_hidden = gradient @ second
        torch.ops.aten.gelu_backward.grad_input(
            of_hidden, hidden.reshape(-1, wide), grad_input=of_hidden
        )
        of_lifted = _weight_gradient(of_hidden, lifted.reshape(-1, width))
        of_first_bias = of_lifted.sum(1) / width
        of_first = of_lifted - of_first_bias[:, None]
        of_normal = (of_hidden @ first).view(maps.shape)
        own = torch.ops.aten.native_layer_norm_backward(
            of_normal, maps, maps.shape[-1:], mean, rstd, None, None, [True, False, False]
        )[0]
        return own, of_first, of_first_bias, of_second, _column_sums(gradient), None


def _heads(covariance: Tensor, heads: int) -> Tensor:
    """View the heads' own parts of ``[n, channels, channels]``: ``[n, width, width, heads]``."""
    count, channels, _ = covariance.shape
    width = channels // heads
    return covariance.view(count, heads, width, heads, width).diagonal(dim1=1, dim2=3)


class _CrossCovariance(torch.autograd.Function):
    """EdgeNeXt's attention over channels, from ``[n, positions, 3 × channels]``.

    The heads' queries, keys and values lie side by side; products over all channels need no copies
    of them, and what they say between heads is not used. Lengths are what
    ``functional.normalize`` divides by.
    """

    @staticmethod
    def forward(ctx: Any, joint: Tensor, temperature: Tensor) -> Tensor:
        heads, channels = len(temperature), joint.shape[-1] // 3
        both, values = joint[..., : 2 * channels], joint[..., 2 * channels :]
        ones = joint.new_ones(len(joint), 1, joint.shape[1])
        lengths = (ones @ both.square()).sqrt_().clamp_min_(1e-12).squeeze(1)
        scale = lengths[:, :channels, None] * lengths[:, None, channels:]
        product = both[..., :channels].mT @ both[..., channels:]
        cosine = _heads(product.div_(scale), heads)
        own = (cosine * temperature.view(heads)).softmax(2)
        attention = torch.zeros_like(scale)
        _heads(attention, heads).copy_(own)
        ctx.save_for_backward(joint, temperature, lengths, scale, cosine, own, attention)
        return values @ attention.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        joint, temperature, lengths, scale, cosine, own, attention = ctx.saved_tensors
        heads, channels = len(temperature), joint.shape[-1] // 3
        both, values = joint[..., : 2 * channels], joint[..., 2 * channels :]
        of_own = _heads(gradient.mT @ values, heads)
        of_logits = own * (of_own - (own * of_own).sum(2, keepdim=True))
        of_temperature = (of_logits * cosine).sum((0, 1, 2)).view_as(temperature)
        of_cosine = of_logits.mul_(temperature.view(heads))
        # Each query is moved by its head's keys, each key by the queries ...
        pull = attention.new_zeros(len(joint), 2 * channels, 2 * channels)
        across = torch.zeros_like(scale)
        _heads(across, heads).copy_(of_cosine)
        across.div_(scale)
        pull[:, :channels, channels:] = across
        pull[:, channels:, :channels] = across.mT
        # ... and along itself by what its length makes of that.
        turned = of_cosine * cosine
        along = [turned.sum(dim).transpose(1, 2).flatten(1) for dim in (2, 1)]
        pull.diagonal(dim1=1, dim2=2).copy_(torch.cat(along, -1).div_(lengths.square()).neg_())
        return torch.cat([both @ pull, gradient @ attention], -1), of_temperature
