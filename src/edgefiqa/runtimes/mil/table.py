"""Which function evaluates which op; the one place a family is added."""

from edgefiqa.runtimes.mil.call import Kernel
from edgefiqa.runtimes.mil.ops import (
    activation,
    conv,
    elementwise,
    gather,
    linear,
    normalization,
    pool,
    quantization,
    reduction,
    resize,
    scatter,
    shape,
    tensor,
)

__all__ = ["BOUNDED", "FRESH", "MOVES", "OPS"]

_FAMILIES = (
    activation,
    conv,
    elementwise,
    gather,
    linear,
    normalization,
    pool,
    quantization,
    reduction,
    resize,
    scatter,
    shape,
    tensor,
)

OPS: dict[str, Kernel] = {name: op for family in _FAMILIES for name, op in family.OPS.items()}
"""Every op the evaluator knows; it covers each op's forms in iOS 15 to iOS 18."""

_PICKS = (
    *("abs", "ceil", "clip", "floor", "max_pool", "maximum", "minimum", "reduce_max", "reduce_min"),
    *("relu", "relu6", "round", "select", "sign", "threshold", "thresholded_relu"),
)

MOVES: frozenset[str] = frozenset((*gather.OPS, *shape.OPS, *_PICKS))
"""Ops that move or pick values: float16 holds their results as it held their inputs."""

BOUNDED: frozenset[str] = frozenset(
    ("avg_pool", "gelu", "reduce_mean", "sigmoid", "sigmoid_hard", "silu", "softmax", "tanh")
)
"""Ops whose results are never larger than one or the largest of their inputs: not measured."""

FRESH: frozenset[str] = frozenset(
    (
        *("add", "avg_pool", "batch_norm", "conv", "exp", "gelu", "layer_norm", "linear", "matmul"),
        *("mul", "pow", "real_div", "reduce_mean", "reduce_sum", "rsqrt", "sigmoid"),
        *("sigmoid_hard", "silu", "softmax", "sqrt", "square", "sub", "tanh"),
    )
)
"""Ops whose results never lie in the memory of an input: the common ones, so that they need not be
looked at each time. The others are."""
