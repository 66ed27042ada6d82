"""Draw docs/architecture.svg from the imports, and write the table of docs/architecture.md.

Each module belongs to a room: a stage, an application, or a part of the core. An arrow goes from
the room that imports to the one that is imported. tests/test_borders.py judges the same imports.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
MARK = "imports"

APPLICATIONS = {
    "cli": "registers the commands",
    "commands": "edgefiqa COMMAND",
    "demo": "all steps, a few photos",
    "api": "edgefiqa.load, convert …",
}
STAGES = {
    "train": "labels → weights",
    "distill": "corpus → student",
    "convert": "weights → files",
    "quantize": "files → INT8 files",
    "benchmarks": "files → records, report",
}
CORE = {
    "data": "labels, image sets",
    "models": "networks, cards",
    "runtimes": "run a scorer file",
    "exports": "manifest, goldens, verify",
    "measuring": "records, figures, policies",
}
FOUNDATIONS = "foundations"
"""The modules beside `edgefiqa.errors`; those named in `EXPORTS` are a room of their own."""
EXPORTS = ("bundling", "goldens", "manifest", "page_alignment", "verify")
ROOMS = (*APPLICATIONS, *STAGES, *reversed(CORE), FOUNDATIONS)

_TARGET = re.compile(r"(edgefiqa(?:\.\w+)+):(\w+)")
"""``module:name``: how tables name what is imported when it is used."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """One name that a module imports.

    Attributes:
        importer: The module, "edgefiqa.quantize.run".
        module: What it imports from, "edgefiqa.convert".
        name: What it imports; None for ``import edgefiqa.convert``.
        line: The line.
        for_types: Whether only type checkers execute it.
    """

    importer: str
    module: str
    name: str | None
    line: int
    for_types: bool = False


def _found(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    match node:
        case ast.ImportFrom(module=str(module), names=names):
            yield from ((module, alias.name) for alias in names)
        case ast.Import(names=names):
            yield from ((alias.name, None) for alias in names)
        case ast.Constant(value=str(text)) if found := _TARGET.fullmatch(text):
            yield found[1], found[2]


def read_module(importer: str, source: str) -> list[Import]:
    """List what one module imports from edgefiqa, inside functions and from tables too."""
    imports: list[Import] = []

    def visit(node: ast.AST, *, for_types: bool) -> None:
        for_types |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        imports.extend(
            Import(
                importer=importer,
                module=module,
                name=name,
                line=getattr(node, "lineno", 0),
                for_types=for_types,
            )
            for module, name in _found(node)
            if module.partition(".")[0] == "edgefiqa"
        )
        for child in ast.iter_child_nodes(node):
            visit(child, for_types=for_types)

    visit(ast.parse(source), for_types=False)
    return imports


def list_modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the modules of edgefiqa: dotted name → file."""
    core = root / "src" / "edgefiqa"
    # The stages' links are left out: each file is read once, where it lies.
    files = {path.relative_to(core): path for path in sorted(core.rglob("*.py"))}
    files = {name: path for name, path in files.items() if name.parts[0] not in STAGES}
    for stage in STAGES:
        files |= {path.relative_to(root): path for path in sorted((root / stage).rglob("*.py"))}
    modules = {}
    for name, path in files.items():
        parts = name.with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        modules[".".join(("edgefiqa", *parts))] = path
    return modules


def read_imports(root: Path = ROOT) -> list[Import]:
    """List all imports between the modules of edgefiqa."""
    return [
        found
        for module, path in list_modules(root).items()
        for found in read_module(module, path.read_text(encoding="utf-8"))
    ]


def room_of(module: str) -> str:
    """Return the room of a module; the package itself is the face of its public API."""
    parts = module.split(".")
    first = parts[1] if len(parts) > 1 else "api"
    if first in EXPORTS:
        return "exports"
    if first == "__main__":
        return "cli"
    return first if first in ROOMS else FOUNDATIONS


def rooms_of(imports: list[Import]) -> dict[str, list[str]]:
    """Return room → the rooms that it imports from, in the order of `ROOMS`."""
    edges = set()
    for found in imports:
        module = f"{found.module}.{found.name}" if found.module == "edgefiqa" else found.module
        # `edgefiqa.__version__`, and the hook that lets a stage be called, tie nobody to the API.
        if module.split(".")[1:2] not in (["__version__"], ["api"], ["None"]):
            edges.add((room_of(found.importer), room_of(module)))
    return {
        room: [other for other in ROOMS if (room, other) in edges and other != room]
        for room in ROOMS
    }


# --- the picture

WIDTH, MARGIN, BOX, GAP, LINE = 1000, 24, 168, 18, 15
INSIDE = MARGIN + 20  # where the first box of a row begins
STYLE = """
text { font: 13px system-ui, 'DejaVu Sans', sans-serif; fill: #1f2933; }
.name { font-weight: 600; font-size: 15px; }
.band { font-weight: 600; fill: #52606d; }
.small { font-size: 11.5px; fill: #3e4c59; }
.arrow { fill: none; stroke: #334e68; stroke-width: 1.6; marker-end: url(#tip); }
""".strip()
COLOURS = {"applications": "#fff3d6", "stages": "#dcefe3", "core": "#dce8f7"}


def _text(x: float, y: float, text: str, kind: str = "small", anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, fill: str, stroke: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" '
        f'fill="{fill}" stroke="{stroke}"/>'
    )


def _contents(
    rooms: dict[str, str], edges: dict[str, list[str]], others: dict[str, tuple[str, ...]]
) -> dict[str, list[str]]:
    """Return the lines below each room's title: what it does, what it imports from other rows."""
    contents = {}
    for room, purpose in rooms.items():
        contents[room] = [purpose]
        for title, group in others.items():
            found = [other for other in edges[room] if other in group]
            contents[room] += _wrapped(f"{title}: {', '.join(found)}") if found else []
    return contents


def _band(
    title: str,
    colour: str,
    rooms: dict[str, str],
    edges: dict[str, list[str]],
    top: float,
    others: dict[str, tuple[str, ...]],
) -> tuple[list[str], float]:
    """Draw one row of rooms, with arrows between them; return its elements and where it ends.

    Args:
        title: What the rooms are.
        colour: Fill of the boxes.
        rooms: Room → what it does.
        edges: See `rooms_of`.
        top: Where the row begins.
        others: Title of a line in each box → rooms outside this row that it lists.
    """
    names, contents = list(rooms), _contents(rooms, edges, others)
    arcs = [(one, other) for one in names for other in edges[one] if other in rooms]
    reach = max((abs(names.index(one) - names.index(other)) for one, other in arcs), default=0)
    boxes = top + 28 + (17 * reach if reach else 0)
    height = 35 + LINE * max(len(lines) for lines in contents.values())
    bottom = boxes + height + 16
    drawn = [
        _rectangle(MARGIN, top, WIDTH - 2 * MARGIN, bottom - top, "#f7f9fb", "#cbd2d9"),
        _text(INSIDE, top + 22, title, "band", "start"),
    ]
    for column, name in enumerate(names):
        left = INSIDE + column * (BOX + GAP)
        drawn.append(_rectangle(left, boxes, BOX, height, colour, "#829ab1"))
        drawn.append(_text(left + BOX / 2, boxes + 21, name, "name"))
        drawn += [
            _text(left + BOX / 2, boxes + 40 + LINE * row, line)
            for row, line in enumerate(contents[name])
        ]
    drawn += [_arc(names.index(one), names.index(other), boxes) for one, other in arcs]
    return drawn, bottom


def _wrapped(text: str, width: int = 27) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _arc(start: int, end: int, top: float) -> str:
    """Draw an arrow over the boxes from one column to another; longer ones are higher."""
    distance, side = abs(start - end), 1 if end < start else -1
    spread = BOX / 2 - 22 - 14 * (distance - 1)  # longer ones begin nearer to the box's middle
    x1, x2 = (
        INSIDE + column * (BOX + GAP) + BOX / 2 + way * spread
        for column, way in ((start, -side), (end, side))
    )
    high, bend = top - 12 - 17 * (distance - 1), 20 * side
    return (
        f'<path class="arrow" d="M{x1:g},{top:g} Q{x1:g},{high:g} {x1 - bend:g},{high:g} '
        f'L{x2 + bend:g},{high:g} Q{x2:g},{high:g} {x2:g},{top - 1:g}"/>'
    )


def _down(top: float) -> str:
    return f'<path class="arrow" d="M{WIDTH / 2:g},{top:g} L{WIDTH / 2:g},{top + 26:g}"/>'


def _foundations(edges: dict[str, list[str]], top: float) -> list[str]:
    without = [room for room in ROOMS if FOUNDATIONS not in (room, *edges[room])]
    users = f"all rooms but {', '.join(without)}" if without else "every room"
    imported = ", ".join(edges[FOUNDATIONS]) or "nothing else"
    modules = "errors, files, preprocess, metrics, recipe, registry, isolation …"
    return [
        _rectangle(MARGIN, top, WIDTH - 2 * MARGIN, 62, COLOURS["core"], "#829ab1"),
        _text(WIDTH / 2, top + 24, FOUNDATIONS, "name"),
        _text(WIDTH / 2, top + 45, f"{modules}: imported by {users}, import {imported}"),
    ]


def draw(edges: dict[str, list[str]]) -> str:
    """Return the picture as SVG, with a background for dark pages."""
    stages, core = tuple(STAGES), tuple(CORE)
    bands: tuple[tuple[str, str, dict[str, str], dict[str, tuple[str, ...]]], ...] = (
        (
            "Applications: may import every stage's public names",
            COLOURS["applications"],
            APPLICATIONS,
            {"stages": stages, "core": core},
        ),
        (
            "Stages: folders at the root, in the order of the pipeline",
            COLOURS["stages"],
            STAGES,
            {"core": core},
        ),
        ("Core: src/edgefiqa, imports no stage", COLOURS["core"], CORE, {}),
    )
    drawn: list[str] = []
    top: float = MARGIN
    for title, colour, rooms, others in bands:
        elements, bottom = _band(title, colour, rooms, edges, top, others)
        drawn += [*elements, _down(bottom)]
        top = bottom + 28
    drawn += _foundations(edges, top)
    height = top + 62 + MARGIN
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="Rooms of edgefiqa and what they import">\n<style>{STYLE}</style>\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#334e68"/></marker>'
        "</defs>\n"
        f'<rect width="{WIDTH}" height="{height:g}" rx="12" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def table(edges: dict[str, list[str]]) -> str:
    """Return the same as a Markdown table, for readers of text and of diffs."""
    lines = ["| room | imports from |", "| --- | --- |"]
    lines += [f"| {room} | {', '.join(others) or 'nothing'} |" for room, others in edges.items()]
    return "\n".join(lines)


def written_page(page: str, edges: dict[str, list[str]]) -> str:
    """Return the page with its table written anew."""
    begin, end = rf"<!-- {MARK}:begin[^>]*-->\n", rf"<!-- {MARK}:end -->"
    block = re.compile(f"({begin}).*?({end})", re.DOTALL)
    return block.sub(lambda found: f"{found[1]}{table(edges)}\n{found[2]}", page)


def main() -> None:
    """Write the picture and the page's table."""
    edges = rooms_of(read_imports())
    PICTURE.write_text(draw(edges), encoding="utf-8")
    PAGE.write_text(written_page(PAGE.read_text(encoding="utf-8"), edges), encoding="utf-8")


if __name__ == "__main__":
    main()
