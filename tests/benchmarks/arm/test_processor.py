"""What an emulated processor says of itself, against the C library's header and known boards."""

import re
import struct
from pathlib import Path

import pytest

from edgefiqa.benchmarks.arm.processor import Processor, decode_features, write_system_files

HEADER = Path("/usr/aarch64-linux-gnu/include/asm/hwcap.h")


def vector(hwcap: int, hwcap2: int = 0) -> bytes:
    return struct.pack("<8Q", 6, 4096, 16, hwcap, 26, hwcap2, 0, 0)


def test_features_of_known_processors():
    # As /proc/cpuinfo of a Cortex-A53 board and of a Cortex-A76 board, less its extras, says.
    a53 = "fp asimd aes pmull sha1 sha2 crc32 cpuid"
    a76 = (
        "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
    )
    assert decode_features(vector(0x8FB)) == tuple(a53.split())
    assert decode_features(vector(0x119FFB)) == tuple(a76.split())
    assert decode_features(vector(0, 1 << 13 | 1 << 14)) == ("i8mm", "bf16")
    assert decode_features(struct.pack("<4Q", 6, 4096, 0, 0)) == ()


@pytest.mark.skipif(not HEADER.is_file(), reason="the cross compiler's headers are not installed")
def test_every_bit_is_named_as_the_header_does():
    defined = re.findall(r"define HWCAP(2?)_(\w+)\s+\(1U?L*\s*<<\s*(\d+)\)", HEADER.read_text())
    bits = [(second, name, int(bit)) for second, name, bit in defined]
    bits = [entry for entry in bits if entry[2] < 31 or not entry[0]]  # later ones are not decoded
    assert len(bits) > 60
    for second, name, bit in bits:
        auxiliary = vector(0, 1 << bit) if second else vector(1 << bit)
        assert decode_features(auxiliary) == (name.lower().replace("sme_", "sme"),)


def test_system_files_name_the_model(tmp_path: Path):
    write_system_files(tmp_path, Processor.CORTEX_A76, ("fp", "asimd"))
    write_system_files(tmp_path, Processor.CORTEX_A53, ("fp", "asimd", "asimddp"))
    text = (tmp_path / "proc/cpuinfo").read_text()
    blocks = [block for block in text.split("\n\n") if block.strip()]
    cpus = tmp_path / "sys/devices/system/cpu"
    first, last = (cpus / "possible").read_text().strip().split("-")
    assert len(blocks) == int(last) - int(first) + 1 == len(list(cpus.glob("cpu*")))
    for block in blocks:
        fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", block, re.MULTILINE))
        assert (int(fields["CPU implementer"], 16), int(fields["CPU part"], 16)) == (0x41, 0xD03)
        assert fields["Features"].split() == ["fp", "asimd", "asimddp"]
