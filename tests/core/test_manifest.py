"""What the manifest beside a file says of it."""

from pathlib import Path

import pytest
from tests.tiny_onnx import write_manifest, write_tiny

from edgefiqa.errors import ArtifactError
from edgefiqa.manifest import parent_of


def test_the_parent_of_an_exported_file(tmp_path: Path) -> None:
    listed, alone = write_tiny(tmp_path / "export" / "a.onnx"), write_tiny(tmp_path / "a.onnx")
    unlisted = write_tiny(tmp_path / "export" / "b.onnx")
    write_manifest(tmp_path / "export", {"a.onnx": "fp32"}, weights_sha256="7" * 64)
    assert parent_of(listed) == "7" * 64
    assert parent_of(alone) is None
    assert parent_of(unlisted) is None
    write_tiny(listed, perturbed=0.1)
    with pytest.raises(ArtifactError, match="has changed since its manifest was written"):
        parent_of(listed)
