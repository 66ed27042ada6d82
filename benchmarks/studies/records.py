"""What the studies measured: one typed record a study; those of accuracy and of MIL lie by them.

``edgefiqa.benchmarks.documents`` makes the tables of the documents from the committed ones in
``benchmarks/records``.
"""

from typing import Literal

from pydantic import FiniteFloat

from edgefiqa.measuring.records import HostState, Record, Sha256

__all__ = [
    "LabellingRecord",
    "LabellingWay",
    "LatencyRepeatsRecord",
    "RatioInterval",
    "Repeat",
    "RepeatRatio",
    "RepeatRules",
    "RouteFile",
    "RoutesRecord",
    "StartupRecord",
    "TeacherRuntimesRecord",
    "TeacherSettings",
    "TeacherWay",
    "TrainingSettings",
    "TrainingSpeedRecord",
]

Packages = dict[str, str]
"""Package → version."""


class RouteFile(Record):
    """One ``.tflite`` file, timed in turns with the others.

    Attributes:
        file: Its name.
        sha256: SHA-256 of the file that was executed.
        median_ms: Median over the rounds of the medians of each round.
        p90_ms: 90th percentile of all samples.
        round_medians_ms: One a round.
        paired_ratios: Median relative to the first file's of the same round.
        samples_ms: Every inference, by round.
    """

    file: str
    sha256: Sha256
    median_ms: FiniteFloat
    p90_ms: FiniteFloat
    round_medians_ms: tuple[FiniteFloat, ...]
    paired_ratios: tuple[FiniteFloat, ...]
    samples_ms: tuple[tuple[FiniteFloat, ...], ...]


class RoutesRecord(Record):
    """Several ways to a ``.tflite`` file of the same weights.

    Attributes:
        parent_sha256: SHA-256 of the weights behind the first file; None if unknown.
        runtime: The interpreter with its version.
        processor: This machine's.
        threads: Threads of the interpreter.
        rounds: How often each file was measured.
        runs: Inferences of each round.
        files: The first one is the base of the ratios.
    """

    measurement: Literal["tflite_routes"] = "tflite_routes"
    schema_version: Literal[1] = 1
    parent_sha256: Sha256 | None = None
    runtime: str
    processor: str
    threads: int
    rounds: int
    runs: int
    files: tuple[RouteFile, ...]


class StartupRecord(Record):
    """A ``[tflite]`` installation: its size, and the time from process start to the first score.

    Attributes:
        sha256: SHA-256 of the file that was executed.
        parent_sha256: SHA-256 of the weights that it was exported from; None if unknown.
        installed_mb: What the installation adds to an empty environment.
        packages: What is installed there.
        runs: Counted runs of the whole command.
        seconds: Seconds of each run.
        median_seconds: Median of the runs.
        max_seconds: Slowest run.
    """

    measurement: Literal["startup"] = "startup"
    schema_version: Literal[1] = 1
    sha256: Sha256
    parent_sha256: Sha256 | None = None
    installed_mb: FiniteFloat
    packages: Packages
    runs: int
    seconds: tuple[FiniteFloat, ...]
    median_seconds: FiniteFloat
    max_seconds: FiniteFloat


class LabellingWay(Record):
    """One way to score many photographs.

    Attributes:
        way: Its name.
        images_per_second: Median over the rounds.
        ratio: Median of the paired ratios.
        paired_ratios: Rate relative to one image a forward pass, in the same round.
        samples: Images a second of each round.
        max_abs_difference: Largest absolute difference of its scores to the one-image way's.
        srcc: SRCC between its scores and the one-image way's.
    """

    way: str
    images_per_second: FiniteFloat
    ratio: FiniteFloat
    paired_ratios: tuple[FiniteFloat, ...]
    samples: tuple[FiniteFloat, ...]
    max_abs_difference: FiniteFloat
    srcc: FiniteFloat


class LabellingRecord(Record):
    """How fast one model labels photographs.

    Attributes:
        model: Name of its directory.
        sha256: SHA-256 of its weights.
        size: Side of the square that is scored, in pixels.
        images: Photographs.
        rounds: How often each way was measured.
        workers: Worker processes.
        batch: Images of a forward pass.
        processor: This machine's.
        packages: What computed.
        ways: One image a forward pass first.
    """

    measurement: Literal["labelling"] = "labelling"
    schema_version: Literal[1] = 1
    model: str
    sha256: Sha256
    size: int
    images: int
    rounds: int
    workers: int
    batch: int
    processor: str
    packages: Packages
    ways: tuple[LabellingWay, ...]


class TeacherSettings(Record):
    """How an online teacher was asked; see ``measure_teacher_runtimes``."""

    size: int
    batch: int
    rounds: int
    threads: int


class TeacherWay(Record):
    """One way to ask an online teacher.

    Attributes:
        way: Its name.
        image_ms: Median time of one image.
        paired_ratios: Time relative to torch in float32, in the same round.
        samples: Milliseconds an image, of each round.
        max_abs_difference: Largest absolute difference of its scores to torch's in float32.
    """

    way: str
    image_ms: FiniteFloat
    paired_ratios: tuple[FiniteFloat, ...]
    samples: tuple[FiniteFloat, ...]
    max_abs_difference: FiniteFloat


class TeacherRuntimesRecord(Record):
    """What an online teacher costs in torch and in ONNX Runtime.

    Attributes:
        sha256: SHA-256 of its weights.
        settings: How it was asked.
        processor: This machine's.
        packages: What computed.
        ways: Torch in float32 first.
    """

    measurement: Literal["teacher_runtimes"] = "teacher_runtimes"
    schema_version: Literal[1] = 1
    sha256: Sha256
    settings: TeacherSettings
    processor: str
    packages: Packages
    ways: tuple[TeacherWay, ...]


class TrainingSettings(Record):
    """What both training loops do.

    Attributes:
        model: A name of ``edgefiqa models``; random weights.
        size: Short side of the resized photographs.
        crop: Side of the random crops.
        batch: Images a step.
        steps: Timed steps a turn.
        lead: Steps of a turn before them, which take batches that were prepared meanwhile.
        rounds: Turns of each loop.
        threads: Cores: torch threads, or processes of one thread each.
        photos: How many photographs.
        bfloat16: Train in bfloat16 as well.
    """

    model: str = "efficient-fiqa-student"
    size: int = 288
    crop: int = 160
    batch: int = 32
    steps: int = 4
    lead: int = 4
    rounds: int = 8
    threads: int = 2
    photos: int = 256
    bfloat16: bool = True

    @property
    def all_steps(self) -> int:
        """Steps of a loop: its turns, and the one whose start ends the last of them."""
        return self.rounds * (self.lead + self.steps) + 1


class RatioInterval(Record):
    """Paired ratios in one figure.

    Attributes:
        centre: Mean of the logarithms, as a ratio.
        low: End of the interval; None if there are too few rounds for one.
        high: The other end.
        confidence: Confidence level of the interval.
    """

    centre: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    confidence: FiniteFloat


class TrainingSpeedRecord(Record):
    """How fast one network trains, beside a plain torch loop.

    Attributes:
        settings: What both loops do.
        photographs_sha256: SHA-256 of the folder of photographs.
        set_index_sha256: SHA-256 of the image set that they were packed into.
        packing_seconds: How long that took.
        processor: This machine's.
        has_bfloat16: Whether it has instructions for bfloat16.
        packages: What computed.
        images_per_second: Loop → median over the rounds.
        best_plain: The plain loop that is the base of the ratios.
        ratio: Loop → its ratio to that one.
        paired_ratios: Loop → the ratio of each round.
        step_seconds: By round, loop → seconds of each timed step.
    """

    measurement: Literal["training_speed"] = "training_speed"
    schema_version: Literal[2] = 2
    settings: TrainingSettings
    photographs_sha256: Sha256
    set_index_sha256: Sha256
    packing_seconds: FiniteFloat
    processor: str
    has_bfloat16: bool
    packages: Packages
    images_per_second: dict[str, FiniteFloat]
    best_plain: str
    ratio: dict[str, RatioInterval]
    paired_ratios: dict[str, tuple[FiniteFloat, ...]]
    step_seconds: tuple[dict[str, tuple[FiniteFloat, ...]], ...]


class RepeatRules(Record):
    """The rules of each latency run; see ``LatencyRules``."""

    threads: tuple[int, ...]
    rounds: int
    turns: int
    warm_up: int
    turn_warm_up: int
    min_count: int
    min_seconds: FiniteFloat
    photos_a_turn: int
    limit_s: FiniteFloat


class RepeatRatio(Record):
    """One comparison of one latency run.

    Attributes:
        rounds: The ratio of each round.
        ratio: Ratio of the whole run.
        low: End of its interval; None where there is none.
        high: The other end.
        confidence: Confidence level of the interval.
        verdict: What the interval says.
    """

    rounds: tuple[FiniteFloat, ...]
    ratio: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    confidence: FiniteFloat
    verdict: str


class Repeat(Record):
    """One latency run of a file, of the same file again, and of the same file made slower.

    Attributes:
        runtime: The runtime with its version.
        host: State of the machine before.
        host_after: State of the machine after.
        others_share: Share of the processors that other processes used; None if unknown.
        noise: What made the run noisy.
        p50_ms: Median time of each of the three.
        same: The file against itself.
        slower: The slowed file against the file.
    """

    runtime: str
    host: HostState
    host_after: HostState | None
    others_share: FiniteFloat | None
    noise: tuple[str, ...]
    p50_ms: tuple[FiniteFloat, ...]
    same: RepeatRatio
    slower: RepeatRatio


class LatencyRepeatsRecord(Record):
    """Whether latency runs repeat, and whether they notice that a file is slower.

    Attributes:
        file: Name of the file.
        sha256: SHA-256 of the file that was executed.
        slowdown: By how much the slowed one is slower, as a share.
        rules: Rules of each run.
        n: Number of runs.
        same: Runs whose interval of the file against itself contains 1.
        slower: Runs that found the slowed file slower.
        repeats: The runs.
    """

    measurement: Literal["latency_repeats"] = "latency_repeats"
    schema_version: Literal[1] = 1
    file: str
    sha256: Sha256
    slowdown: FiniteFloat
    rules: RepeatRules
    n: int
    same: int
    slower: int
    repeats: tuple[Repeat, ...]
