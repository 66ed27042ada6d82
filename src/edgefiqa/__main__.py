"""``python -m edgefiqa``."""

from edgefiqa.cli import main

main()
