"""ExecuTorch through XNNPACK, and through the Core ML delegate where it can be lowered."""

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from edgefiqa.convert.exporters.base import Notes, count_ops, example_image, versions
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.convert.xnnpack import split_large_depthwise
from edgefiqa.manifest import FileMetadata
from edgefiqa.runtimes.base import METADATA_KEY
from edgefiqa.runtimes.imports import import_coremltools

__all__ = ["count_partitions", "export", "export_coreml_delegate"]


# Core ML tensors are never uint8: the cast of the image stays outside the delegate.
_CASTS = ("dim_order_ops._to_dim_order_copy.default", "aten._to_copy.default")


def _short_name(target: object) -> str:
    """``aten.native_layer_norm.default`` from an operator overload, for counting."""
    return str(getattr(target, "name", lambda: target)()).replace("::", ".")


def count_partitions(program: Any) -> dict[str, Any]:
    """Count what is delegated and what stays on portable kernels."""
    from executorch.devtools.backend_debug import get_delegation_info

    graph_module = program.exported_program().graph_module
    info = get_delegation_info(graph_module)
    portable: Counter[str] = Counter()
    for node in graph_module.graph.nodes:
        # Edge operators wrap ATen's; everything else here is a getitem or a call of the delegate.
        if node.op == "call_function" and hasattr(node.target, "_schema"):
            portable[_short_name(node.target)] += 1
    return {
        "delegate_partitions": info.num_delegated_subgraphs,
        "delegated_nodes": info.num_delegated_nodes,
        "portable": count_ops(portable.elements()),
    }


def _lower(scorer: ExportScorer, size: int, partitioner: Any, metadata: FileMetadata) -> Any:
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(scorer, (example_image(size),))
    return to_edge_transform_and_lower(
        exported,
        partitioner=[partitioner],
        constant_methods={METADATA_KEY: metadata.model_dump_json()},
    )


def _write(program: Any, scorer: ExportScorer, path: Path, *tools: str) -> Notes:
    structure = count_partitions(program)
    with path.open("wb") as file:
        program.to_executorch().write_to_file(file)
    return Notes(
        folded=scorer.folded, structure=structure, tools=versions("torch", "executorch", *tools)
    )


def export(scorer: ExportScorer, *, size: int, path: Path, metadata: FileMetadata) -> Notes:
    """Write a ``.pte`` file for XNNPACK; see ``Exporter``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        split = split_large_depthwise(scorer)
        return _write(_lower(split, size, XnnpackPartitioner(), metadata), split, path)


def export_coreml_delegate(
    scorer: ExportScorer, *, size: int, path: Path, metadata: FileMetadata
) -> Notes:
    """Write a ``.pte`` file for the Core ML delegate (iOS 16 and later); see ``Exporter``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct = import_coremltools()
        from executorch.backends.apple.coreml.compiler import CoreMLBackend
        from executorch.backends.apple.coreml.partition import CoreMLPartitioner

        specs = CoreMLBackend.generate_compile_specs(
            compute_precision=ct.precision(metadata.precision.replace("fp", "float")),
            minimum_deployment_target=ct.target.iOS16,
        )
        partitioner = CoreMLPartitioner(
            compile_specs=specs, skip_ops_for_coreml_delegation=list(_CASTS)
        )
        program = _lower(scorer, size, partitioner, metadata)
        return _write(program, scorer, path, "coremltools")
