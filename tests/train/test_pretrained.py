from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgefiqa.data.batches import normalise
from edgefiqa.errors import CheckpointError
from edgefiqa.train.pretrained import build_lite0, build_lite0_features, lite0_state_dict

data = pytest.importorskip("skimage.data")


CAT, CUP = {281, 282, 285}, {967, 504}


@pytest.mark.parametrize(("name", "classes"), [("chelsea", CAT), ("coffee", CUP)])
def test_known_pictures_get_their_imagenet_class(name: str, classes: set[int]) -> None:
    image = Image.fromarray(getattr(data, name)()).resize((224, 224), Image.Resampling.BILINEAR)
    with torch.inference_mode():
        chances = build_lite0()(normalise(np.asarray(image)[None])).softmax(1)[0]
    assert int(chances.argmax()) in classes
    assert chances[sorted(classes)].sum() > 0.6


def test_features_are_those_of_the_classifier() -> None:
    """The maps at stride 32 of both builds agree: nothing was left out or misplaced."""
    image = normalise(np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), dtype=np.uint8))
    whole, features = build_lite0(), build_lite0_features().eval()
    caught: list[torch.Tensor] = []
    blocks = whole.get_submodule("blocks")
    blocks.register_forward_hook(lambda _module, _args, out: caught.append(out))
    with torch.inference_mode():
        whole(image)
        maps = features(image)
    assert [tuple(level.shape[1:]) for level in maps] == [(40, 12, 12), (112, 6, 6), (320, 3, 3)]
    torch.testing.assert_close(maps[-1], caught[0])


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="1 tensors"):
        lite0_state_dict(path)
