"""The study that runs coremltools' op tests on the evaluator."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_few_of_coremltools_own_tests_pass(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    command = [sys.executable, "-m", "edgefiqa", "study", "mil-conformance", "--out", str(record)]
    selection = [
        "--precision",
        "fp32",
        "--select",
        "TestNormalizationLayerNorm or TestGatherAlongAxis",
    ]
    done = subprocess.run(
        [*command, *selection, "--sample", "9"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (found,) = json.loads(record.read_text())["runs"]
    assert found["passed"] >= 3
    assert f"{found['passed']} of {found['passed'] + len(found['failed'])}" in done.stdout
