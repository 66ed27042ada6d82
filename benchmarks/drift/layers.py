"""Where inside the network a file goes wrong: each layer's result against the float one.

    SNR = 10 · log10(Σ reference² / Σ (result − reference)²)

in decibels over all images, and the cosine of the two. The first layer below a bound is named;
what follows it is its consequence.

Quantisers even out channels across layers: a channel comes out scaled, and the layer that reads it
makes up for it. So layers of quantised files are compared after the positive factor a channel that
fits best; if a channel is scaled and nothing makes up for it, the layers that read it show it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefiqa.benchmarks.drift.layer_outputs import (
    LayerOutput,
    onnx_layers,
    tflite_layers,
    torch_layers,
)
from edgefiqa.errors import ArtifactError, UsageError
from edgefiqa.files import size_of
from edgefiqa.isolation import call_isolated
from edgefiqa.manifest import Manifest, PrecisionKind, precision_kind
from edgefiqa.markdown import Table
from edgefiqa.measuring.cells import Cell, list_cells
from edgefiqa.measuring.image_source import SourceSpec, open_source
from edgefiqa.measuring.records import Executed, LayerNumerics, LayersRecord
from edgefiqa.runtimes import RUNTIMES, Format, detect_format

__all__ = [
    "USUAL_SNR_DB",
    "compare_layers",
    "first_wrong",
    "layer_outputs",
    "layers_of_export",
    "layers_table",
    "measure_layers",
]

Values = NDArray[np.float32]

USUAL_SNR_DB = {
    PrecisionKind.FLOAT32: 60.0,
    PrecisionKind.FLOAT16: 30.0,
    PrecisionKind.QUANTISED: 25.0,
}
"""By precision: below, a layer is wrong. Layers of sound 8-bit files have 26 dB or more."""

_LEAST_VALUES = 4  # of a channel, over all images
_NOTHING_HAPPENS = ("Identity", "Dropout", "DropPath")  # in evaluation


def layer_outputs(path: Path, images: NDArray[np.uint8]) -> list[LayerOutput]:
    """Run a file on images and return its intermediate results.

    Args:
        path: A model directory, an ONNX or a TFLite file.
        images: uint8 ``[n, S, S, 3]``.

    Raises:
        UsageError: The format does not show its intermediate results.
    """
    match detect_format(path):
        case Format.TORCH:
            return torch_layers(path, images)
        case Format.ONNX:
            return onnx_layers(path, images)
        case Format.TFLITE:
            return tflite_layers(path, images)
        case other:
            what = f"{other.value} files do not show their intermediate results"
            raise UsageError(what, value=path, allowed="a model directory, .onnx, .tflite")


def compare_layers(
    reference: Sequence[LayerOutput],
    layers: Sequence[LayerOutput],
    *,
    by_tensor: bool,
    free_scales: bool = False,
) -> Iterator[LayerNumerics]:
    """Compare intermediate results that belong together.

    Args:
        reference: The float ones.
        layers: The file's, in the order of execution.
        by_tensor: Match by the tensors' names (two files of one exporter), else by module.
        free_scales: Whether each channel may have a positive factor, as quantisers give it.

    Yields:
        One row a pair, in the order of ``layers``.
    """
    if by_tensor:
        known = {output.tensor: output for output in reference}
        pairs = [(known.get(layer.tensor), layer) for layer in layers]
    else:
        named = _match_modules(
            [output.module for output in layers], [output.module for output in reference]
        )
        by_module = {output.module: output for output in reference}
        pairs = [(by_module.get(named.get(layer.module, "")), layer) for layer in layers]
    for expected, layer in pairs:
        if expected is None:
            continue
        order = _order(expected.values, layer.values)
        if order is None:
            continue
        aligned = _in_order(expected.values, order, layer.values.shape)
        if free_scales:
            aligned = _rescaled(aligned, layer.values, expected.values.shape[1:], order)
        snr, cosine = _numerics(aligned, layer.values)
        yield LayerNumerics(
            name=expected.module or layer.module or layer.tensor,
            op=layer.op,
            shape=layer.values.shape[1:],
            snr_db=snr,
            cosine=cosine,
        )


def _match_modules(names: Sequence[str], known: Sequence[str]) -> Mapping[str, str]:
    """Find each module's full name; some exporters leave out modules on the way to it."""
    found = {}
    for name in dict.fromkeys(filter(None, names)):
        if name in known:
            found[name] = name
            continue
        fitting = [
            candidate
            for candidate in known
            if candidate and _is_on_the_way(name.split("."), candidate.split("."))
        ]
        fitting.sort(key=lambda candidate: candidate.count("."))
        if fitting and (len(fitting) == 1 or fitting[0].count(".") < fitting[1].count(".")):
            found[name] = fitting[0]
    return found


def _is_on_the_way(short: Sequence[str], long: Sequence[str]) -> bool:
    remaining = iter(long)
    return short[-1] == long[-1] and all(part in remaining for part in short)


def _order(expected: Values, found: Values) -> NDArray[np.int64] | None:
    """Return which value of a reference's image stands at each place of a result's image.

    The axes may have another order, and axes of one may be merged.
    """
    if expected.size != found.size or len(expected) != len(found):
        return None
    shape = _without_ones(found.shape)
    places = np.arange(expected[0].size).reshape(expected.shape[1:])
    candidates = [places]
    if 2 < expected.ndim <= 5:
        candidates = [places.transpose(order) for order in permutations(range(places.ndim))]
    fitting = [
        candidate
        for candidate in candidates
        if _without_ones((len(found), *candidate.shape)) == shape
    ]
    # No order gives this shape: axes were merged. Any order may be meant.
    flat = [array.ravel() for array in fitting or candidates]

    def cosine(order: NDArray[np.int64]) -> float:
        return _numerics(_in_order(expected, order, found.shape), found)[1] or -2.0

    return flat[0] if len(flat) == 1 else max(flat, key=cosine)


def _in_order(values: Values, order: NDArray[np.int64], shape: Sequence[int]) -> Values:
    return values.reshape(len(values), -1)[:, order].reshape(shape)


def _rescaled(
    expected: Values, found: Values, shape: Sequence[int], order: NDArray[np.int64]
) -> Values:
    """Give each channel of a reference the positive factor that fits a result best.

    Args:
        expected: The reference in the result's layout.
        found: The result.
        shape: Shape of one image of the reference in its layout; channels are its first axis (maps)
            or its last (tokens), whichever fits better.
        order: As `_order` returns it.
    """
    best = expected
    for axis in {0, len(shape) - 1} if shape else ():
        if shape[axis] == 1 or expected.size < _LEAST_VALUES * shape[axis]:
            continue  # a factor a value would fit anything
        ids = np.broadcast_to(np.arange(shape[axis]).reshape(_along(axis, len(shape))), shape)
        channel = np.tile(ids.ravel()[order], len(expected))
        x, y = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
        power, common = (np.bincount(channel, x * other) for other in (x, y))
        factors = np.divide(common, power, out=np.ones_like(power), where=power > 0)
        factors[~(factors > 0)] = 1.0
        scaled = (x * factors[channel]).reshape(expected.shape).astype(np.float32)
        if (_numerics(scaled, found)[1] or -2.0) > (_numerics(best, found)[1] or -2.0):
            best = scaled
    return best


def _along(axis: int, count: int) -> tuple[int, ...]:
    return tuple(-1 if dimension == axis else 1 for dimension in range(count))


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    return (shape[0], *(side for side in shape[1:] if side != 1))


def _numerics(expected: Values, found: Values) -> tuple[float | None, float | None]:
    x, y = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    error, signal, power = float(np.sum((y - x) ** 2)), float(x @ x), float(y @ y)
    finite = all(map(math.isfinite, (error, signal, power)))
    snr = 10 * math.log10(signal / error) if finite and error > 0 and signal > 0 else None
    cosine = None
    if finite and signal > 0 and power > 0:
        cosine = float(np.clip(x @ y / math.sqrt(signal) / math.sqrt(power), -1, 1))
    return snr, cosine


def first_wrong(layers: Sequence[LayerNumerics], min_snr_db: float) -> str | None:
    """Return the first layer whose SNR is below a bound, or that is not finite."""
    for layer in layers:
        broken = layer.snr_db is None and layer.cosine is None
        if broken or (layer.snr_db is not None and layer.snr_db < min_snr_db):
            return layer.name
    return None


def measure_layers(
    file: Path,
    reference: Path,
    images: NDArray[np.uint8],
    *,
    executed: Executed,
    reference_executed: Executed,
    min_snr_db: float,
) -> LayersRecord:
    """Compare a file's intermediate results with the float ones, each in a separate process.

    Args:
        file: An ONNX or TFLite file.
        reference: The model directory, or the float file of the same exporter.
        images: uint8 ``[n, S, S, 3]``; a few are enough.
        executed: What the file is.
        reference_executed: What the reference is.
        min_snr_db: Below, a layer is wrong: about 60 for a float file, 25 for an 8-bit one.

    Returns:
        The record.

    Raises:
        ArtifactError: The two have no layer in common.
    """
    if not len(images):
        raise UsageError("layers are compared on images", value=0, allowed="1 or more")
    expected = call_isolated(None, layer_outputs, reference, images)
    found = call_isolated(None, layer_outputs, file, images)
    by_tensor = detect_format(reference) is not Format.TORCH
    quantised = executed.precision_kind is PrecisionKind.QUANTISED
    rows = list(compare_layers(expected, found, by_tensor=by_tensor, free_scales=quantised))
    if not rows:
        next_step = "compare with the float file of the same exporter"
        raise ArtifactError("no layer has the reference's name", value=file, next_step=next_step)
    names = {row.name for row in rows}
    missing = [
        output.module for output in expected if output.module and output.op not in _NOTHING_HAPPENS
    ]
    missing = [
        name
        for name in missing
        if name not in names and not any(other.startswith(f"{name}.") for other in missing)
    ]
    return LayersRecord(
        executed=executed,
        reference=reference_executed,
        n=len(images),
        min_snr_db=min_snr_db,
        layers=tuple(rows),
        first_wrong=first_wrong(rows, min_snr_db),
        unmatched=tuple(dict.fromkeys(missing)),
    )


def layers_of_export(
    export: Path,
    file: str,
    spec: SourceSpec,
    *,
    reference: Path | None = None,
    against: str | None = None,
    min_snr_db: float | None = None,
) -> LayersRecord:
    """Compare the layers of one file of an export directory with the float ones.

    Args:
        export: A directory with a manifest.
        file: The file's name in it.
        spec: The images.
        reference: Model directory of the float weights; None takes those of the package.
        against: A float file of the export to compare with, tensor by tensor; None takes torch,
            module by module.
        min_snr_db: Below, a layer is wrong; None takes 60 for fp32, 30 for fp16, 25 for others.

    Returns:
        The record.

    Raises:
        ArtifactError: The export does not have such a file, or not the one of its manifest.
    """
    cells = list_cells(export, reference=reference)
    measured_cell = _cell_of(cells, file, export)
    other = cells[0] if against is None else _cell_of(cells, against, export)
    source = open_source(spec)
    size = int(Manifest.load(export).contract["size"])
    images = np.concatenate([source.tensor(row, size) for row in range(len(source))])
    usual = USUAL_SNR_DB[precision_kind(measured_cell.precision)]
    return measure_layers(
        measured_cell.path,
        other.path,
        images,
        executed=_executed(measured_cell),
        reference_executed=_executed(other),
        min_snr_db=usual if min_snr_db is None else min_snr_db,
    )


def _cell_of(cells: Sequence[Cell], file: str, export: Path) -> Cell:
    names = [(cell, {cell.name, *(twin.file for twin in cell.twins)}) for cell in cells]
    found = next((cell for cell, listed in names if file in listed), None)
    if found is None or found.stale:
        allowed = ", ".join(sorted({cell.name for cell in cells if not cell.stale}))
        what = found.stale if found else "the export has no such file"
        raise ArtifactError(what, value=export / file, allowed=allowed)
    return found


def _executed(cell: Cell) -> Executed:
    row = RUNTIMES.get(cell.runtime)
    package = row.provides[0].replace("_", "-")
    return Executed(
        file=cell.name,
        sha256=cell.sha256,
        size_bytes=size_of(cell.file),
        format=row.format.value,
        target=cell.target,
        precision=cell.precision,
        runtime=cell.runtime,
        runtime_version=f"{row.name} {version(package)}, intermediate results kept",
        threads=1,
        twins=cell.twins,
    )


def layers_table(record: LayersRecord) -> str:
    """Return a layers record as a Markdown table, the first wrong layer marked."""
    rows = []
    for layer in record.layers:
        wrong = " **← first wrong**" if layer.name == record.first_wrong else ""
        snr = "exact" if layer.snr_db is None else f"{layer.snr_db:.1f}"
        cosine = "–" if layer.cosine is None else f"{layer.cosine:.6f}"
        shape = "×".join(map(str, layer.shape))
        rows.append([f"{layer.name}{wrong}", layer.op, shape, snr, cosine])
    return Table(heads=["layer", "op", "shape", "SNR dB", "cosine"], rows=rows).markdown()
