"""The machine around a measurement, read with the standard library alone.

Runs on this machine and, as ``python -m edgefiqa.measuring.host_facts PACKAGES…``, on a remote one
that has no edgefiqa: it then prints ``{"state": …, "use": …}`` as JSON.
"""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgefiqa.measuring.machine import package_versions, processor_name
from edgefiqa.workers import processor_count

__all__ = ["ROOT", "CpuUse", "main", "read_cpu_use", "read_host_facts"]

ROOT = Path("/")
"""Where ``proc`` and ``sys`` are."""

_X86 = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
_ARM = ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme")
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal: columns of /proc/stat


@dataclass(frozen=True, kw_only=True)
class CpuUse:
    """Processor time so far.

    Attributes:
        at_s: Time in seconds of the monotonic clock.
        machine_s: All processes on all processors; None where it cannot be read.
        own_s: This process and its children that have ended.
        processors: Number of processors of the machine, those that this process may not use too.
    """

    at_s: float
    machine_s: float | None
    own_s: float
    processors: int


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


def read_host_facts(packages: Sequence[str] = (), *, root: Path = ROOT) -> dict[str, Any]:
    """Read the state of this machine.

    Args:
        packages: Python packages that take part; those installed are recorded.
        root: Where ``proc`` and ``sys`` are.

    Returns:
        The fields of a `HostState`; what cannot be read is None.
    """
    board = _read(root / "proc/device-tree/model")  # boards name themselves here, not in cpuinfo
    return dict(
        recorded_at=datetime.now(UTC).isoformat("T", "seconds"),
        processor=board or processor_name(),
        architecture=platform.machine(),
        cores=processor_count(),
        features=_features(root),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages=package_versions("edgefiqa", "numpy", "pillow", *packages),
        governor=_read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        load_1min=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        temperature_c=_temperature_c(root),
    )


def read_cpu_use(*, root: Path = ROOT) -> CpuUse:
    """Read how much processor time the machine and this process have used so far."""
    head, *_ = (_read(root / "proc/stat") or "").splitlines() or [""]
    columns = head.split()[1:]
    machine_s = None
    if head.startswith("cpu ") and len(columns) > max(_BUSY):
        ticks = sum(int(columns[column]) for column in _BUSY)
        machine_s = ticks / os.sysconf("SC_CLK_TCK")
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own_s = sum(use.ru_utime + use.ru_stime for use in uses)
    processors = os.cpu_count() or 1
    return CpuUse(at_s=time.monotonic(), machine_s=machine_s, own_s=own_s, processors=processors)


def main(packages: Sequence[str]) -> None:
    """Print state and processor time of this machine as one JSON object."""
    found = {"state": read_host_facts(packages), "use": asdict(read_cpu_use())}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
