"""How long one file takes on one device: the rules, every sample, the state of the device."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from edgefiqa.measuring.records.base import Executed, HostState, Record, SchemaVersion

__all__ = ["LatencyPhase", "LatencyRecord", "RecordedRules"]


class LatencyPhase(StrEnum):
    """What a latency sample timed."""

    LOAD = "load"
    FIRST = "first"
    INFERENCE = "inference"
    DECODE = "decode"
    PREPROCESS = "preprocess"
    PHOTO_INFERENCE = "photo_inference"  # right after decoding: with other caches than in a loop
    END_TO_END = "end_to_end"


class RecordedRules(Record):
    """The rules that a latency run kept.

    Attributes:
        warm_up: Inferences before the first sample of a process.
        turn_warm_up: The same before each turn, after other files had theirs.
        min_count: Fewest samples.
        min_seconds: Shortest time.
        rounds: Fresh processes of the file.
        turns: Turns of each process.
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
        inferences: How many inferences each inference sample is the mean of, where an external
            tool tells nothing finer; empty where each sample is one inference.
        peak_rss_bytes: Peak resident memory of the process, the largest of all rounds; None where
            it cannot be read.
        baseline_rss_bytes: Resident memory of the process when its libraries were imported and the
            file was not loaded yet.
        noise: Why the run is not to be trusted; None for a quiet one.
    """

    measurement: Literal["latency"] = "latency"
    schema_version: SchemaVersion = 1
    executed: Executed
    device: str
    host: HostState
    host_after: HostState | None = None
    rules: RecordedRules
    samples_ms: dict[LatencyPhase, tuple[Annotated[FiniteFloat, Field(ge=0)], ...]]
    rounds: tuple[int, ...] = ()
    turns: tuple[int, ...] = ()
    inferences: tuple[int, ...] = ()
    peak_rss_bytes: int | None = None
    baseline_rss_bytes: int | None = None
    noise: str | None = None

    @model_validator(mode="after")
    def _check_rounds(self) -> Self:
        samples = len(self.samples_ms.get(LatencyPhase.INFERENCE, ()))
        columns = {
            "round": self.rounds,
            "turn": self.turns,
            "number of inferences": self.inferences,
        }
        for name, values in columns.items():
            if values and len(values) != samples:
                msg = f"each inference sample needs its {name}, or none"
                raise ValueError(msg)
        return self
