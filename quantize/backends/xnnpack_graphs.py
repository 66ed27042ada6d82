"""The XNNPACK graphs inside an ExecuTorch program: what is multiplied there, in which types.

A ``.pte`` file holds one XNNPACK graph for each partition, a separate FlatBuffer, whose constants
lie in the program's named data.
"""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgefiqa.quantize.backends.multiplies import Multiply
from edgefiqa.quantize.plan import Mode

__all__ = ["read_multiplies"]

_NOT_FINITE = re.compile(r"(: )[-+]?(?:inf|nan)\b")
_OPERATORS = {"XNNFullyConnected", "XNNConv2d", "XNNDepthwiseConv2d"}
_INPUT_MODES = {"xnn_datatype_qint8": Mode.STATIC, "xnn_datatype_qdint8": Mode.DYNAMIC}
_WEIGHT_TYPES = {"xnn_datatype_qcint8": np.int8, "xnn_datatype_fp32": np.float32}


def read_multiplies(path: Path) -> list[Multiply]:
    """Return every multiply in a program's XNNPACK graphs, in the order they run."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    file = deserialize_pte_binary(path.read_bytes())
    named = file.named_data
    stored: dict[str, bytes] = {}
    if named is not None:
        stored = {key: named.buffers[entry.buffer_index] for key, entry in named.pte_data.items()}
    found = []
    for plan in file.program.execution_plan:
        for delegate in plan.delegates:
            if delegate.id == "XnnpackBackend":
                data = file.program.backend_delegate_data[delegate.processed.index].data
                found += list(_multiplies(_decode(bytes(data)), stored))
    return found


def _decode(payload: bytes) -> dict[str, Any]:
    """Turn a delegate's data into its graph, as JSON."""
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize as xnnpack
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = xnnpack.XNNHeader.from_bytes(payload[: xnnpack.XNNHeader.EXPECTED_LENGTH])
    start = header.flatbuffer_offset
    schema = files("executorch.backends.xnnpack.serialization").joinpath("schema.fbs")
    with TemporaryDirectory() as folder:
        written = Path(folder) / "graph.bin"
        written.write_bytes(payload[start : start + header.flatbuffer_size])
        (Path(folder) / "schema.fbs").write_bytes(schema.read_bytes())
        _flatc_decompile(folder, str(Path(folder) / "schema.fbs"), str(written))
        text = (Path(folder) / "graph.json").read_text(encoding="utf-8")
    # flatc writes the bounds of what is not clamped as no JSON reader takes them.
    graph: dict[str, Any] = json.loads(_NOT_FINITE.sub(r"\1null", text))
    return graph


def _multiplies(graph: dict[str, Any], stored: dict[str, bytes]) -> Iterator[Multiply]:
    values = {}
    for value in graph["xvalues"]:
        tensor = value["xvalue_union"]
        tensor = tensor.get("tensor_value", tensor)
        values[tensor["id_out"]] = tensor
    for node in graph["xnodes"]:
        operator, fields = node["xnode_union_type"], node["xnode_union"]
        if operator not in _OPERATORS:
            continue
        weight = values[fields["filter_id"]]
        constant = graph["constant_data"][weight["constant_buffer_idx"]]
        dtype = _WEIGHT_TYPES[weight["datatype"]]
        content = stored[constant["named_key"]][: constant["size"]]
        yield Multiply(
            operator=operator,
            mode=_INPUT_MODES.get(values[fields["input1_id"]]["datatype"], Mode.FLOAT),
            weight=np.frombuffer(content, dtype),
        )
