"""Small photographs for tests, with or without a label file."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def paint_photos(
    folder: Path, seeds: Iterable[int], *, labels: bool = False, names: Iterable[str] = ()
) -> Path:
    """Paint one photograph a seed, no two near duplicates, each as bright as its label.

    Args:
        folder: Where ``00.png`` and so on go.
        seeds: One a photograph; the same seed gives the same pixels.
        labels: Write ``labels.csv`` too, with labels from 0.2 in steps of 0.1 and again.
        names: File names instead of numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given, rows = list(names), []
    for place, seed in enumerate(seeds):
        name = given[place] if given else f"{place:02d}.png"
        label = 0.2 + place % 7 / 10
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 110, (9, 8, 3), dtype=np.uint8))
        fine = np.asarray(coarse.resize((84, 96), Image.Resampling.BICUBIC), np.float64)
        Image.fromarray((fine + 140 * label).astype(np.uint8)).save(folder / name)
        rows.append(f"{name},{label:.1f}\n")
    if labels:
        (folder / "labels.csv").write_text("image,score\n" + "".join(rows), encoding="utf-8")
    return folder
