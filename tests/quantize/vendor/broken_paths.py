"""Vendor's paths that go wrong on purpose."""

from pathlib import Path

from edgefiqa.errors import UsageError
from edgefiqa.quantize.vendor import VendorJob, VendorNotes


def write_what_no_runtime_loads(job: VendorJob, path: Path) -> VendorNotes:
    path.write_bytes(b"\x00\x00\x00\x00TFL3 but nothing behind it")
    return VendorNotes(tools={"broken": "1"})


def stop_half_way(job: VendorJob, path: Path) -> VendorNotes:
    path.write_bytes(b"half a file")
    raise UsageError("stopped half way")


def need_a_package_of_somebody_else(job: VendorJob, path: Path) -> VendorNotes:
    raise ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")
