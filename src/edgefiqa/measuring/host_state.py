"""The state of the machine around a measurement, and whether it was quiet."""

from collections.abc import Sequence
from pathlib import Path

from edgefiqa.measuring.host_facts import ROOT, CpuUse, read_host_facts
from edgefiqa.measuring.records import HostState

__all__ = [
    "LOAD_PER_CORE",
    "OTHERS_SHARE",
    "TEMPERATURE_RISE_C",
    "machine_noise",
    "read_host_state",
    "share_of_others",
]

LOAD_PER_CORE = 0.5
"""A load average above this many processes a core, before the run, makes it noisy."""

OTHERS_SHARE = 0.05
"""Other processes using more than this share of the machine during the run make it noisy."""

TEMPERATURE_RISE_C = 15.0
"""The hottest zone rising by more than this during the run makes it noisy: clocks may fall."""


def read_host_state(packages: Sequence[str] = (), *, root: Path = ROOT) -> HostState:
    """Read the state of this machine; see `edgefiqa.measuring.host_facts.read_host_facts`."""
    return HostState.model_validate(read_host_facts(packages, root=root))


def share_of_others(before: CpuUse, after: CpuUse) -> float | None:
    """Return the share of the machine that other processes used in between; None if unknown.

    Args:
        before: At the start.
        after: At the end, when all children have ended.
    """
    wall_s = after.at_s - before.at_s
    if before.machine_s is None or after.machine_s is None or wall_s <= 0:
        return None
    busy_s = after.machine_s - before.machine_s - (after.own_s - before.own_s)
    return min(1.0, max(0.0, busy_s / (wall_s * after.processors)))


def machine_noise(before: HostState, after: HostState, others: float | None) -> list[str]:
    """Say what was wrong with the machine during a run.

    Args:
        before: Its state before the first sample.
        after: Its state after the last.
        others: The share of the machine that other processes used.

    Returns:
        One phrase a criterion that was not met; empty for a quiet machine.
    """
    found = []
    if before.load_1min is not None and before.load_1min > LOAD_PER_CORE * before.cores:
        found.append(f"load {before.load_1min:.1f} on {before.cores} cores before the run")
    if others is not None and others > OTHERS_SHARE:
        found.append(f"other processes used {others:.0%} of the machine")
    if before.temperature_c is not None and after.temperature_c is not None:
        rise_c = after.temperature_c - before.temperature_c
        if rise_c > TEMPERATURE_RISE_C:
            found.append(f"{rise_c:.0f} °C warmer at the end ({after.temperature_c:.0f} °C)")
    if before.governor != after.governor:
        found.append(f"the governor changed from {before.governor} to {after.governor}")
    return found
