"""``python -m edgefiqa``."""

from edgefiqa.cli import main

if __name__ == "__main__":
    main()
