"""EdgeNeXt's layers for training on CPUs: the same sums in less time.

What only scales is moved to what is small: layer scales and those of layer norms into weights, the
lengths of queries and keys into the map of attention::

    γ ⊙ (W₂ gelu(W₁ (g ⊙ n + b) + c₁) + c₂) = (γ W₂) gelu((W₁ g) n + (W₁ b + c₁)) + γ ⊙ c₂
    (q / |q|) (k / |k|)ᵀ = q kᵀ / (|q| |k|ᵀ)

The position encoding, the same for every image, is computed for one. Maps stay in NHWC memory,
where a pixel's channels are a row that a Linear layer takes as it is. Under autocast the products
over pixels are in its precision, all else (norms, shortcuts, attention's maps) in float32.
"""

from typing import Any

import torch
from timm.layers import LayerNorm2d, Mlp
from timm.models.edgenext import ConvBlock, SplitTransposeBlock
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["quick_kind"]

_norm_gradient = torch.ops.aten.native_layer_norm_backward.default
_gelu_gradient = torch.ops.aten.gelu_backward.grad_input
# From how many on attention takes its heads apart.
_MANY_CHANNELS = 64


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
        maps = self.conv_dw(x)
        shortcut = maps if self.shortcut_after_dw else x
        return _with_mlp(self, shortcut, maps.permute(0, 2, 3, 1))


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
        return _with_mlp(self, x, self._with_attention(maps))

    def _with_attention(self, maps: Tensor) -> Tensor:
        """Add what attention over channels makes of NHWC maps, scaled by γ."""
        layer = self.xca
        joint = _with_norm(self.norm_xca, maps, layer.qkv)
        found = _cross_covariance(joint.flatten(1, 2), layer.temperature).view(maps.shape)
        return _with_scaled(self, maps, found, layer.proj, self.gamma_xca, gelu=False)


def _with_mlp(block: Any, shortcut: Tensor, maps: Tensor) -> Tensor:
    """Add to an NCHW shortcut what a block's norm, MLP and layer scale make of NHWC maps."""
    hidden = _with_norm(block.norm, maps, block.mlp.fc1)
    shortcut = shortcut.permute(0, 2, 3, 1)
    found = _with_scaled(block, shortcut, hidden, block.mlp.fc2, block.gamma, gelu=True)
    return found.permute(0, 3, 1, 2)


def _with_norm(norm: nn.LayerNorm, maps: Tensor, layer: nn.Linear) -> Tensor:
    """Return what a norm and a Linear layer make of maps, all of them NHWC."""
    found: Tensor = _NormLinear.apply(
        maps, norm.weight, norm.bias, layer.weight, layer.bias, norm.eps, _precision(maps)
    )
    return found


def _with_scaled(
    block: Any, shortcut: Tensor, maps: Tensor, layer: nn.Linear, scale: Tensor, *, gelu: bool
) -> Tensor:
    """Add to a shortcut what a Linear layer and a layer scale make of maps, all of them NHWC."""
    dropped = block.training and not isinstance(block.drop_path, nn.Identity)
    start = torch.zeros_like(shortcut) if dropped else shortcut
    found: Tensor = _ScaledLinear.apply(
        start, maps, layer.weight, layer.bias, scale, gelu, _precision(maps)
    )
    return shortcut + block.drop_path(found) if dropped else found


def _precision(maps: Tensor) -> torch.dtype:
    """Return what products are computed in: autocast's precision, or that of the maps."""
    kind = maps.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else maps.dtype


def _column_sums(rows: Tensor) -> Tensor:
    """Sum a matrix' rows; as a product it takes BLAS two thirds of the time of torch's sum."""
    return torch.mv(rows.t(), rows.new_ones(len(rows)))


def _weight_gradient(gradient: Tensor, rows: Tensor) -> Tensor:
    """Return ``gradientᵀ rows``, both ``[many, few]``.

    BLAS is quickest with the narrower of the two on the left, and does not itself share out the
    many rows between threads.
    """
    if gradient.shape[1] > rows.shape[1]:
        return _weight_gradient(rows, gradient).t()
    threads = torch.get_num_threads()
    if threads == 1 or len(rows) % threads:
        return torch.mm(gradient.t(), rows)
    left, right = (part.view(threads, -1, part.shape[1]) for part in (gradient, rows))
    return torch.bmm(left.mT, right).sum(0)


class _NormLinear(torch.autograd.Function):
    """LayerNorm and a Linear layer on NHWC maps.

    The product is of the normalised maps with 1 added: ``n`` sums to 0 over a pixel's channels, so
    ``n + 1`` sums to their number and carries the bias, in the product and in its gradient, which
    cost a pass over the output each otherwise::

        W (g ⊙ n + b) + c = F (n + 1)    F = W diag(g) + β 1ᵀ / width    β = c + W (b - g)
    """

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        scale: Tensor,
        shift: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        precision: torch.dtype,
    ) -> Tensor:
        width, maps = maps.shape[-1], maps.to(scale.dtype)
        ones = maps.new_ones(width)
        lifted, mean, rstd = torch.native_layer_norm(maps, (width,), None, ones, eps)
        offset = shift - scale
        beta = torch.addmv(bias, weight, offset, beta=1 / width, alpha=1 / width)
        folded = torch.addcmul(beta[:, None], weight, scale).to(precision)
        lifted = lifted.to(precision)
        ctx.save_for_backward(maps, lifted, mean, rstd, folded, weight, scale, offset)
        found = torch.mm(lifted.view(-1, width), folded.t())
        return found.view(*maps.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, lifted, mean, rstd, folded, weight, scale, offset = ctx.saved_tensors
        width = maps.shape[-1]
        gradient = gradient.reshape(-1, len(weight))
        of_folded = _weight_gradient(gradient, lifted.view(-1, width)).to(weight.dtype)
        of_bias = of_folded.sum(1).div_(width)
        of_shift = torch.mv(weight.t(), of_bias)
        of_scale = (of_folded * weight).sum(0).sub_(of_shift)
        of_weight = of_folded.mul_(scale).addr_(of_bias, offset)
        # β's part is the same for all channels, which the norm's way back takes off.
        of_normal = torch.mm(gradient, folded).to(maps.dtype).view(maps.shape)
        input_gradient = _norm_gradient(
            of_normal, maps, (width,), mean, rstd, None, None, [True, False, False]
        )[0]
        return input_gradient, of_scale, of_shift, of_weight, of_bias, None, None


class _ScaledLinear(torch.autograd.Function):
    """A shortcut plus a Linear layer scaled by γ, on NHWC maps: ``s + γ ⊙ (W x + c)``.

    With `gelu`, x is what GELU makes of the maps.
    """

    @staticmethod
    def forward(
        ctx: Any,
        shortcut: Tensor,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor,
        gelu: bool,
        precision: torch.dtype,
    ) -> Tensor:
        maps = maps.reshape(-1, weight.shape[1])
        active = functional.gelu(maps) if gelu else maps
        active = active.to(precision)
        folded = (weight * scale[:, None]).to(precision)
        ctx.gelu, ctx.shape = gelu, shortcut.shape[:-1]
        ctx.save_for_backward(maps, active, folded, weight, bias, scale)
        found = shortcut.contiguous() + bias * scale
        rows = found.view(-1, len(weight))
        if found.dtype == precision:
            rows.addmm_(active, folded.t())
        else:
            rows.add_(torch.mm(active, folded.t()))
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, active, folded, weight, bias, scale = ctx.saved_tensors
        rows = gradient.reshape(-1, len(weight))
        of_sum = _column_sums(rows)
        rows = rows.to(active.dtype)
        of_folded = _weight_gradient(rows, active).to(weight.dtype)
        of_scale = (of_folded * weight).sum(1).addcmul_(of_sum, bias)
        of_weight = of_folded.mul_(scale[:, None])
        product = torch.mm(rows, folded)
        if ctx.gelu:
            _gelu_gradient(product, maps, grad_input=product)
        product = product.view(*ctx.shape, -1)
        return gradient, product, of_weight, of_sum * scale, of_scale, None, None


def _cross_covariance(joint: Tensor, temperature: Tensor) -> Tensor:
    """Attend over channels: ``[n, positions, 3 × channels]`` → ``[n, positions, channels]``.

    The heads' queries, keys and values lie side by side. Of few channels, products over all heads
    at once are quicker than copies that lay each head apart; of many, they are not.
    """
    count, positions, width = joint.shape
    heads = len(temperature)
    if width < 3 * _MANY_CHANNELS:
        narrow: Tensor = _CrossCovariance.apply(joint, temperature)
        return narrow
    apart = joint.view(count, positions, 3, heads, -1).permute(0, 3, 1, 2, 4)
    found = _CrossCovariance.apply(
        apart.reshape(count * heads, positions, -1), temperature.repeat(count, 1, 1)[:, None]
    )
    together: Tensor = found.view(count, heads, positions, -1).transpose(1, 2).flatten(2)
    return together


def _heads(covariance: Tensor, heads: int) -> Tensor:
    """View the heads' parts of ``[n, channels, channels]``: ``[n, heads, width, width]``."""
    count, channels, _ = covariance.shape
    width = channels // heads
    blocks = covariance.view(count, heads, width, heads, width)
    return blocks.diagonal(dim1=1, dim2=3).movedim(-1, 1)


class _CrossCovariance(torch.autograd.Function):
    """EdgeNeXt's attention over channels, from ``[n, positions, 3 × channels]``.

    The temperature is ``[heads, 1, 1]``, or ``[n, heads, 1, 1]``. What products over all channels
    say between heads is not used. Lengths are what ``functional.normalize`` divides by.
    """

    @staticmethod
    def forward(ctx: Any, joint: Tensor, temperature: Tensor) -> Tensor:
        heads, channels = temperature.shape[-3], joint.shape[-1] // 3
        both, values = joint[..., : 2 * channels], joint[..., 2 * channels :]
        ones = joint.new_ones(len(joint), 1, joint.shape[1])
        squares = torch.bmm(ones, both.square()).to(temperature.dtype)
        lengths = squares.sqrt_().clamp_min_(1e-12).squeeze(1)
        scale = lengths[:, :channels, None] * lengths[:, None, channels:]
        product = torch.bmm(both[..., :channels].mT, both[..., channels:])
        cosine = _heads(product.to(scale.dtype).div_(scale), heads)
        weights = (cosine * temperature).softmax(-1)
        attention = torch.zeros_like(product)
        _heads(attention, heads).copy_(weights)
        ctx.save_for_backward(joint, temperature, lengths, scale, cosine, weights, attention)
        return torch.bmm(values, attention.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        joint, temperature, lengths, scale, cosine, weights, attention = ctx.saved_tensors
        heads, channels = temperature.shape[-3], joint.shape[-1] // 3
        both, values = joint[..., : 2 * channels], joint[..., 2 * channels :]
        of_own = _heads(torch.bmm(gradient.mT, values).to(weights.dtype), heads)
        of_logits = weights * (of_own - (weights * of_own).sum(-1, keepdim=True))
        of_temperature = (of_logits * cosine).sum_to_size(temperature.shape)
        of_cosine = of_logits.mul_(temperature)
        # Each query is moved by its head's keys, each key by the queries ...
        pull = attention.new_zeros(len(joint), 2 * channels, 2 * channels)
        across = torch.zeros_like(scale)
        _heads(across, heads).copy_(of_cosine)
        across.div_(scale)
        pull[:, :channels, channels:] = across
        pull[:, channels:, :channels] = across.mT
        # ... and along itself by what its length makes of that.
        turned = of_cosine * cosine
        along = [turned.sum(dim).flatten(1) for dim in (3, 2)]
        pull.diagonal(dim1=1, dim2=2).copy_(torch.cat(along, -1).div_(lengths.square()).neg_())
        found = torch.cat([torch.bmm(both, pull), torch.bmm(gradient, attention)], -1)
        return found, of_temperature
