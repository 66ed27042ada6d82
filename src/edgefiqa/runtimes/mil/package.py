"""Opening an ``.mlpackage``: every fault of the file is found and named here."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefiqa.errors import ArtifactError, UnsupportedOp
from edgefiqa.runtimes.base import damaged
from edgefiqa.runtimes.imports import import_coremltools

__all__ = ["Package", "open_package"]

_FIRST_OPSET = 6  # the specification of iOS 15, the first with ML Programs


@dataclass(frozen=True, kw_only=True)
class Package:
    """An opened package.

    Attributes:
        path: The ``.mlpackage`` directory.
        spec: coremltools' ``Model`` message.
        function: coremltools' PyMIL function "main".
        opset: The program's opset ("CoreML7" for iOS 17).
        weights_sha256: SHA-256 of ``weight.bin``; None if all constants are in the program.
    """

    path: Path
    spec: Any
    function: Any
    opset: str
    weights_sha256: str | None


def _find_model(path: Path) -> Path:
    manifest = path / "Manifest.json"
    if not path.is_dir() or not manifest.is_file():
        raise ArtifactError(
            "not a Core ML package" if path.exists() else "no such file",
            value=path,
            allowed="an .mlpackage directory with its Manifest.json",
            next_step="copy the whole directory, not one file of it",
        )
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        entry = content["itemInfoEntries"][content["rootModelIdentifier"]]["path"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, "the MIL evaluator", error) from error
    model: Path = path / "Data" / str(entry)
    if not model.is_file():
        raise ArtifactError(
            "the package is incomplete: its model file is missing",
            value=model,
            next_step="copy the package again, with all its directories",
        )
    return model


def _read_spec(path: Path, model: Path) -> Any:
    ct = import_coremltools()
    spec = ct.proto.Model_pb2.Model()
    try:
        spec.ParseFromString(model.read_bytes())
    except Exception as error:  # protobuf's DecodeError, which differs between its backends
        raise damaged(path, "the MIL evaluator", error) from error
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise ArtifactError(
            "the package holds no ML Program but " + (f"a {kind}" if kind else "an empty model"),
            value=path,
            allowed="ML Programs (iOS 15 and later)",
            next_step="convert with convert_to='mlprogram'",
        )
    return spec


def _check_opset(path: Path, spec: Any) -> str:
    ct = import_coremltools()
    functions = spec.mlProgram.functions
    if "main" not in functions:
        raise ArtifactError(
            "the program has no function 'main'",
            value=path,
            allowed=", ".join(functions) or "nothing: the program is empty",
        )
    known = {version: name for version, name in ct._OPSET.items() if version > _FIRST_OPSET - 1}
    opset = str(functions["main"].opset)
    if opset not in known.values() or spec.specificationVersion not in known:
        raise ArtifactError(
            f"unknown opset {opset!r} (specification version {spec.specificationVersion})",
            value=path,
            allowed=", ".join(f"{name} ({version})" for version, name in known.items()),
            next_step="a newer coremltools may know it",
        )
    return opset


def _weight_files(block: Any) -> set[str]:
    found = set()
    for operation in block.operations:
        values = list(operation.attributes.values())
        values += [b.value for a in operation.inputs.values() for b in a.arguments]
        for value in values:
            if value.WhichOneof("value") == "blobFileValue":
                found.add(str(value.blobFileValue.fileName).rpartition("/")[2])
        for inner in operation.blocks:
            found |= _weight_files(inner)
    return found


def _hash_weights(path: Path, weights: Path, names: set[str]) -> str | None:
    digest = hashlib.sha256()
    for name in sorted(names):
        file = weights / name
        if not file.is_file():
            raise ArtifactError(
                f"the package is incomplete: {name} is missing",
                value=file,
                next_step="copy the package again, with all its directories",
            )
        # coremltools maps the file; an empty or headless one would be read past its end.
        if file.stat().st_size < 64:
            raise damaged(path, "the MIL evaluator", ValueError(f"{name} is truncated"))
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest() if names else None


def open_package(path: Path) -> Package:
    """Open and check a package.

    Raises:
        ArtifactError: If it is incomplete, damaged, no ML Program, or of an unknown opset.
        UnsupportedOp: If coremltools itself cannot load one of its ops.
    """
    model = _find_model(path)
    spec = _read_spec(path, model)
    opset = _check_opset(path, spec)
    block = spec.mlProgram.functions["main"].block_specializations.get(opset)
    if block is None:
        raise damaged(path, "the MIL evaluator", ValueError(f"no block for the opset {opset}"))
    weights = model.parent / "weights"
    sha256 = _hash_weights(path, weights, _weight_files(block))
    from coremltools.converters.mil.frontend.milproto import load as milproto

    try:
        program = milproto.load(spec, spec.specificationVersion, str(weights))
    except NotImplementedError as error:
        raise UnsupportedOp(str(error)) from error
    except (
        Exception
    ) as error:  # ValueError, RuntimeError, KeyError, AssertionError of coremltools' checks
        raise damaged(path, "coremltools", error) from error
    return Package(
        path=path,
        spec=spec,
        function=program.functions["main"],
        opset=opset,
        weights_sha256=sha256,
    )
