"""Running one vendor's path: checks before, the file whole or absent, one inference after."""

import importlib
import time
from typing import cast

from edgefiqa.errors import MissingExtraError, PlatformError, UsageError
from edgefiqa.files import staged_path
from edgefiqa.quantize.vendor.base import Quantize, Vendor, VendorJob, VendorNotes
from edgefiqa.quantize.vendor.calibration_images import open_calibration
from edgefiqa.quantize.vendor.table import VENDORS

__all__ = ["quantize_with_vendor"]


def quantize_with_vendor(job: VendorJob) -> VendorNotes:
    """Quantise a scorer as a vendor's documentation says.

    Call it in a separate process (``edgefiqa.isolation.call_isolated``): the tools do not tolerate
    each other.

    Returns:
        The notes. A file that its runtime refuses is written all the same, with the refusal
        in ``failure``: that is a result of the comparison.

    Raises:
        UnknownNameError: If there is no such vendor.
        UsageError: If the vendor does not offer the scheme, needs an exported file and got none,
            or the photographs are of another size.
        DataError: If the calibration photographs are missing, unreadable or none.
        MissingExtraError: If a package is not installed.
    """
    vendor = VENDORS.get(job.vendor)
    _check_job(job, vendor)
    start = time.monotonic()
    with staged_path(job.out) as stage:
        try:
            notes = _load_function(vendor)(job, stage)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in vendor.provides:
                raise
            raise MissingExtraError(package, vendor.extra) from error
    notes.seconds = round(time.monotonic() - start, 1)
    if vendor.runnable:
        notes.failure = _try_once(job)
    return notes


def _load_function(vendor: Vendor) -> Quantize:
    module, _, name = vendor.function.partition(":")
    return cast("Quantize", getattr(importlib.import_module(module), name))


def _check_job(job: VendorJob, vendor: Vendor) -> None:
    if job.scheme not in vendor.schemes:
        raise UsageError(
            f"{vendor.name} does not offer this scheme",
            value=job.scheme.value,
            allowed=", ".join(vendor.schemes),
        )
    needed = vendor.starts_from
    if needed is not None and (job.float_file is None or not job.float_file.exists()):
        raise UsageError(
            f"{vendor.name} starts from an exported file",
            value=job.float_file,
            next_step=f"edgefiqa convert {job.source} --to {needed.target} makes it "
            f"({needed.precision})",
        )
    if job.out.suffix != vendor.suffix:
        raise UsageError(
            f"{vendor.name} writes another kind of file", value=job.out, allowed=vendor.suffix
        )
    open_calibration(job.calibration, job.size)


def _try_once(job: VendorJob) -> str | None:
    """Score the first photograph; return what went wrong, or None."""
    from edgefiqa.runtimes import load

    first = open_calibration(job.calibration, job.size)[:1]
    try:
        load(job.out, threads=1).score(first)
    except PlatformError:  # there is nothing here that could run it
        return None
    except Exception as error:  # whatever a runtime says of an operator it cannot run
        return f"{type(error).__name__}: {error}"
    return None
