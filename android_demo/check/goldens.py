"""Write a goldens folder without a model, for the Kotlin tests: ``goldens.py DIR``.

The photographs and tensors are those of every export; the score is the tensor's mean.
"""

import sys
from pathlib import Path

from PIL import Image

from edgefiqa.convert.photos import golden_photos
from edgefiqa.files import sha256_of
from edgefiqa.goldens import GoldenCase, Goldens, tensor_sha256
from edgefiqa.preprocess import load_tensor

SIZE = 224


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for photo in golden_photos():
        tensor = load_tensor(photo.content, SIZE, name=photo.name)
        file, picture = f"{photo.name}{photo.suffix}", f"{photo.name}.tensor.png"
        (folder / file).write_bytes(photo.content)
        Image.fromarray(tensor[0]).save(folder / picture)
        cases.append(
            GoldenCase(
                name=photo.name,
                photo=file,
                photo_sha256=sha256_of(folder / file),
                tensor=picture,
                tensor_sha256=tensor_sha256(tensor),
                tensor_tolerance=photo.tensor_tolerance,
                score=float(tensor.mean()) / 255,
            )
        )
    Goldens(
        size=SIZE,
        parent_sha256="0" * 64,
        reference="mean of the tensor",
        tolerances={"fp32": 1e-4},
        cases=cases,
    ).save(folder)


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
