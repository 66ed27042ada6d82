"""What a vendor's path is given and what it returns."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from edgefiqa.manifest import FileMetadata
from edgefiqa.runtimes import Format

__all__ = ["FloatFile", "Quantize", "Scheme", "Vendor", "VendorJob", "VendorNotes"]


class Scheme(StrEnum):
    """What becomes int8, and when activations get their ranges."""

    STATIC = "static_w8a8"  # from calibration photographs
    DYNAMIC = "dynamic_w8"  # at every inference
    WEIGHT_ONLY = "weight_only_w8"  # never: the arithmetic stays float


@dataclass(frozen=True, kw_only=True)
class FloatFile:
    """The exported file that a path starts from.

    Attributes:
        target: A name of ``edgefiqa.convert.targets.TARGETS``.
        precision: One of that target's precisions.
    """

    target: str
    precision: str = "fp32"


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """One vendor's path; a row of the comparison.

    Attributes:
        name: What users type and what the table prints.
        format: The kind of file it writes.
        suffix: The file's ending.
        schemes: What it offers.
        function: ``module:function`` of a ``Quantize``, imported in the process that runs it.
        provides: Top-level packages of the extra.
        extra: The extra that installs what it needs.
        starts_from: The exported file it needs; None where it starts from the weights.
        runnable: Whether ``edgefiqa.runtimes.load`` can run its files.
    """

    name: str
    format: Format
    suffix: str
    schemes: tuple[Scheme, ...]
    function: str
    provides: tuple[str, ...]
    extra: str = "quantize"
    starts_from: FloatFile | None = None
    runnable: bool = True


@dataclass(frozen=True, kw_only=True)
class VendorJob:
    """Everything one quantisation needs, by value: each runs in a separate process.

    Attributes:
        vendor: A name of ``VENDORS``.
        scheme: One of that vendor's schemes.
        source: Model directory, safetensors file or "default".
        size: Input side S in pixels.
        calibration: ``.npy`` file, uint8 ``[n, S, S, 3]``.
        out: The file to write.
        metadata: What goes into the file; its precision names the quantised file.
        float_file: The exported file where the vendor's ``starts_from`` asks for one.
    """

    vendor: str
    scheme: Scheme
    source: str
    size: int
    calibration: Path
    out: Path
    metadata: FileMetadata
    float_file: Path | None = None


@dataclass(kw_only=True)
class VendorNotes:
    """What there is to say about a quantised file.

    Attributes:
        tools: Packages involved, with versions.
        structure: Operator counts and the like, for the manifest.
        remarks: What differs from the scorer contract or from the vendor's documentation.
        failure: What its runtime said where it cannot run the file; None where it can, or where
            the runtime does not exist here.
        seconds: Time taken.
    """

    tools: dict[str, str]
    structure: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    failure: str | None = None
    seconds: float = 0.0


class Quantize(Protocol):
    """The function that a ``Vendor`` names."""

    def __call__(self, job: VendorJob, path: Path) -> VendorNotes:
        """Write one quantised scorer file.

        Args:
            job: What to do; it has been checked.
            path: Where to write, in the place of ``job.out``.
        """
        ...
