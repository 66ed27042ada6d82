"""Print a manifest as the Android build merges it: ``merge_manifest.py FILE APPLICATION_ID``."""

import sys
from pathlib import Path
from xml.etree import ElementTree

TOOLS = "http://schemas.android.com/tools"
ANDROID = "http://schemas.android.com/apk/res/android"


def merge(text: str, application_id: str) -> str:
    """Fill in the application id and drop the elements that ``tools:node="remove"`` names."""
    ElementTree.register_namespace("android", ANDROID)
    root = ElementTree.fromstring(text.replace("${applicationId}", application_id))
    root.set("package", application_id)
    for element in [child for child in root if child.get(f"{{{TOOLS}}}node") == "remove"]:
        root.remove(element)
    return ElementTree.tostring(root, encoding="unicode")


if __name__ == "__main__":
    sys.stdout.write(merge(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2]))
