"""How fast training and labelling are."""

import statistics
from collections.abc import Iterator, Sequence

from edgefiqa.benchmarks.documents.sources import ROOT, Sources, check_weights, committed
from edgefiqa.benchmarks.studies.records import LabellingRecord, TrainingSpeedRecord
from edgefiqa.markdown import Table
from edgefiqa.models import ModelCard
from edgefiqa.models.card import CARD_NAME

__all__ = ["labelling_table", "training_speed_table"]

_TEACHER = ROOT / "distill" / "weights" / "teacher-plus"
_KINDS = ("float32", "bfloat16")


def training_speed_table(sources: Sources) -> str:
    """Return how fast training is beside a plain torch loop, a model after the other."""
    records = sources.load("training_speed", list[TrainingSpeedRecord])
    heads = ["model", "crop, batch", "plain loop"]
    heads += [head for kind in _KINDS for head in (f"ours, {kind}", "ratio")]
    table = Table(heads=heads, rows=[_speed_cells(record) for record in records])
    first, rounds = records[0], min(record.settings.rounds for record in records)
    settings, confidence = first.settings, next(iter(first.ratio.values())).confidence
    packages = ", ".join(f"{name} {version}" for name, version in first.packages.items())
    return (
        f"{table.markdown()}\n\nImages a second; random weights, photographs of "
        f"{settings.size}², {settings.photos} of them; {first.processor}, "
        f"{settings.threads} cores, with{'' if first.has_bfloat16 else 'out'} instructions "
        "for bfloat16. The plain loop is in float32, the better of it without and with worker "
        "processes, ours the better of one process and of one a core; "
        f"loops take turns of a few steps, {rounds} rounds or more; ratios are paired "
        f"within a round, with {confidence:.0%} intervals. {packages}."
    )


def _speed_cells(record: TrainingSpeedRecord) -> list[str]:
    rates, settings, plain = record.images_per_second, record.settings, record.best_plain
    cells = [
        settings.model,
        f"{settings.crop}², {settings.batch}",
        f"{rates[plain]:.1f} ({plain.removeprefix('plain, ')})",
    ]
    for kind in _KINDS:
        loops = [name for name in record.ratio if name.split(", ")[1] == kind]
        best = max(loops, key=lambda name: record.ratio[name].centre)
        ratio, has_processes = record.ratio[best], best.count(", ") == 2
        processes = best.split(", ")[2] if has_processes else "1 process"
        cells += [
            f"{rates[best]:.1f} ({processes})",
            f"**{ratio.centre:.2f}** ({ratio.low:.2f} to {ratio.high:.2f})",
        ]
    return cells


def labelling_table(sources: Sources) -> str:
    """Return how fast pseudo-labelling is beside one image a forward pass."""
    records, path = sources.load("labelling", list[LabellingRecord]), sources.path("labelling")
    command = "edgefiqa study labelling PHOTOS --model distill/weights/teacher-plus"
    command += f" --out {committed('labelling')}"
    check_weights(records[0].sha256, ModelCard.load(_TEACHER / CARD_NAME), path, command)
    heads = ["model", "way", "largest difference", "images/s", "ratio, paired"]
    table = Table(heads=heads, rows=list(_labelling_cells(records)))
    first = records[0]
    return (
        f"{table.markdown()}\n\n{first.images} photographs, {first.rounds} rounds in turn, "
        f"{first.workers} cores, {first.processor}."
    )


def _labelling_cells(records: Sequence[LabellingRecord]) -> Iterator[list[str]]:
    for record in records:
        for way in record.ways:
            ratios = () if way.way == "single" else way.paired_ratios
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
            yield [
                f"{record.model} {record.size}² `{record.sha256[:12]}`",
                way.way,
                f"{way.max_abs_difference:.1e}",
                f"{way.images_per_second:.1f}",
                f"{statistics.median(ratios):.2f} {spread}" if ratios else "–",
            ]
