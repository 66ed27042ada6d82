"""Who may import whom: the core no stage, stages only earlier ones, and only their public names.

What counts: imports at the top and inside functions, those for types, ``module:name`` in tables.
For cycles, imports for types are left out, as no program executes them, but not in a package that
attaches its names lazily: its list of types is what it imports at run time.
"""

import ast
import graphlib
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def load_script(path: Path) -> ModuleType:
    """Import a script of the checkout without running it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


architecture = load_script(ROOT / "scripts" / "draw_architecture.py")
STAGES = tuple(architecture.STAGES)
MODULES: dict[str, Path] = architecture.list_modules()
IMPORTS = architecture.read_imports()
EARLIER = {
    "train": (),
    "distill": ("train",),
    "convert": (),
    "quantize": ("convert",),
    "benchmarks": ("train", "distill", "convert", "quantize"),
    **dict.fromkeys(architecture.APPLICATIONS, STAGES),
}
"""Room → the stages whose public names it may import; every other room is the core."""

MOST_MODULES = 16
LARGER = {
    "src/edgefiqa": "the foundations: each is one thing that every room imports by its name",
    "quantize": "one module a step, named in the order of the README",
    "train": "one loop, and the parts that recipes choose from by name",
}
"""Folders of more modules, and why they are one folder."""


def public_names(path: Path) -> set[str]:
    """Return the names of a package that attaches them lazily; other packages have none."""
    source = path.read_text()
    if path.name != "__init__.py" or "lazy.attach(" not in source:
        return set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{path} has no __all__")


PUBLIC = {
    f"{module}.{name}"
    for module, path in MODULES.items()
    if architecture.room_of(module) in STAGES
    for name in public_names(path)
}


def fault(found: Any) -> str | None:
    """Say what is wrong with an import of a stage; None if it is allowed."""
    target = f"{found.module}.{found.name}" if found.name else found.module
    stage, room = f"{target}.".split(".")[1], architecture.room_of(found.importer)
    # The package's own list of the public API holds functions that are named like stages.
    if stage not in STAGES or stage == room or found.importer == "edgefiqa":
        return None
    if stage not in EARLIER.get(room, ()):
        return f"{room} may not import {stage}"
    return None if target in PUBLIC else f"{target} is no public name of {stage}"


def faults(imports: list[Any]) -> list[str]:
    return [f"{i.importer}:{i.line}: {text}" for i in imports if (text := fault(i))]


def dependencies(imports: list[Any]) -> dict[str, set[str]]:
    """Return module → the modules that are executed for it, but for the packages they lie in."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in imports:
        if found.for_types and MODULES[found.importer].name != "__init__.py":
            continue
        inner = f"{found.module}.{found.name}"
        target = inner if inner in MODULES else found.module
        # The package imports nothing before it is asked, and a stage the API when it is called.
        if target not in ("edgefiqa", "edgefiqa.api"):
            graph[found.importer].add(target)
    return graph


def test_stages_and_core_import_what_they_may() -> None:
    rooms = {architecture.room_of(found.importer) for found in IMPORTS}
    assert rooms == set(architecture.ROOMS), "the imports of some room were not read"
    assert faults(IMPORTS) == []


@pytest.mark.parametrize(
    ("importer", "line", "message"),
    [
        ("metrics", "from edgefiqa.train import fit", "foundations may not import train"),
        ("measuring.gate", "import edgefiqa.convert", "measuring may not import convert"),
        ("runtimes.onnx", "from edgefiqa import quantize", "runtimes may not import quantize"),
        ("train.loop", "from edgefiqa.distill import distil", "train may not import distill"),
        ("quantize.run", "from edgefiqa.train import fit", "quantize may not import train"),
        ("convert.run", "def f():\n    from edgefiqa.benchmarks import summarise", "convert may"),
        ("distill.run", "from edgefiqa.train.loop import fit", "loop.fit is no public name"),
        ("quantize.run", "import edgefiqa.convert.targets", "targets is no public name"),
        ("cli", "from edgefiqa.convert import _hidden", "_hidden is no public name"),
        ("demo.run", "if TYPE_CHECKING:\n    from edgefiqa.train.loop import fit", "loop.fit is"),
        ("quantize.formats", "X = 'edgefiqa.convert.exporters.onnx:export'", "exporters.onnx.exp"),
        ("benchmarks.drift.run", "from edgefiqa import convert", "edgefiqa.convert is no public"),
    ],
)
def test_a_planted_import_is_found(importer: str, line: str, message: str) -> None:
    (text,) = faults(architecture.read_module(f"edgefiqa.{importer}", line))
    assert message in text


@pytest.mark.parametrize(
    ("importer", "line"),
    [
        ("distill.run", "from edgefiqa.train import fit, LOSSES"),
        ("convert.run", "from edgefiqa.convert.targets import TARGETS"),
        ("benchmarks.studies.labelling", "from edgefiqa.train import fit"),
        ("api", "from edgefiqa.benchmarks import record_drift"),
        ("metrics", "from edgefiqa.errors import UsageError"),
        ("manifest", "from edgefiqa import __version__"),
    ],
)
def test_what_is_allowed(importer: str, line: str) -> None:
    assert faults(architecture.read_module(f"edgefiqa.{importer}", line)) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = dependencies(IMPORTS)
    assert "edgefiqa.convert.run" in graph["edgefiqa.convert"], "lazy names count"
    order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the modules
    assert order.index("edgefiqa.errors") < order.index("edgefiqa.cli")
    planted = architecture.read_module("edgefiqa.errors", "def f():\n    import edgefiqa.cli")
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(dependencies([*IMPORTS, *planted])).prepare()


def test_rooms_have_an_order_too() -> None:
    edges = architecture.rooms_of(IMPORTS)
    order = list(graphlib.TopologicalSorter(edges).static_order())
    assert order[0] == "foundations"


def test_imports_are_absolute() -> None:
    relative = [
        f"{path}:{node.lineno}"
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_folders_are_read_in_one_sitting() -> None:
    count = Counter(
        path.parent.relative_to(ROOT).as_posix()
        for path in MODULES.values()
        if path.name != "__init__.py"
    )
    assert {folder for folder, modules in count.items() if modules > MOST_MODULES} == set(LARGER)


def test_the_picture_and_the_page_are_those_of_the_imports() -> None:
    edges = architecture.rooms_of(IMPORTS)
    hint = "python scripts/draw_architecture.py"
    assert architecture.PICTURE.read_text() == architecture.draw(edges), hint
    page = architecture.PAGE.read_text()
    assert architecture.table(edges) in page, hint
    assert architecture.written_page(page, edges) == page, hint
    changed = {**edges, "train": []}
    assert architecture.draw(changed) != architecture.draw(edges)
    assert architecture.written_page(page, changed) != page


def test_the_page_names_files_that_exist() -> None:
    page = architecture.PAGE.read_text()
    named = [part for part in page.split("`") if "/" in part and " " not in part]
    files = [part for part in named if Path(part).suffix in (".py", ".yaml", ".md", ".kt")]
    assert len(files) > 20
    assert [part for part in files if not list(ROOT.glob(part))] == []
