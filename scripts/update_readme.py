"""Write the README's table and picture from a demo run: ``make readme``."""

import re
import shutil
import sys
from pathlib import Path

from edgefiqa.manifest import Manifest
from edgefiqa.tables import parity_table

ROOT = Path(__file__).parent.parent


def main(demo: Path) -> None:
    """Replace the table between the marks in README.md, and docs/demo.png."""
    manifest = Manifest.load(demo / "export")
    card = manifest.card
    photos = next(parity.photos for a in manifest.artifacts for parity in a.parity)
    what = f"Default student `{card['sha256'][:12]}`, {manifest.contract['size']} px"
    text = f"{parity_table(manifest)}\n\n{what}; images: {photos}."
    readme = ROOT / "README.md"
    marked = re.compile(r"(<!-- parity:begin[^>]*-->\n).*?(<!-- parity:end -->)", re.DOTALL)
    content = readme.read_text(encoding="utf-8")
    readme.write_text(marked.sub(rf"\g<1>{text}\n\g<2>", content), encoding="utf-8")
    shutil.copy(demo / "scores.png", ROOT / "docs" / "demo.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
