"""The vendors' INT8 paths, as their documentation gives them, without any preparation of ours.

They are what ours is compared with, and what the dynamic and weight-only recipes use where a
vendor's path is the right one. ``quantize_with_vendor`` runs one of ``VENDORS``; each is imported,
and its tools with it, when it runs.
"""

from edgefiqa.quantize.vendor.base import Scheme, Vendor, VendorJob, VendorNotes
from edgefiqa.quantize.vendor.run import quantize_with_vendor
from edgefiqa.quantize.vendor.table import VENDORS

__all__ = ["VENDORS", "Scheme", "Vendor", "VendorJob", "VendorNotes", "quantize_with_vendor"]
