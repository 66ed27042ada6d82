"""Plans for tests."""

import numpy as np
import torch

from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.quantize.engine import make_plan
from edgefiqa.quantize.graph import neighbours
from edgefiqa.quantize.plan import Mode, QuantizationPlan
from edgefiqa.quantize.statistics import describe_layers, observe


def plan_of(scorer: ExportScorer, images: np.ndarray, mode: Mode) -> QuantizationPlan:
    """Give every layer but the head one mode."""
    example = torch.from_numpy(images[:1])
    return make_plan(
        describe_layers(scorer, example),
        observe(scorer, images),
        neighbours(scorer, example),
        supports=lambda _layer: (mode,),
        allowed=(mode,),
    )
