"""The state of the machine around a measurement, and what else it did meanwhile."""

import os
import platform
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgefiqa.benchmarks.machine import package_versions, processor_name
from edgefiqa.benchmarks.records import HostState

__all__ = [
    "LOAD_PER_CORE",
    "OTHERS_SHARE",
    "TEMPERATURE_RISE_C",
    "CpuUse",
    "machine_noise",
    "read_cpu_use",
    "read_host_state",
    "share_of_others",
]

LOAD_PER_CORE = 0.5
"""A load average above this many processes a core, before the run, makes it noisy."""

OTHERS_SHARE = 0.05
"""Other processes using more than this share of the machine during the run make it noisy."""

TEMPERATURE_RISE_C = 15.0
"""The hottest zone rising by more than this during the run makes it noisy: clocks may fall."""

_X86 = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
_ARM = ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme")
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal: columns of /proc/stat
_ROOT = Path("/")


@dataclass(frozen=True, kw_only=True)
class CpuUse:
    """Processor time so far.

    Attributes:
        at_s: Of the monotonic clock.
        machine_s: All processes on all processors; None where it cannot be read.
        own_s: This process and its children that have ended.
    """

    at_s: float
    machine_s: float | None
    own_s: float


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return None


def _features(root: Path) -> tuple[str, ...]:
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            found = set(value.split())
            return tuple(feature for feature in _X86 + _ARM if feature in found)
    return ()


def _temperature_c(root: Path) -> float | None:
    zones = [
        *(root / "sys/class/thermal").glob("thermal_zone*/temp"),
        *(root / "sys/class/hwmon").glob("hwmon*/temp*_input"),
    ]
    degrees = []
    for zone in zones:
        try:
            degrees.append(int(_read(zone) or "") / 1000)
        except ValueError:  # a sensor that is there and cannot be read now
            continue
    plausible = [value for value in degrees if 0 < value < 150]
    return max(plausible, default=None)


def read_host_state(packages: Sequence[str] = (), *, root: Path = _ROOT) -> HostState:
    """Read the state of this machine.

    Args:
        packages: Python packages that take part; those installed are recorded.
        root: Where ``proc`` and ``sys`` are.

    Returns:
        The state; what cannot be read is None.
    """
    board = _read(root / "proc/device-tree/model")  # boards name themselves here, not in cpuinfo
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return HostState(
        recorded_at=datetime.now(UTC).isoformat("T", "seconds"),
        processor=board or processor_name(),
        architecture=platform.machine(),
        cores=affinity or 1,
        features=_features(root),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages=package_versions("edgefiqa", "numpy", "pillow", *packages),
        governor=_read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        load_1min=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        temperature_c=_temperature_c(root),
    )


def read_cpu_use(*, root: Path = _ROOT) -> CpuUse:
    """Read how much processor time the machine and this process have used so far."""
    head, *_ = (_read(root / "proc/stat") or "").splitlines() or [""]
    columns = head.split()[1:]
    machine_s = None
    if head.startswith("cpu ") and len(columns) > max(_BUSY):
        ticks = sum(int(columns[column]) for column in _BUSY)
        machine_s = ticks / os.sysconf("SC_CLK_TCK")
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own_s = sum(use.ru_utime + use.ru_stime for use in uses)
    return CpuUse(at_s=time.monotonic(), machine_s=machine_s, own_s=own_s)


def share_of_others(before: CpuUse, after: CpuUse, *, processors: int) -> float | None:
    """Return the share of the machine that other processes used in between; None if unknown.

    Args:
        before: At the start.
        after: At the end, when all children have ended.
        processors: Of the whole machine, whether or not this process may use them.
    """
    wall_s = after.at_s - before.at_s
    if before.machine_s is None or after.machine_s is None or wall_s <= 0:
        return None
    busy_s = after.machine_s - before.machine_s - (after.own_s - before.own_s)
    return min(1.0, max(0.0, busy_s / (wall_s * processors)))


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
