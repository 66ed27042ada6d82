"""EdgeNeXt rewritten for export: what is constant becomes a constant, what can be folded is.

- the Fourier positional encoding is computed once, for the exported input size: a table of rows and
  one of columns, whose sum it is, so that no file carries H×W×C constants;
- layer scale goes into the Linear before it, LayerNorm's affine into the Linear (or the unpadded
  2×2 convolution) behind it;
- cross-covariance attention divides the small ``C×C`` map by the norms instead of dividing both
  ``C×N`` operands, and the temperature goes with them.
"""

import copy
from typing import cast

import torch
from timm.models.edgenext import ConvBlock, CrossCovarianceAttn, EdgeNeXt, SplitTransposeBlock
from torch import Tensor, nn

__all__ = ["ExportAttention", "ExportSplitBlock", "rewrite_edgenext"]


class ExportAttention(nn.Module):
    """Cross-covariance attention on ``[1, N, C]`` with the normalisation after the product.

    ``normalize(q) @ normalize(k)ᵀ · t = (q @ kᵀ) · t / (‖q‖ ‖k‖ᵀ)``, each norm at least 1e-12.
    """

    temperature: Tensor

    def __init__(self, source: CrossCovarianceAttn) -> None:
        super().__init__()
        self.num_heads = source.num_heads
        self.qkv = source.qkv
        self.proj = source.proj
        self.register_buffer("temperature", source.temperature.detach().clone())

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend over channels: float ``[1, N, C]`` → ``[1, N, C]``."""
        _, n, c = tokens.shape
        width = c // self.num_heads
        qkv = self.qkv(tokens).reshape(n, 3, self.num_heads, width).permute(1, 2, 3, 0)
        q, k, v = qkv[0], qkv[1], qkv[2]  # each [heads, C/heads, N]
        q_norm = (q * q).sum(-1, keepdim=True).sqrt().clamp_min(1e-12)
        k_norm = (k * k).sum(-1, keepdim=True).sqrt().clamp_min(1e-12).transpose(1, 2)
        scores = (q @ k.transpose(1, 2)) * (self.temperature / (q_norm * k_norm))
        mixed = (scores.softmax(-1) @ v).permute(2, 0, 1).reshape(1, n, c)
        projected: Tensor = self.proj(mixed)
        return projected


class ExportSplitBlock(nn.Module):
    """timm's SplitTransposeBlock with a constant positional encoding and no layer scale."""

    rows: Tensor | None
    columns: Tensor | None

    def __init__(self, source: SplitTransposeBlock, height: int, width: int) -> None:
        super().__init__()
        self.convs = source.convs
        self.norm_xca = source.norm_xca
        self.xca = ExportAttention(source.xca)
        self.norm = source.norm
        self.mlp = source.mlp
        rows, columns = None, None
        if source.pos_embd is not None:
            rows, columns = _separate(source.pos_embd((1, height, width)).detach())
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def forward(self, maps: Tensor) -> Tensor:
        """Run the block: float ``[1, C, H, W]`` → ``[1, C, H, W]``."""
        _, c, h, w = maps.shape
        chunks = maps.chunk(len(self.convs) + 1, dim=1)
        outputs, running = [], chunks[0]
        for index, conv in enumerate(self.convs):
            running = conv(running + chunks[index] if index else running)
            outputs.append(running)
        mixed = torch.cat([*outputs, chunks[-1]], 1) if outputs else maps
        channels_last = mixed.permute(0, 2, 3, 1)
        if self.rows is not None and self.columns is not None:
            channels_last = channels_last + self.rows + self.columns
        tokens = channels_last.reshape(1, h * w, c)
        tokens = tokens + self.xca(self.norm_xca(tokens))
        tokens = self.mlp(self.norm(tokens))
        mixed_maps: Tensor = maps + tokens.reshape(1, h, w, c).permute(0, 3, 1, 2)
        return mixed_maps


def _separate(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """Split a positional encoding ``[1, C, H, W]`` into ``[1, H, 1, C]`` + ``[1, 1, W, C]``.

    timm's is a 1×1 convolution of sines of y beside sines of x, so ``p(y, x) = f(y) + g(x)``.
    """
    table = encoded.double().permute(0, 2, 3, 1)
    rows = table[:, :, :1]
    columns = table[:, :1] - table[:, :1, :1]
    if not torch.allclose(rows + columns, table, rtol=0, atol=1e-5):
        msg = "this positional encoding is not a sum of one of rows and one of columns"
        raise ValueError(msg)
    return rows.float().contiguous(), columns.float().contiguous()


def _scale_outputs(linear: nn.Linear, gamma: Tensor) -> None:
    """Fold layer scale: ``γ·(W x + b)``."""
    linear.weight = nn.Parameter(linear.weight * gamma[:, None])
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias * gamma)


def _plain_norm(norm: nn.LayerNorm) -> nn.LayerNorm:
    """Return the same kind of norm without its affine part."""
    plain = copy.deepcopy(norm)
    plain.elementwise_affine = False
    plain.register_parameter("weight", None)
    plain.register_parameter("bias", None)
    return plain


def _absorb_affine(norm: nn.LayerNorm, target: nn.Linear | nn.Conv2d) -> nn.LayerNorm:
    """Fold LayerNorm's weight and bias into what reads it, and return the bare norm.

    ``W (g·x + h) + b = (W·g) x + (W h + b)``. For a convolution this needs zero padding's absence:
    the shift must be there under every tap.
    """
    if isinstance(target, nn.Conv2d) and any(target.padding):
        msg = "a padded convolution cannot absorb a shift"
        raise ValueError(msg)
    weight = target.weight.double()
    gain, shift = norm.weight.double(), norm.bias.double()
    per_input = (1, -1, *([1] * (weight.dim() - 2)))
    moved = (weight * shift.view(per_input)).flatten(1).sum(1)
    bias = torch.zeros_like(moved) if target.bias is None else target.bias.double()
    target.weight = nn.Parameter((weight * gain.view(per_input)).float())
    target.bias = nn.Parameter((bias + moved).float())
    return _plain_norm(norm)


def _rewrite_conv_block(block: ConvBlock) -> None:
    if block.gamma is not None:
        _scale_outputs(block.mlp.fc2, block.gamma)
        block.gamma = None
    block.norm = _absorb_affine(block.norm, block.mlp.fc1)


def _rewrite_split_block(block: SplitTransposeBlock, height: int, width: int) -> ExportSplitBlock:
    if block.gamma_xca is not None:
        _scale_outputs(block.xca.proj, block.gamma_xca)
    if block.gamma is not None:
        _scale_outputs(block.mlp.fc2, block.gamma)
    block.norm_xca = _absorb_affine(block.norm_xca, block.xca.qkv)
    block.norm = _absorb_affine(block.norm, block.mlp.fc1)
    return ExportSplitBlock(block, height, width)


def _map_sizes(backbone: EdgeNeXt, size: int) -> list[tuple[int, int]]:
    """Return each stage's output height and width for an input of ``size``."""
    sizes: list[tuple[int, int]] = []
    hooks = [
        stage.register_forward_hook(lambda _m, _a, out: sizes.append(tuple(out.shape[2:])))
        for stage in backbone.stages
    ]
    backbone.forward_features(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return sizes


@torch.no_grad()
def rewrite_edgenext(backbone: EdgeNeXt, size: int) -> list[str]:
    """Rewrite a timm EdgeNeXt in place for one input size.

    Args:
        backbone: The network, in evaluation mode; only ``forward_features`` is used afterwards.
        size: Input side in pixels.

    Returns:
        What was done, for the manifest.
    """
    for stage, (height, width) in zip(backbone.stages, _map_sizes(backbone, size), strict=True):
        if isinstance(stage.downsample, nn.Sequential):
            norm, conv = stage.downsample
            stage.downsample[0] = _absorb_affine(
                cast("nn.LayerNorm", norm), cast("nn.Conv2d", conv)
            )
        for index, block in enumerate(stage.blocks):
            if isinstance(block, ConvBlock):
                _rewrite_conv_block(block)
            else:
                stage.blocks[index] = _rewrite_split_block(block, height, width)
    return [
        "positional encoding → constant",
        "layer scale → Linear before it",
        "LayerNorm affine → Linear or 2×2 convolution behind it",
        "attention's L2 norms and temperature → one scaling of the C×C map",
    ]
