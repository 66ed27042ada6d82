"""INT8 after training, measured, within a policy or not at all.

The names below are all that other stages may use; see ``edgefiqa.lazy`` for how they are imported.
"""

from typing import TYPE_CHECKING

from edgefiqa import lazy

if TYPE_CHECKING:
    from edgefiqa.quantize.formats import FORMATS
    from edgefiqa.quantize.images import check_disjoint, load_images, open_sources
    from edgefiqa.quantize.measured import MeasuredFile
    from edgefiqa.quantize.recipe_files import recipe_names
    from edgefiqa.quantize.report import (
        Failure,
        QuantizationRecord,
        bounded_table,
        describe_images,
        exceeds,
        short_table,
    )
    from edgefiqa.quantize.run import Options as QuantizeOptions
    from edgefiqa.quantize.run import run as quantize_export
    from edgefiqa.quantize.settings import QuantizeRecipe
    from edgefiqa.quantize.settings import load_recipe as load_quantize_recipe
    from edgefiqa.quantize.vendor.base import Scheme, VendorJob
    from edgefiqa.quantize.vendor.table import VENDORS
    from edgefiqa.quantize.worker import Job as QuantizeJob
    from edgefiqa.quantize.worker import VendorRun, measure_file, run_vendor, score_reference

__all__ = [
    "FORMATS",
    "VENDORS",
    "Failure",
    "MeasuredFile",
    "QuantizationRecord",
    "QuantizeJob",
    "QuantizeOptions",
    "QuantizeRecipe",
    "Scheme",
    "VendorJob",
    "VendorRun",
    "bounded_table",
    "check_disjoint",
    "describe_images",
    "exceeds",
    "load_images",
    "load_quantize_recipe",
    "measure_file",
    "open_sources",
    "quantize_export",
    "recipe_names",
    "run_vendor",
    "score_reference",
    "short_table",
]

# `edgefiqa.quantize(...)` is a function of the public API, see edgefiqa.api.
lazy.make_callable(__name__, "edgefiqa.api:quantize")

if not TYPE_CHECKING:  # a type checker that saw it would accept any name
    __getattr__ = lazy.attach(__name__)
