import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images of 64²: the brighter the better, so that something can be learned."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    splits = ["train"] * 24 + ["held_back"] * 8 + ["held_out_types"] * 8
    labels = rng.random(len(splits))
    noise = rng.integers(0, 100, (len(splits), 64, 64, 3))
    images = (noise + 155 * labels[:, None, None, None]).astype(np.uint8)
    np.save(folder / "images.npy", images)
    records = [
        {"row": row, "split": split, "label": float(label)}
        for row, (split, label) in enumerate(zip(splits, labels, strict=True))
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "records.jsonl").write_text(lines, encoding="utf-8")
    meta = {"size": 64, "label": "brightness", "photos": 40}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder
