"""What an ARM processor says it can do, and the files from which runtimes learn which one it is.

Runtimes choose their kernels by the features in the auxiliary vector and by the model in
``/proc/cpuinfo``. QEMU emulates the former; the latter describes the machine, so we write it.
"""

import os
import struct
import sys
from enum import StrEnum
from pathlib import Path

__all__ = ["Processor", "decode_features", "main", "write_system_files"]

_HWCAP, _HWCAP2 = 16, 26  # keys of the auxiliary vector, linux/auxvec.h
_NAMES = {  # bit by bit as in arch/arm64/include/uapi/asm/hwcap.h
    _HWCAP: (
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma "
        "lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca "
        "pacg"
    ),
    _HWCAP2: (
        "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm "
        "svef64mm svebf16 i8mm bf16 dgh rng bti mte ecv afp rpres mte3 sme smei16i64 smef64f64 "
        "smei8i32 smef16f32 smeb16f32 smef32f32 smefa64"
    ),
}


class Processor(StrEnum):
    """A processor model, by QEMU's name."""

    CORTEX_A53 = "cortex-a53"
    CORTEX_A76 = "cortex-a76"
    MAX = "max"


_PARTS = {  # implementer and part number of the main identification register
    Processor.CORTEX_A53: (0x41, 0xD03),
    Processor.CORTEX_A76: (0x41, 0xD0B),
    Processor.MAX: (0x00, 0x051),  # QEMU's number for its generic processor
}


def decode_features(auxiliary_vector: bytes) -> tuple[str, ...]:
    """Return a processor's features as ``/proc/cpuinfo`` names them.

    Args:
        auxiliary_vector: Content of ``/proc/self/auxv`` of a 64-bit process: pairs of uint64.
    """
    values = dict(struct.iter_unpack("<QQ", auxiliary_vector))
    return tuple(
        name
        for key, names in _NAMES.items()
        for bit, name in enumerate(names.split())
        if values.get(key, 0) >> bit & 1
    )


def write_system_files(root: Path, processor: Processor, features: tuple[str, ...]) -> None:
    """Write ``proc/cpuinfo`` and ``sys/devices/system/cpu`` of a machine of such processors.

    Args:
        root: Where ``proc`` and ``sys`` are to be.
        processor: Which model.
        features: What it can do.
    """
    count = os.cpu_count() or 1  # processes may be told to run on any of the machine's
    implementer, part = _PARTS[processor]
    common = (
        f"BogoMIPS\t: 100.00\nFeatures\t: {' '.join(features)}\n"
        f"CPU implementer\t: {implementer:#04x}\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: {part:#05x}\nCPU revision\t: 0\n"
    )
    blocks = (f"processor\t: {index}\n{common}" for index in range(count))
    (root / "proc").mkdir(parents=True, exist_ok=True)
    (root / "proc/cpuinfo").write_text("\n".join(blocks), encoding="utf-8")
    folder = root / "sys/devices/system/cpu"
    for index in range(count):
        (folder / f"cpu{index}").mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present", "online"):
        (folder / name).write_text(f"0-{count - 1}\n", encoding="utf-8")


def main() -> None:
    """Print the features of this process's processor."""
    features = decode_features(Path("/proc/self/auxv").read_bytes())
    sys.stdout.write(" ".join(features) + "\n")


if __name__ == "__main__":
    main()
