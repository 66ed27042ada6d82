"""The export-time rewrites are exact."""

import pytest
import torch
from tests.models import lively

from edgefiqa.convert.prepare import prepare_scorer
from edgefiqa.models.normalisation import normalise


@pytest.mark.parametrize(
    ("name", "size", "folds"),
    [
        ("efficient-fiqa-student", 96, 6),
        ("efficient-fiqa-student", 100, 6),
        ("efficient-fiqa-student", 336, 6),
        ("efficient-fiqa-teacher", 96, 2),
        ("mspt", 96, 0),
        ("ensemble", 96, 0),
        ("mobilenetv2", 96, 0),
        ("timm:vit_tiny_patch16_224", 96, 2),
        ("timm:resnet18", 96, 1),
    ],
)
def test_prepared_scorer_equals_the_network(name: str, size: int, folds: int) -> None:
    model = lively(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    scorer = prepare_scorer(model, size)
    images = torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model(normalise(images))
        found = scorer(images)
    assert found.shape == (1,)
    assert len(scorer.folded) == folds
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} of the caller's model was changed"


def test_student_has_no_affine_norm_before_linear_and_no_layer_scale() -> None:
    scorer = prepare_scorer(lively("efficient-fiqa-student"), 96)
    norms = [m for m in scorer.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 19
    # only the stem's norm feeds padded convolutions and a shortcut, where nothing can absorb it
    assert sum(norm.elementwise_affine for norm in norms) == 1
    assert not any("gamma" in key for key, _ in scorer.named_parameters())
