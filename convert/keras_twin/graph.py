"""A Keras graph under construction: convolutions with torch's padding, norms, activations.

Every tensor is NHWC with a batch of one. Every layer is named after the torch module whose weights
it carries, so that two builds give the same graph and a difference can be named.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgefiqa.convert.keras_twin.backend import load_keras, load_tensorflow
from edgefiqa.convert.xnnpack import MAX_DEPTHWISE_TAPS
from edgefiqa.errors import UsageError

__all__ = ["Graph", "KerasTensor", "Watched", "Weights", "centred", "fold_batch_norm", "weights_of"]

KerasTensor = Any  # keras.KerasTensor: keras has no types that mypy could follow
Activation = nn.Module | None


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A convolution's weight ``[out, in/groups, kh, kw]`` and bias ``[out]``, float64."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def scaled(self, factor: float | NDArray[np.float64]) -> "Weights":
        """Return weights for inputs that were multiplied by ``1/factor`` (per channel or all)."""
        per_input = np.reshape(factor, (1, -1, 1, 1))
        return Weights(weight=self.weight * per_input, bias=self.bias)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A tensor of the twin that equals a torch module's output.

    Attributes:
        tensor: The Keras tensor.
        channels_first: Whether torch's output is NCHW and must be turned to be compared.
    """

    tensor: KerasTensor
    channels_first: bool


def _float64(tensor: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().double().numpy()
    return array


def weights_of(module: nn.Conv2d | nn.Linear) -> Weights:
    """Read a convolution's weights, or a Linear's as those of a 1×1 convolution."""
    weight = _float64(module.weight)
    bias = np.zeros(len(weight)) if module.bias is None else _float64(module.bias)
    return Weights(weight=weight.reshape(*weight.shape[:2], *weight.shape[2:] or (1, 1)), bias=bias)


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Weights:
    """Fold a BatchNorm into the convolution before it: ``γ/√(σ²+ε) · (W x + b − μ) + β``."""
    weights = weights_of(conv)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    gain = _float64(norm.weight) / np.sqrt(_float64(norm.running_var) + norm.eps)
    return Weights(
        weight=weights.weight * gain[:, None, None, None],
        bias=(weights.bias - _float64(norm.running_mean)) * gain + _float64(norm.bias),
    )


def centred(weights: Weights) -> Weights:
    """Take the mean over input channels out of the weights: ``W x`` becomes ``W (x − mean(x))``."""
    mean = weights.weight.mean(axis=1, keepdims=True)
    return Weights(weight=weights.weight - mean, bias=weights.bias)


def _pair(value: object, what: str) -> tuple[int, int]:
    match value:
        case int():
            return value, value
        case (int() as first, int() as second):
            return first, second
    raise UsageError(f"the Keras twin cannot build this {what}", value=value, allowed="integers")


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return what TensorFlow's SAME adds before and after one axis."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Graph:
    """Adds layers and remembers which torch module's output each tensor is.

    Attributes:
        watched: Tensors to compare, by torch module name, in the order of execution.
    """

    def __init__(self) -> None:
        self.keras = load_keras()
        self.tf = load_tensorflow()
        self.watched: dict[str, Watched] = {}
        self._paddings: Counter[str] = Counter()  # how often each tensor was padded

    def watch(self, name: str, tensor: KerasTensor, *, channels_first: bool = True) -> KerasTensor:
        """Note that a tensor equals the output of the torch module ``name``."""
        self.watched[name] = Watched(tensor=tensor, channels_first=channels_first)
        return tensor

    def apply(self, name: str, function: Callable[..., Any], inputs: object) -> KerasTensor:
        """Add a TensorFlow function of one tensor, or of a list of tensors."""
        return self.keras.layers.Lambda(function, name=name)(inputs)

    def pointwise(
        self, x: KerasTensor, name: str, weights: Weights, activation: Activation = None
    ) -> KerasTensor:
        """Add a 1×1 convolution, which is also how a Linear over the last axis runs fastest."""
        return self._convolve(x, name, weights, "valid", 1, activation)

    def conv(  # noqa: D417 - the other arguments are those of pointwise
        self, x: KerasTensor, name: str, conv: nn.Conv2d, weights: Weights, activation: Activation
    ) -> KerasTensor:
        """Add a convolution, padded like torch's.

        Args:
            conv: Gives stride, padding and groups.
            weights: Its weights, with what was folded into them.

        Raises:
            UsageError: If it is grouped other than depthwise, or dilated.
        """
        depthwise = conv.groups > 1
        if depthwise and not conv.groups == conv.in_channels == conv.out_channels:
            raise UsageError("the Keras twin knows no grouped convolution", value=name)
        if _pair(conv.dilation, "dilation") != (1, 1):
            raise UsageError("the Keras twin knows no dilated convolution", value=name)
        kernel, stride = _pair(conv.kernel_size, "kernel size"), _pair(conv.stride, "stride")
        x, padding = self._padded(x, name, kernel, stride, _pair(conv.padding, "padding"))
        if not depthwise:
            return self._convolve(x, name, weights, padding, stride[0], activation)
        if kernel[0] * kernel[1] <= MAX_DEPTHWISE_TAPS or padding != "same" or stride != (1, 1):
            return self._depthwise(x, name, weights, padding, stride[0], activation=activation)
        return self._split_depthwise(x, name, weights, activation)

    def max_pool(self, x: KerasTensor, name: str, pool: nn.MaxPool2d) -> KerasTensor:
        """Add a max pool over values that are not negative (zeros stand for torch's −∞)."""
        kernel, stride = _pair(pool.kernel_size, "kernel size"), _pair(pool.stride, "stride")
        x, padding = self._padded(x, name, kernel, stride, _pair(pool.padding, "padding"))
        return self.keras.layers.MaxPooling2D(kernel, stride, padding, name=name)(x)

    def activate(self, x: KerasTensor, name: str, activation: Activation) -> KerasTensor:
        """Add an activation, in the form that TFLite knows as one operation.

        Raises:
            UsageError: If it is not one of the known ones.
        """
        nn_ = self.tf.nn
        match activation:
            case None | nn.Identity():
                return x
            case nn.ReLU6():  # before ReLU and Hardtanh, its relatives
                function = nn_.relu6
            case nn.ReLU():
                function = nn_.relu
            case nn.Hardswish():
                function = _hard_swish
            case nn.GELU(approximate="none"):
                function = _gelu
            case _:
                raise UsageError(
                    "the Keras twin does not know this activation",
                    value=f"{activation} in {name}",
                    allowed="ReLU, ReLU6, Hardswish, exact GELU",
                    next_step="--to tflite converts every model",
                )
        return self.apply(f"{name}.act", function, x)

    def scale_to_unit_variance(self, x: KerasTensor, name: str, eps: float) -> KerasTensor:
        """Divide each pixel by its standard deviation over channels, without subtracting its mean.

        This is LayerNorm for a reader whose weights are ``centred``: one pass over the map less.
        """
        ops = self.keras.ops
        mean = ops.mean(x, -1, keepdims=True)
        squares = self.apply(f"{name}.squares", _squared_difference, [x, mean])
        return x * ops.rsqrt(ops.mean(squares, -1, keepdims=True) + eps)

    def layer_norm(self, x: KerasTensor, name: str, norm: nn.LayerNorm) -> KerasTensor:
        """Add a LayerNorm over channels, with its affine part."""
        ops = self.keras.ops
        shifted = x - ops.mean(x, -1, keepdims=True)
        scale = ops.rsqrt(ops.mean(ops.square(shifted), -1, keepdims=True) + norm.eps)
        gain, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
        return self.watch(name, shifted * scale * gain + shift)

    def mean_pool(self, x: KerasTensor) -> KerasTensor:
        """Average over height and width: ``[1, H, W, C]`` → ``[1, 1, 1, C]``."""
        return self.keras.ops.mean(x, (1, 2), keepdims=True)

    def _padded(
        self,
        x: KerasTensor,
        name: str,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
    ) -> tuple[KerasTensor, str]:
        """Pad as torch does: by SAME where that is the same, else by zeros in the graph.

        With stride 2 SAME adds its odd row at the end, torch at both ends. XNNPACK takes an
        explicit padding into the convolution unless something else reads it too. TensorFlow would
        merge two equal paddings of one tensor (the ensemble's stems), so the second one has a row
        less at the end, which the stride never reaches.
        """
        if not any(padding):
            return x, "valid"
        axes = list(zip(x.shape[1:3], kernel, stride, padding, strict=True))
        if all(_same_padding(n, k, s) == (p, p) for n, k, s, p in axes):
            return x, "same"
        spare = [(n + 2 * p - k) % s for n, k, s, p in axes]
        trim = self._paddings[x.name] % (min(spare) + 1)
        self._paddings[x.name] += 1
        amounts = tuple((p, p - min(trim, p)) for p in padding)
        return self.keras.layers.ZeroPadding2D(amounts, name=f"{name}.pad")(x), "valid"

    def _convolve(
        self,
        x: KerasTensor,
        name: str,
        weights: Weights,
        padding: str,
        stride: int,
        activation: Activation,
    ) -> KerasTensor:
        layer = self.keras.layers.Conv2D(
            len(weights.bias), weights.weight.shape[2:], stride, padding, name=name
        )
        out = layer(x)
        layer.set_weights([weights.weight.transpose(2, 3, 1, 0), weights.bias])
        return self.activate(out, name, activation)

    def _depthwise(
        self,
        x: KerasTensor,
        name: str,
        weights: Weights,
        padding: str,
        stride: int,
        *,
        dilation: int = 1,
        activation: Activation = None,
    ) -> KerasTensor:
        layer = self.keras.layers.DepthwiseConv2D(
            weights.weight.shape[2:], stride, padding, dilation_rate=dilation, name=name
        )
        out = layer(x)
        layer.set_weights([weights.weight.transpose(2, 3, 0, 1), weights.bias])
        return self.activate(out, name, activation)

    def _split_depthwise(
        self, x: KerasTensor, name: str, weights: Weights, activation: Activation
    ) -> KerasTensor:
        """Add a large depthwise convolution as the sum of four with dilation 2.

        The taps at even and at odd distances from the centre, per axis, are each a smaller kernel
        that is symmetric about the same centre: 9×9 = 5×5 + 5×4 + 4×5 + 4×4.
        """
        size = weights.weight.shape[2]
        centre = size // 2
        taps = [np.arange(centre % 2, size, 2), np.arange(1 - centre % 2, size, 2)]
        total = None
        for index, (rows, columns) in enumerate((r, c) for r in taps for c in taps):
            piece = Weights(
                weight=weights.weight[:, :, rows][..., columns],
                bias=weights.bias if index == 0 else np.zeros_like(weights.bias),
            )
            out = self._depthwise(x, f"{name}.taps{index}", piece, "same", 1, dilation=2)
            total = out if total is None else total + out
        return self.activate(total, name, activation)


def _hard_swish(x: Any) -> Any:
    """``x · relu6(x + 3) / 6``, the form that the converter turns into HARD_SWISH."""
    return x * load_tensorflow().nn.relu6(x + 3.0) * (1.0 / 6.0)


def _gelu(x: Any) -> Any:
    """The exact GELU, with erf; the converter turns it into GELU."""
    return load_tensorflow().nn.gelu(x, approximate=False)


def _squared_difference(pair: Sequence[Any]) -> Any:
    return load_tensorflow().math.squared_difference(*pair)
