"""Intermediate results of torch modules, ONNX files and TFLite files, by module name.

Exporters keep the modules' names in different places: ONNX in the names of the parameters, LiteRT
Torch in the scope of each tensor (class and attribute of every module on the way), the Keras twin
in the layers' names, quantisers in the names of the weights' codes. What is kept is read here;
everything else goes by the tensor's name.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LayerOutput", "dequantised", "onnx_layers", "tflite_layers", "torch_layers"]

Images = NDArray[np.uint8]
# ``a.b.weight``, and what folding and quantisers make of it: ``weight_bias``, ``weight.codes``.
_PARAMETER = re.compile(r"(.+)\.(weight|bias|mean|factor)(?:[._]\w+)*$")
_TORCH_SCOPE = re.compile(r"(?:\w+\.)+_?[A-Z][A-Za-z0-9]*(?:_(\w+))?$")
_KERAS_SCOPE = re.compile(r"((?:\w+\.)+\w+?)_\d+$")


@dataclass(frozen=True, kw_only=True)
class LayerOutput:
    """One intermediate result.

    Attributes:
        tensor: Its name in the file; of the module for torch.
        module: The module that made it, as far as the file tells; else empty.
        op: The operator.
        values: float32, one row an image, in the file's layout.
    """

    tensor: str
    module: str
    op: str
    values: NDArray[np.float32]


def torch_layers(model: Path, images: Images) -> list[LayerOutput]:
    """Run the network as rewritten for export and keep what each module returns.

    Batch norms are folded into their convolutions, as every exporter does: what a convolution
    returns is then what it returns in the files.

    Args:
        model: Model directory.
        images: uint8 ``[n, S, S, 3]``.

    Returns:
        One output a module, in the order of execution.
    """
    import torch

    from edgefiqa.convert import prepare_scorer
    from edgefiqa.models import load_model

    network, _ = load_model(model)
    scorer = prepare_scorer(network, images.shape[1])
    _fold_batch_norms(scorer, images[:1])
    found: dict[str, list[NDArray[np.float32]]] = {}
    kinds: dict[str, str] = {}

    def keep(name: str) -> Callable[[Any, Any, Any], None]:
        def hook(module: Any, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                kinds[name] = type(module).__name__
                found.setdefault(name, []).append(output.detach().float().numpy().copy())

        return hook

    for name, module in scorer.named_modules():
        if name:
            module.register_forward_hook(keep(name))
    with torch.inference_mode():
        for image in images:
            scorer(torch.from_numpy(image[None].copy()))
    return [
        LayerOutput(tensor=name, module=name, op=kinds[name], values=np.concatenate(parts))
        for name, parts in found.items()
        if len(parts) == len(images)  # a module that is called twice has no one output
    ]


def _fold_batch_norms(scorer: Any, image: Images) -> None:
    """Fold each batch norm into the convolution whose result it reads, in place.

    The norm stays where it is and does nothing any more, but for the activation of timm's.

    Args:
        scorer: The network as rewritten for export.
        image: uint8 ``[1, S, S, 3]``.
    """
    import torch
    from torch import nn
    from torch.nn.utils import fuse_conv_bn_weights

    made: list[tuple[Any, Any]] = []
    pairs: list[tuple[Any, Any]] = []

    def keep(module: Any, _inputs: Any, output: Any) -> None:
        made.append((module, output))

    def find(norm: Any, inputs: Any) -> None:
        pairs.extend((conv, norm) for conv, output in made if output is inputs[0])

    hooks = []
    for module in scorer.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(keep))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(find))
    with torch.inference_mode():
        scorer(torch.from_numpy(image.copy()))
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for conv, norm in pairs:
            statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)


def onnx_layers(path: Path, images: Images) -> list[LayerOutput]:
    """Run an ONNX file in ONNX Runtime with every intermediate float tensor as an output.

    Args:
        path: The file; its weights may be quantised (QDQ).
        images: uint8 ``[n, S, S, 3]``.

    Returns:
        One output a tensor, in the order of the graph.
    """
    import onnx
    import onnxruntime as ort

    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    float_ = onnx.TensorProto.FLOAT
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*model.graph.value_info, *model.graph.output)
    }
    modules = _onnx_modules(model)
    ops = {name: node.op_type for node in model.graph.node for name in node.output}
    wanted = [name for name in ops if types.get(name) == float_]
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, float_, None)
        for name in wanted
        if name not in known
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    session = ort.InferenceSession(model.SerializeToString(), options, providers=providers)
    entry = session.get_inputs()[0].name
    runs = [session.run(wanted, {entry: image[None]}) for image in images]
    return [
        LayerOutput(
            tensor=name,
            module=modules.get(name, ""),
            op=ops[name],
            values=np.stack([run[place].astype(np.float32) for run in runs]),
        )
        for place, name in enumerate(wanted)
    ]


def _onnx_modules(model: Any) -> dict[str, str]:
    """Tell each tensor's module by the parameter of the node that made it.

    The last such node counts: a linear layer is a MatMul with the weight and an Add with the bias.
    """
    through: dict[str, str] = {}  # a quantised weight passes (De)QuantizeLinear on its way
    outputs: dict[str, str] = {}
    for node in model.graph.node:
        names = [through.get(name, name) for name in node.input]
        modules = [match[1] for name in names if (match := _PARAMETER.match(name))]
        if not modules:
            continue
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast", "Transpose"):
            through[node.output[0]] = next(name for name in names if _PARAMETER.match(name))
        else:
            outputs[modules[0]] = node.output[0]
    return {tensor: module for module, tensor in outputs.items()}


def tflite_layers(path: Path, images: Images) -> list[LayerOutput]:
    """Run a TFLite file in LiteRT with all tensors kept, without the XNNPACK delegate.

    A delegate does not give its intermediate results; the built-in kernels compute the same.

    Args:
        path: The file; quantised tensors are dequantised.
        images: uint8 ``[n, S, S, 3]``.

    Returns:
        One output an operator, in the order of execution.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that keeping all tensors takes memory
        interpreter = Interpreter(
            model_path=str(path),
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    operators = [
        detail
        for detail in interpreter._get_ops_details()
        if _is_real(details.get(detail["outputs"][0]))
    ]
    ops = [(operator["op_name"], int(operator["outputs"][0])) for operator in operators]
    kept: dict[int, list[NDArray[np.float32]]] = {index: [] for _, index in ops}
    for image in images:
        interpreter.set_tensor(entry, image[None])
        interpreter.invoke()
        for index, values in kept.items():
            values.append(dequantised(interpreter.get_tensor(index), details[index]))
    modules = _last_of_modules([_tflite_scope(operator, details) for operator in operators])
    return [
        LayerOutput(
            tensor=details[index]["name"], module=module, op=op, values=np.stack(kept[index])
        )
        for (op, index), module in zip(ops, modules, strict=True)
    ]


def _last_of_modules(scopes: Sequence[str]) -> list[str]:
    """Keep each module's name at its last operator alone, whose output is the module's.

    Where a module ends with one of its parts, the output is known by the part's name.
    """
    last: dict[str, int] = {}
    for place, scope in enumerate(scopes):
        parts = scope.split(".")
        last.update({".".join(parts[: end + 1]): place for end in range(len(parts))})
    return [scope if last[scope] == place else "" for place, scope in enumerate(scopes)]


def _is_real(detail: dict[str, Any] | None) -> bool:
    """Tell whether a tensor holds numbers, not shapes or indices."""
    if detail is None:
        return False
    is_float = np.issubdtype(detail["dtype"], np.floating)
    return bool(is_float or len(detail["quantization_parameters"]["scales"]))


def dequantised(values: NDArray[Any], detail: dict[str, Any]) -> NDArray[np.float32]:
    """Return a TFLite tensor's real values: scale · (stored − zero point).

    Args:
        values: As stored.
        detail: Detail of ``Interpreter.get_tensor_details``.
    """
    quantization = detail["quantization_parameters"]
    if not len(quantization["scales"]):
        return values.astype(np.float32)
    shape = [1] * values.ndim
    if len(quantization["scales"]) > 1:
        shape[quantization["quantized_dimension"]] = -1
    scales, zeros = (
        np.reshape(quantization[name], shape or (1,)) for name in ("scales", "zero_points")
    )
    return np.asarray((values.astype(np.float32) - zeros) * scales, np.float32).reshape(
        values.shape
    )


def _tflite_scope(operator: dict[str, Any], details: dict[int, dict[str, Any]]) -> str:
    """Tell an operator's module by its result's name, else by its parameters' names."""
    names = [details[int(index)]["name"] for index in operator["inputs"] if index in details]
    found = [match[1] for name in names if (match := _PARAMETER.match(name))]
    return _tflite_module(details[int(operator["outputs"][0])]["name"]) or "".join(found[:1])


def _tflite_module(tensor: str) -> str:
    """Read the module from a tensor's name; empty where it tells none.

    LiteRT Torch: ``pkg.Scorer/pkg.Sequential_stem/pkg.Conv2d_0;2`` is ``stem.0``. Keras twin:
    ``twin_1/stem.0_1/BiasAdd`` is ``stem.0``. Of fused modules the outermost is named first; a
    batch norm that was folded is passed over for its convolution.
    """
    scopes = [scope for scope in tensor.split(";") if scope and not scope.isdigit()] or [""]
    unfolded = [scope for scope in scopes if ".BatchNorm" not in scope.rpartition("/")[2]]
    parts = (unfolded or scopes)[0].split("/")
    classes = [_TORCH_SCOPE.match(part) for part in parts]
    if all(classes):
        # The first is the scorer itself, which has no attribute's name.
        return ".".join(match[1] for match in classes[1:] if match and match[1])
    keras = [match[1] for part in parts if (match := _KERAS_SCOPE.match(part))]
    return keras[-1] if keras else ""
