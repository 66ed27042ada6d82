"""Where a change of score comes from: stage by stage, layer by layer."""

from typing import Literal

from pydantic import Field, FiniteFloat

from edgefiqa.measuring.records.base import Executed, Record, SchemaVersion
from edgefiqa.measuring.records.drift import Figure
from edgefiqa.measuring.records.scores import ImagesIdentity

__all__ = ["LayerNumerics", "LayersRecord", "WaterfallRecord", "WaterfallStep"]


class WaterfallStep(Record):
    """What one stage changed.

    Attributes:
        stage: Name of the stage.
        before: What gave the scores before it.
        after: What gave the scores after it.
        n: Images that all stages scored.
        mean_error: Mean |after − before|.
        p99_error: 99th percentile of the same.
        bias: Mean of after − before; these add up over the stages.
        srcc: Rank correlation of after with before.
        delta_srcc: Change of the SRCC to the labels; None without labels.
    """

    stage: str
    before: Executed
    after: Executed
    n: int = Field(ge=1)
    mean_error: FiniteFloat = Field(ge=0)
    p99_error: FiniteFloat = Field(ge=0)
    bias: FiniteFloat
    srcc: Figure
    delta_srcc: Figure


class WaterfallRecord(Record):
    """A score change, stage by stage.

    Attributes:
        name: Name to display: where the chain ends.
        images: On which images.
        steps: In order.
        total: From the first scores to the last.
        not_measured: Stages without scores, so that their change is in the next one's.
    """

    measurement: Literal["waterfall"] = "waterfall"
    schema_version: SchemaVersion = 1
    name: str
    images: ImagesIdentity
    steps: tuple[WaterfallStep, ...] = Field(min_length=1)
    total: WaterfallStep
    not_measured: tuple[str, ...] = ()


class LayerNumerics(Record):
    """One intermediate result against the float one.

    Attributes:
        name: The module, or the tensor where no module is known.
        op: The operator that made it.
        shape: In the file's layout.
        snr_db: 10·log10(signal power / error power); None where there is no error, or no signal.
        cosine: Cosine similarity of the two, flattened; None where one is all zeros.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    snr_db: FiniteFloat | None
    cosine: FiniteFloat | None


class LayersRecord(Record):
    """A file's intermediate results against the float ones, in the order of execution.

    Attributes:
        executed: What ran.
        reference: What it is compared with.
        n: Images.
        min_snr_db: Below, a layer is wrong.
        layers: Those that both have.
        first_wrong: Name of the first layer below the bound; None if none is.
        unmatched: Modules of the reference without a counterpart: fused or folded away.
    """

    measurement: Literal["layers"] = "layers"
    schema_version: SchemaVersion = 1
    executed: Executed
    reference: Executed
    n: int = Field(ge=1)
    min_snr_db: FiniteFloat
    layers: tuple[LayerNumerics, ...] = Field(min_length=1)
    first_wrong: str | None
    unmatched: tuple[str, ...] = ()
