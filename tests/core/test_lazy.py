"""Packages that import their names on first use, and packages that can be called."""

import importlib
import inspect
import pickle
import pydoc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import edgefiqa
from edgefiqa import lazy

STAGES = ("train", "distill", "convert", "quantize", "benchmarks")
INIT = '''"""A stage."""

from typing import TYPE_CHECKING

from edgefiqa import lazy

if TYPE_CHECKING:
    import fractions

    from {name}.heavy import Engine, build as build_engine
    from {name}.light import LIMIT
    from {name}.missing import gone
    from {name}.run import other as run

__all__ = ["LIMIT", "Engine", "build_engine", "gone", "run"]

OPEN = True
if not TYPE_CHECKING:
    __getattr__ = lazy.attach(__name__)
'''
MODULES = {
    "heavy": "class Engine:\n    pass\n\n\ndef build():\n    return Engine()\n",
    "light": "LIMIT = 3\n",
    "run": "def other():\n    return 'not the submodule'\n",
}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An imported package of its own name, none of whose modules is imported yet."""
    name = f"stage_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text(INIT.format(name=name))
    for module, text in MODULES.items():
        (folder / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    for loaded in [known for known in sys.modules if known.partition(".")[0] == name]:
        del sys.modules[loaded]


def loaded(stage: Any) -> set[str]:
    prefix = f"{stage.__name__}."
    return {name.removeprefix(prefix) for name in sys.modules if name.startswith(prefix)}


def test_a_name_imports_its_module_and_no_other(stage: Any) -> None:
    assert loaded(stage) == set()
    assert stage.LIMIT == 3
    assert loaded(stage) == {"light"}
    assert isinstance(stage.build_engine(), stage.Engine)
    assert loaded(stage) == {"light", "heavy"}


def test_a_name_is_looked_up_once(stage: Any) -> None:
    first = stage.build_engine
    assert vars(stage)["build_engine"] is first
    assert "Engine" not in vars(stage)


def test_names_that_are_not_listed(stage: Any) -> None:
    # `build` is listed under another name, `fractions` is imported for types only.
    for name in ("build", "fractions", "nothing", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"module '{stage.__name__}' .*'{name}'"):
            getattr(stage, name)
        assert not hasattr(stage, name)
    assert loaded(stage) == set()


def test_a_module_that_is_missing_is_named(stage: Any) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"{stage.__name__}.missing"):
        _ = stage.gone


def test_dir_lists_the_names_without_importing_them(stage: Any) -> None:
    assert set(stage.__all__) <= set(dir(stage))
    assert {"OPEN", "__name__"} <= set(dir(stage))
    assert "build" not in dir(stage)
    assert dir(stage) == sorted(set(dir(stage)))
    assert loaded(stage) == set()


@pytest.mark.parametrize("import_first", [False, True])
def test_a_name_that_is_a_submodule_is_the_submodule(stage: Any, *, import_first: bool) -> None:
    if import_first:
        importlib.import_module(f"{stage.__name__}.run")
    assert stage.run is sys.modules[f"{stage.__name__}.run"]
    assert stage.run.other() == "not the submodule"


def test_functions_of_a_lazy_package_are_pickled(stage: Any) -> None:
    assert pickle.loads(pickle.dumps(stage.build_engine)) is stage.build_engine


def test_a_package_can_be_made_callable(stage: Any) -> None:
    lazy.make_callable(stage.__name__, f"{stage.__name__}.heavy:build")
    assert loaded(stage) == set()
    assert type(stage()).__name__ == "Engine"
    assert str(inspect.signature(stage)) == "()"
    assert pickle.loads(pickle.dumps(stage)) is stage
    with pytest.raises(TypeError, match=r"build\(\)"):
        stage(1)
    assert stage.LIMIT == 3
    assert isinstance(stage, ModuleType)


def test_help_on_a_callable_package(stage: Any, tmp_path: Path) -> None:
    (Path(stage.__path__[0]) / "doing.py").write_text(
        'def do(what: int) -> str:\n    """Do it.\n\n    At once.\n    """\n'
    )
    lazy.make_callable(stage.__name__, f"{stage.__name__}.doing:do")
    doc = inspect.getdoc(stage)
    assert doc == f"A stage.\n\n{stage.__name__}(what: int) -> str\n\nDo it.\n\nAt once."
    stage.__dict__["__dir__"] = lambda: ["__doc__", "__name__"]  # without the missing module
    assert "At once." in pydoc.plain(pydoc.render_doc(stage))


@pytest.mark.parametrize("name", STAGES)
def test_every_public_name_of_a_stage_exists(name: str) -> None:
    stage = importlib.import_module(f"edgefiqa.{name}")
    listed = lazy._listed(inspect.getsource(stage))
    assert sorted(listed) == sorted(stage.__all__)
    assert set(stage.__all__) <= set(dir(stage))
    for public, (module, attribute) in listed.items():
        assert module.startswith(f"edgefiqa.{name}."), public
        spec = importlib.util.find_spec(f"edgefiqa.{name}.{public}")
        assert spec is None, f"{public} is hidden by the module of that name"
        origin = importlib.util.find_spec(module)
        assert origin is not None and origin.origin is not None, module
        assert attribute in Path(origin.origin).read_text(), f"{module} has no {attribute}"


def test_the_public_names_of_edgefiqa() -> None:
    listed = lazy._listed(inspect.getsource(edgefiqa))
    assert sorted([*listed, "__version__"]) == edgefiqa.__all__
    packages = [name for name in listed if importlib.util.find_spec(f"edgefiqa.{name}")]
    assert sorted(packages) == ["convert", "quantize"]
    for name in packages:
        assert callable(getattr(edgefiqa, name)), f"edgefiqa.{name} hides a function"


def test_importing_the_stages_imports_nothing_heavy() -> None:
    code = "".join(f"import edgefiqa.{name}\n" for name in STAGES) + "import sys\n"
    code += "print([name for name in ('numpy', 'torch', 'tensorflow') if name in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
