"""What a measurement is: the typed, versioned records of one run.

::

    images.json      ImagesRecord     which images, their labels, and what slices are made of
    scores/*.json    ScoreRecord      one file in one runtime: a score for each image
    failures/*.json  FailureRecord    one file in one runtime that gave no scores, and why
    drift/*.json     DriftRecord      one file against the float reference, with intervals
    latency/*.json   LatencyRecord    one file on one device: every sample, in order
    waterfall/*.json WaterfallRecord  a score change, stage by stage
    layers/*.json    LayersRecord     one file's intermediate results against the float ones

Everything measured names the sha256 of the file that was executed; without it a record of a metric
cannot be constructed. Unknown keys, other schema versions and numbers that are not finite are
refused, in memory and on disk. `edgefiqa.benchmarks.run_directory` reads and writes them.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

__all__ = [
    "AnyRecord",
    "DriftRecord",
    "Executed",
    "FailureRecord",
    "Figure",
    "FileName",
    "HostState",
    "ImageFacts",
    "ImageScore",
    "ImagesIdentity",
    "ImagesRecord",
    "LatencyRecord",
    "LayerNumerics",
    "LayersRecord",
    "Phase",
    "Record",
    "RunRules",
    "SchemaVersion",
    "ScoreRecord",
    "Sha256",
    "SliceFigures",
    "Twin",
    "WaterfallRecord",
    "WaterfallStep",
    "WorstImage",
]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SchemaVersion: TypeAlias = Literal[1]
FileName = Annotated[str, StringConstraints(min_length=1)]


class Record(BaseModel):
    """Base of all records: frozen, unknown keys rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Twin(Record):
    """Another file with the very same bytes, so measured by the same run.

    Attributes:
        file: Its name.
        target: The ``--to`` name that made it.
        precision: The precision its manifest gives it.
    """

    file: FileName
    target: str
    precision: str


class Executed(Record):
    """What ran.

    Attributes:
        file: Name in its export directory; of the weights for the reference.
        sha256: Of the bytes that were executed, hashed by the process that executed them.
        size_bytes: Size of the file or package.
        format: A value of ``edgefiqa.runtimes.Format``.
        target: The ``--to`` name that made it.
        precision: "fp32", "fp16", or a quantisation recipe's name.
        runtime: A name of ``edgefiqa.runtimes.RUNTIMES``.
        runtime_version: The library with its version.
        threads: Threads of one inference.
        twins: Files of the same hash; scored once, this record is theirs too.
    """

    file: FileName
    sha256: Sha256
    size_bytes: int = Field(ge=0)
    format: str
    target: str
    precision: str
    runtime: str
    runtime_version: str
    threads: int = Field(ge=1)
    twins: tuple[Twin, ...] = ()

    @property
    def cell(self) -> str:
        """The name of its row: the file and what ran it."""
        return f"{self.file} in {self.runtime}"

    @property
    def names(self) -> list[tuple[str, str]]:
        """File and precision of each file that this run stands for."""
        return [(self.file, self.precision), *((twin.file, twin.precision) for twin in self.twins)]


class HostState(Record):
    """The state of the machine when something was measured; None where it cannot be read.

    Attributes:
        recorded_at: ISO 8601, UTC.
        processor: Its name, as the system gives it.
        architecture: "x86_64", "aarch64", …
        cores: Processors that this process may use.
        features: Instruction sets that matter to inference.
        system: Operating system with its version.
        python: Version.
        packages: Versions of the packages that took part.
        governor: Of the first processor.
        load_1min: Load average.
        temperature_c: Of the hottest readable zone.
    """

    recorded_at: str
    processor: str
    architecture: str
    cores: int = Field(ge=1)
    features: tuple[str, ...] = ()
    system: str
    python: str
    packages: dict[str, str] = {}
    governor: str | None = None
    load_1min: FiniteFloat | None = None
    temperature_c: FiniteFloat | None = None


class ImagesIdentity(Record):
    """Which images, exactly.

    Attributes:
        name: For people.
        sha256: Over the keys and contents of the images, in order.
        count: How many.
        size: Side of the square that is scored.
    """

    name: str
    sha256: Sha256
    count: int = Field(ge=1)
    size: int = Field(ge=1)


class ImageFacts(Record):
    """What is known of one image without any scorer.

    Attributes:
        key: Unique name.
        photo: The photograph it was made from; its key where it is one.
        cluster: Images that are not independent of each other share one.
        label: None where there is none.
        kinds: Degradations that were applied.
        columns: The user's own columns.
        short_side: Of the photograph in pixels; None if it could not be read, as below.
        luminance: Mean BT.601 luma of the scored square, 0..255.
        sharpness: Variance of the Laplacian of that luma.
        error: Why it could not be read.
    """

    key: FileName
    photo: str
    cluster: str
    label: FiniteFloat | None = None
    kinds: tuple[str, ...] = ()
    columns: dict[str, str] = {}
    short_side: int | None = None
    luminance: FiniteFloat | None = None
    sharpness: FiniteFloat | None = None
    error: str | None = None


class ImagesRecord(Record):
    """The images of a run.

    Attributes:
        identity: Which.
        source: Where they came from, in words.
        label: What the labels mean; None where there are none.
        images: In the order of every score record.
    """

    measurement: Literal["images"] = "images"
    schema_version: SchemaVersion = 1
    identity: ImagesIdentity
    source: str
    label: str | None = None
    images: tuple[ImageFacts, ...]

    @model_validator(mode="after")
    def _check_images(self) -> Self:
        keys = [image.key for image in self.images]
        if len(keys) != self.identity.count or len(set(keys)) != len(keys):
            msg = f"{len(set(keys))} different keys, the identity counts {self.identity.count}"
            raise ValueError(msg)
        return self


class ImageScore(Record):
    """One image's score, or why it has none."""

    key: FileName
    score: FiniteFloat | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.score is None) == (self.error is None):
            msg = f"{self.key} needs a score or an error, one of the two"
            raise ValueError(msg)
        return self


class ScoreRecord(Record):
    """One file in one runtime over all images.

    Attributes:
        executed: What ran.
        images: On which images.
        is_reference: Whether it is the float model that the others are compared with.
        scores: One entry an image, in the order of the images record.
        seconds: Wall time of the scoring, preprocessing included; no latency figure.
    """

    measurement: Literal["scores"] = "scores"
    schema_version: SchemaVersion = 1
    executed: Executed
    images: ImagesIdentity
    is_reference: bool = False
    scores: tuple[ImageScore, ...]
    seconds: FiniteFloat = Field(ge=0)

    @model_validator(mode="after")
    def _check_count(self) -> Self:
        if len(self.scores) != self.images.count:
            msg = f"{len(self.scores)} entries for {self.images.count} images"
            raise ValueError(msg)
        return self


class FailureRecord(Record):
    """One file in one runtime that gave no scores. Holds no metric, so the hash may be missing.

    Attributes:
        file: Its name.
        sha256: Of the file as found; None where there was none.
        target: The ``--to`` name that made it.
        precision: As the manifest has it.
        runtime: A name of ``RUNTIMES``.
        error: What happened.
        twins: Files of the same hash, which failed with it.
    """

    measurement: Literal["failure"] = "failure"
    schema_version: SchemaVersion = 1
    file: FileName
    sha256: Sha256 | None
    target: str
    precision: str
    runtime: str
    error: Annotated[str, StringConstraints(min_length=1)]
    twins: tuple[Twin, ...] = ()

    @property
    def cell(self) -> str:
        """The name of its row: the file and what should have run it."""
        return f"{self.file} in {self.runtime}"

    @property
    def names(self) -> list[tuple[str, str]]:
        """File and precision of each file that this run stands for."""
        return [(self.file, self.precision), *((twin.file, twin.precision) for twin in self.twins)]


class Figure(Record):
    """One metric, with its interval where it has one.

    Attributes:
        value: None where it is undefined.
        low: Lower end of the bootstrap interval.
        high: Upper end.
        n_undefined: Resamples on which it was undefined; they are left out of the interval.
        reason: Why the value, or the interval, is missing.
    """

    value: FiniteFloat | None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n_undefined: int = 0
    reason: str | None = None

    @model_validator(mode="after")
    def _check_reason(self) -> Self:
        if (self.value is None or self.low is None) and not self.reason:
            msg = "a figure without a value or an interval needs a reason"
            raise ValueError(msg)
        if (self.low is None) != (self.high is None):
            msg = "an interval has two ends"
            raise ValueError(msg)
        return self


class SliceFigures(Record):
    """The figures on some of the images.

    Attributes:
        rule: How the images were chosen, in words.
        n: Images that both files scored.
        n_labelled: Those of them with a label.
        clusters: Independent photographs among them.
        figures: Name to figure; the names are in ``edgefiqa.benchmarks.figures``.
    """

    rule: str
    n: int = Field(ge=0)
    n_labelled: int = Field(ge=0)
    clusters: int = Field(ge=0)
    figures: dict[str, Figure]


class WorstImage(Record):
    """One of the images with the largest error.

    Attributes:
        key: Which.
        score: The file's.
        reference: The float reference's.
        error: ``score − reference``.
        slices: The slices it is in.
        thumbnail: File in the run directory, if one was written.
    """

    key: FileName
    score: FiniteFloat
    reference: FiniteFloat
    error: FiniteFloat
    slices: tuple[str, ...] = ()
    thumbnail: str | None = None


class DriftRecord(Record):
    """One file against the float reference on the same images.

    Attributes:
        executed: What ran.
        reference: What it is compared with.
        images: On which images.
        failed: Images that one of the two could not score; they are in no figure.
        threshold: The decision threshold on the score; None counts no flips.
        resamples: Of the bootstrap; whole clusters are drawn.
        confidence: Of the intervals.
        seed: Of the resampling.
        slices: Name to figures; ``all`` is all images.
        worst: Largest error first.
    """

    measurement: Literal["drift"] = "drift"
    schema_version: SchemaVersion = 1
    executed: Executed
    reference: Executed
    images: ImagesIdentity
    failed: int = Field(ge=0)
    threshold: FiniteFloat | None
    resamples: int = Field(ge=1)
    confidence: FiniteFloat = Field(gt=0, lt=1)
    seed: int
    slices: dict[str, SliceFigures]
    worst: tuple[WorstImage, ...]


class Phase(StrEnum):
    """What a latency sample timed."""

    LOAD = "load"
    FIRST = "first"
    INFERENCE = "inference"
    DECODE = "decode"
    PREPROCESS = "preprocess"
    PHOTO_INFERENCE = "photo_inference"  # right after decoding: with other caches than in a loop
    END_TO_END = "end_to_end"


class RunRules(Record):
    """The rules that a latency run kept.

    Attributes:
        warm_up: Inferences before the first sample of a process.
        turn_warm_up: The same before each turn, after other files had theirs.
        min_count: Fewest samples.
        min_seconds: Shortest time.
        rounds: Fresh processes of the file.
        turns: Of each of them.
        interleaved: Name of the run whose files took turns; equal names may be paired.
    """

    warm_up: int = Field(ge=0)
    turn_warm_up: int = Field(default=0, ge=0)
    min_count: int = Field(ge=1)
    min_seconds: FiniteFloat = Field(ge=0)
    rounds: int = Field(default=1, ge=1)
    turns: int = Field(default=1, ge=1)
    interleaved: str | None = None


class LatencyRecord(Record):
    """One file on one device.

    Attributes:
        executed: What ran.
        device: "host", "ssh://…", "adb:…".
        host: The device's state before the first sample.
        host_after: The same after the last; None where only one was read.
        rules: The rules kept.
        samples_ms: Every sample of each phase, in order; none is left out.
        rounds: Round of each inference sample, where files took turns.
        turns: Its turn within the round.
        peak_rss_bytes: Of the process, the largest of all rounds; None where it cannot be read.
        baseline_rss_bytes: Of the process before the file was loaded, libraries imported.
        noise: Why the run is not to be trusted; None for a quiet one.
    """

    measurement: Literal["latency"] = "latency"
    schema_version: SchemaVersion = 1
    executed: Executed
    device: str
    host: HostState
    host_after: HostState | None = None
    rules: RunRules
    samples_ms: dict[Phase, tuple[Annotated[FiniteFloat, Field(ge=0)], ...]]
    rounds: tuple[int, ...] = ()
    turns: tuple[int, ...] = ()
    peak_rss_bytes: int | None = None
    baseline_rss_bytes: int | None = None
    noise: str | None = None

    @model_validator(mode="after")
    def _check_rounds(self) -> Self:
        samples = len(self.samples_ms.get(Phase.INFERENCE, ()))
        for places, name in ((self.rounds, "round"), (self.turns, "turn")):
            if places and len(places) != samples:
                msg = f"each inference sample needs its {name}, or none"
                raise ValueError(msg)
        return self


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
        name: For people: where the chain ends.
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
        shape: In the file's own layout.
        snr_db: 10·log10(signal power / error power); None where there is no error, or no signal.
        cosine: Of the two, flattened; None where one is all zeros.
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


AnyRecord: TypeAlias = (
    ImagesRecord
    | ScoreRecord
    | FailureRecord
    | DriftRecord
    | LatencyRecord
    | WaterfallRecord
    | LayersRecord
)
