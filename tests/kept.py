"""What takes long to make and several tests read: made once, for all workers and later runs.

It is kept outside the checkout, under a name that is the hash of everything that goes into it: the
sources of the packages that make it, the pinned packages, the weights, this Python, this processor
and the parameters. ``EDGEFIQA_TEST_CACHE=off`` makes everything anew, once a run;
`make clean-test-cache` removes what was kept.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from filelock import FileLock

__all__ = ["identity_of", "keep"]

ROOT = Path(__file__).parent.parent
CORE = ROOT / "src" / "edgefiqa"
STAGES = ("train", "distill", "convert", "quantize", "benchmarks")
LIMIT = 12  # artefacts that stay; the oldest go


def keep(
    name: str,
    make: Callable[[Path], None],
    *,
    stages: Iterable[str],
    parameters: object,
    of_this_run: Path,
) -> Path:
    """Return a directory with an artefact, made now or kept from before. Only to be read.

    Args:
        name: What it is called.
        make: Writes it into the directory that it is given, which does not exist yet.
        stages: Folders at the root whose code makes it, besides the core.
        parameters: Everything else that decides what is made; JSON can hold it. With the sources
            of the test files that `make` is made of.
        of_this_run: A folder that all workers of this run share, for where nothing is kept.
    """
    key = _key(name, tuple(sorted(stages)), json.dumps(parameters, sort_keys=True, default=str))
    off = os.environ.get("EDGEFIQA_TEST_CACHE") == "off"
    home = of_this_run if off else _home()
    home.mkdir(parents=True, exist_ok=True)
    out = home / f"{name}-{key}"
    with FileLock(home / f"{name}-{key}.lock"):
        if not out.exists():
            # Made elsewhere and renamed: what is there is whole.
            with tempfile.TemporaryDirectory(prefix=".making-", dir=home) as making:
                make(Path(making) / name)
                (Path(making) / name).rename(out)
        os.utime(out)
    if not off:
        _forget_the_oldest(home, out)
    return out


def _home() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgefiqa"
    return Path(os.environ.get("EDGEFIQA_CACHE") or default) / "tests"


def _forget_the_oldest(home: Path, used: Path) -> None:
    day = 24 * 3600
    kept = sorted(
        (path for path in home.iterdir() if path.is_dir() and not path.name.startswith(".")),
        key=lambda path: path.stat().st_mtime,
    )
    for path in kept[:-LIMIT]:
        # Another run may read what is younger.
        if path.stat().st_mtime < used.stat().st_mtime - day:
            shutil.rmtree(path, ignore_errors=True)
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


def _key(name: str, stages: tuple[str, ...], parameters: str) -> str:
    machine = [sys.version, platform.machine(), _processor()]
    stated = json.dumps([name, stages, parameters, machine, _sources(stages)])
    return hashlib.sha256(stated.encode()).hexdigest()[:24]


@cache
def _sources(stages: tuple[str, ...]) -> str:
    """Hash the core, its weights, the stages, the pinned packages and what is shared by tests."""
    unwanted = set(STAGES)
    roots = [path for path in CORE.iterdir() if path.name not in unwanted]
    roots += [ROOT / stage for stage in stages] + [ROOT / "constraints.txt", Path(__file__)]
    return identity_of(roots)


def identity_of(paths: Iterable[Path]) -> str:
    """Hash the names and contents of files, and of all files below folders."""
    found = hashlib.sha256()
    for path in sorted(paths):
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                found.update(f"{path.name}/{file.relative_to(path)} {content}\n".encode())
    return found.hexdigest()


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())
