"""INT8 files of the default student and of an MSPT."""

from edgefiqa.benchmarks.documents.sources import Sources, check_weights, weights_text
from edgefiqa.errors import DataError
from edgefiqa.quantize import QuantizationRecord, describe_images, short_table

__all__ = ["mspt_table", "quantized_table", "recipes_table"]

_DEFAULT, _MSPT = "quantization_default_student", "quantization_mspt"
_OTHER_RECIPES = ("static_w8a8_per_channel", "dynamic_w8", "weight_only_w8")


def quantized_table(sources: Sources) -> str:
    """Return the INT8 files of the default student beside the vendors' plain paths."""
    command = "edgefiqa quantize --compare, and its RECIPE.json into benchmarks/records"
    record = _load(sources, _DEFAULT, command)
    return f"{short_table(record)}\n\n{weights_text(sources.card)}. {describe_images(record)}"


def recipes_table(sources: Sources) -> str:
    """Return the default student's files by the recipes that are not the default."""
    records = [
        _load(
            sources,
            f"{_DEFAULT}_{recipe}",
            f"edgefiqa quantize --recipe {recipe}, and its JSON into benchmarks/records",
        )
        for recipe in _OTHER_RECIPES
    ]
    text = f"{weights_text(sources.card)}. {describe_images(records[0])}"
    return f"{short_table(*records)}\n\n{text}"


def mspt_table(sources: Sources) -> str:
    """Return the INT8 files of an MSPT, whose weights are not part of the package.

    Raises:
        DataError: Its two records are of different weights.
    """
    record = sources.load(_MSPT, QuantizationRecord)
    other = sources.load(f"{_MSPT}_static_w8a8_per_channel", QuantizationRecord)
    if other.parent_sha256 != record.parent_sha256:
        raise DataError(
            "two committed records are of different weights",
            value=sources.path(_MSPT),
            next_step="edgefiqa quantize one export by both recipes",
        )
    recipe = "`train/recipes/mspt_cpu.yaml` on a labelled and two pseudo-labelled sets"
    what = f"MSPT `{record.parent_sha256[:12]}`, trained by {recipe}."
    return f"{short_table(record, other)}\n\n{what} {describe_images(record)}"


def _load(sources: Sources, name: str, command: str) -> QuantizationRecord:
    record = sources.load(name, QuantizationRecord)
    check_weights(record.parent_sha256, sources.card, sources.path(name), command)
    return record
