"""Which blocks go back to float: sensitivity, and the ladder of plans that a format climbs.

::

    observe ─▶ all in int8 ─▶ rank_blocks ─▶ ladder ─▶ each format: build, measure, judge

Blocks are ranked by the error of the score that each makes alone, in the format-neutral model of
int8 arithmetic, on calibration images. The first rung is what the format runs fastest; the next
takes ranges from each image's activations, where the format can; every further one returns the
blocks that cost most per multiply-add. A format takes the first rung that keeps the policy in
the format's runtime.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgefiqa.convert import ExportScorer
from edgefiqa.quantize.graph import Chain
from edgefiqa.quantize.plan import PIXELS, Layer, LayerPlan, Mode, QuantizationPlan
from edgefiqa.quantize.reference import fake_quantize, score_images
from edgefiqa.quantize.statistics import Observed, choose_range
from edgefiqa.quantize.weights import round_weights

__all__ = [
    "INT8",
    "BlockSensitivity",
    "Modes",
    "blocks_of",
    "ladder",
    "make_plan",
    "ranges_per_image",
    "rank_blocks",
    "return_blocks",
]

Modes = Callable[[Layer], tuple[Mode, ...]]
INT8 = (Mode.STATIC, Mode.DYNAMIC)
"""Modes whose multiply-adds are of int8 numbers."""
_WORTH = 0.93
_RUNGS = 12


@dataclass(frozen=True, kw_only=True)
class BlockSensitivity:
    """What a block does to the score when it alone is in int8.

    Attributes:
        block: Its name.
        share: Its share of all multiply-adds.
        rmse: Root of the mean squared change of the score.
        mode: How it multiplied.
    """

    block: str
    share: float
    rmse: float
    mode: Mode = Mode.STATIC


def make_plan(
    layers: Sequence[Layer],
    observed: Mapping[str, Observed],
    chain: Chain,
    *,
    supports: Modes,
    allowed: Sequence[Mode],
    min_int8_share: float = 0.0,
) -> QuantizationPlan:
    """Give every layer the best mode that the format has and the recipe allows.

    Layers that the format runs better in float arithmetic stay there where the recipe allows it,
    unless that leaves too few multiply-adds in int8.

    Args:
        layers: In the order they run.
        observed: What they read and wrote on the calibration images.
        chain: Their neighbours.
        supports: The format's modes for a layer, the best first.
        allowed: The recipe's.
        min_int8_share: The recipe's.

    Returns:
        The plan; the layer that computes the score stays in float.
    """
    plan = _plan(layers, observed, chain, supports, allowed)
    narrower = [mode for mode in allowed if mode in INT8]
    if plan.share(*INT8) < min_int8_share and len(narrower) < len(allowed):
        plan = _plan(layers, observed, chain, supports, narrower)
    return plan


def _plan(
    layers: Sequence[Layer],
    observed: Mapping[str, Observed],
    chain: Chain,
    supports: Modes,
    allowed: Sequence[Mode],
) -> QuantizationPlan:
    plans = []
    for layer in layers:
        mode = next((support for support in supports(layer) if support in allowed), Mode.FLOAT)
        if layer.regression:
            mode = Mode.FLOAT
        flows, activation = observed[layer.name], chain[layer.name].activation
        plans.append(
            LayerPlan(
                layer=layer,
                mode=mode,
                input=PIXELS if layer.pixels else choose_range(flows.input),
                output=choose_range(flows.output, activation=activation),
                relative=flows.input.relative,
            )
        )
    return QuantizationPlan(layers=tuple(plans))


def ranges_per_image(supports: Modes) -> Modes:
    """Prefer ranges that are taken from the activations themselves, for layers that can have them.

    No range beats that of pixels, whose codes are exact: their layer stays as the format has it.

    Args:
        supports: A format's modes.
    """

    def order(layer: Layer) -> tuple[Mode, ...]:
        modes = supports(layer)
        if layer.pixels:
            return modes
        return tuple(sorted(modes, key=lambda mode: mode is not Mode.DYNAMIC))

    return order


def return_blocks(
    plan: QuantizationPlan, blocks: Sequence[str], *, supports: Modes, allowed: Sequence[Mode]
) -> QuantizationPlan:
    """Return blocks to float arithmetic.

    Args:
        plan: The plan.
        blocks: Which.
        supports: The format's modes: weights stay int8 in the file where it has that.
        allowed: The recipe's.
    """

    def in_float(planned: LayerPlan) -> LayerPlan:
        stored = Mode.WEIGHT in allowed and Mode.WEIGHT in supports(planned.layer)
        return replace(planned, mode=Mode.WEIGHT if stored else Mode.FLOAT)

    free = set(blocks)
    return QuantizationPlan(
        layers=tuple(
            in_float(planned) if planned.layer.block in free else planned for planned in plan.layers
        )
    )


def blocks_of(plan: QuantizationPlan) -> dict[str, float]:
    """Return the blocks that multiply in int8, with their share of all multiply-adds."""
    total = sum(planned.layer.macs for planned in plan.layers)
    shares: dict[str, float] = {}
    for planned in plan.layers:
        if planned.mode in INT8:
            shares[planned.layer.block] = (
                shares.get(planned.layer.block, 0) + planned.layer.macs / total
            )
    return shares


def _modes_of(plan: QuantizationPlan) -> dict[str, Mode]:
    """Return how each block in int8 multiplies: as its largest layer does."""
    by_size = sorted(plan.layers, key=lambda planned: planned.layer.macs)
    return {planned.layer.block: planned.mode for planned in by_size if planned.mode in INT8}


def rank_blocks(
    scorer: ExportScorer,
    plan: QuantizationPlan,
    observed: Mapping[str, Observed],
    images: NDArray[np.uint8],
    *,
    on_block: Callable[[str], None] = lambda _name: None,
) -> list[BlockSensitivity]:
    """Measure each block alone in int8.

    Args:
        scorer: The prepared network.
        plan: Everything in int8.
        observed: What its layers read.
        images: Calibration images, uint8 ``[n, S, S, 3]``.
        on_block: Called before each block.

    Returns:
        One entry a block, in the order they run.
    """
    wanted = score_images(scorer, images)
    shares, modes = blocks_of(plan), _modes_of(plan)
    found = []
    for block, share in shares.items():
        on_block(block)
        alone = plan.without(set(shares) - {block})
        rounded = round_weights(scorer, alone, observed)
        error = score_images(fake_quantize(rounded, alone), images) - wanted
        rmse = float(np.sqrt(np.mean(error**2)))
        found.append(BlockSensitivity(block=block, share=share, rmse=rmse, mode=modes[block]))
    return found


def ladder(
    plan: QuantizationPlan, sensitivities: Sequence[BlockSensitivity], *, min_int8_share: float
) -> list[tuple[str, ...]]:
    """List sets of blocks to return to float, the smallest first.

    Args:
        plan: The format's plan before any block is returned.
        sensitivities: Sensitivities of all blocks, in the modes that the plan gives them.
        min_int8_share: Share of multiply-adds that must stay in int8.

    Returns:
        At most thirteen rungs; each makes the predicted error at least 7 % smaller than the one
        before. Errors of blocks are taken for independent, so their squares add up.
    """
    modes = _modes_of(plan)
    blocks = [
        sensitivity
        for sensitivity in sensitivities
        if modes.get(sensitivity.block) is sensitivity.mode
    ]
    by_cost = sorted(blocks, key=lambda block: block.rmse**2 / max(block.share, 1e-6), reverse=True)
    rungs: list[tuple[str, ...]] = [()]
    returned: list[str] = []
    share, left = plan.share(*INT8), sum(block.rmse**2 for block in blocks)
    last = left
    for block in by_cost:
        if share - block.share < min_int8_share - 1e-9:
            continue
        returned.append(block.block)
        share -= block.share
        left -= block.rmse**2
        if math.sqrt(max(left, 0)) <= _WORTH * math.sqrt(last):
            rungs.append(tuple(returned))
            last = left
    if returned and rungs[-1] != tuple(returned):
        rungs.append(tuple(returned))
    return rungs[: _RUNGS + 1]
