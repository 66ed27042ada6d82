"""The commands ``android check-apk`` and ``bundle`` by themselves."""

import json
from pathlib import Path

from tests.android.test_page_alignment import GOOD, apk, elf
from typer.testing import CliRunner

from edgefiqa.cli import app


def test_exit_code_and_json(tmp_path: Path):
    good = apk(tmp_path / "good.apk", GOOD, stored=True, offset=16384)
    bad = apk(tmp_path / "bad.apk", elf((0, 0, 4096)), stored=True, offset=16384)
    runner = CliRunner()
    assert runner.invoke(app, ["android", "check-apk", str(good)]).exit_code == 0
    result = runner.invoke(app, ["android", "check-apk", str(good), str(bad), "--json"])
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    assert [row["outcome"] for checks in rows.values() for row in checks] == ["ok", "failed"]
