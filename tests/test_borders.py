"""Who may import whom: the core no stage, stages only earlier ones, and only their public names.

What counts: imports at the top and inside functions, those for types, and ``module:name`` in tables.
For cycles, imports for types are left out, as no program executes them, but not in a package that
attaches its names lazily: its list of types is what it imports at run time.
"""

import ast
import graphlib
from collections import Counter
from pathlib import Path

import pytest
from tests.scripts import SCRIPTS, load_script

architecture = load_script("draw_architecture")
Import, STAGES = architecture.Import, tuple(architecture.STAGES)
MODULES = architecture.list_modules()
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
    "train": "one loop, and the parts that recipes choose from by name",
}
"""Folders of more modules, and why they are one folder."""


def public_names(stage: str) -> set[str]:
    for node in ast.parse(MODULES[f"edgefiqa.{stage}"].read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{stage} has no __all__")


PUBLIC = {stage: public_names(stage) for stage in STAGES}


def fault(found: "architecture.Import") -> str | None:
    """Say what is wrong with an import of a stage; None if it is allowed."""
    path = [*found.module.split("."), *([found.name] if found.name else [])]
    stage, room = (path[1] if len(path) > 1 else ""), architecture.room_of(found.importer)
    # The package's own list of the public API holds functions that are named like stages.
    if stage not in STAGES or stage == room or found.importer == "edgefiqa":
        return None
    if stage not in EARLIER.get(room, ()):
        return f"{room} may not import {stage}"
    if len(path) != 3 or path[2] not in PUBLIC[stage]:
        return f"{'.'.join(path[2:]) or 'the package'} is no public name of edgefiqa.{stage}"
    return None


def faults(imports: list["architecture.Import"]) -> list[str]:
    return [f"{i.importer}:{i.line}: {text}" for i in imports if (text := fault(i))]


def dependencies(imports: list["architecture.Import"]) -> dict[str, set[str]]:
    """Return module → the modules that are executed for it, but for the packages they lie in."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in imports:
        if found.for_types and not MODULES[found.importer].name == "__init__.py":
            continue
        inner = f"{found.module}.{found.name}"
        target = inner if inner in MODULES else found.module
        if target != "edgefiqa":  # its __init__ imports nothing before it is asked
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
        ("benchmarks.drift.run", "from edgefiqa import convert", "the package is no public name"),
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
        ("api", "from edgefiqa.benchmarks import measure_run"),
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
    root = SCRIPTS.parent
    count = Counter(
        path.parent.relative_to(root).as_posix()
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
    root, page = SCRIPTS.parent, architecture.PAGE.read_text()
    named = [part for part in page.split("`") if "/" in part and " " not in part]
    files = [part for part in named if Path(part).suffix in (".py", ".yaml", ".md", ".kt")]
    assert len(files) > 20
    assert [part for part in files if not list(root.glob(part))] == []
