"""Every command and subcommand: what its help says, and that help imports nothing heavy."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.test_layout import HEAVY
from typer.testing import CliRunner

from edgefiqa.cli import app
from edgefiqa.commands.app import OLD_NAMES
from edgefiqa.commands.choices import LISTS, fill_in, names_of, parse_choice
from edgefiqa.errors import UnknownNameError, UsageError
from edgefiqa.labelling_choices import Engine

ROOT: Any = typer.main.get_command(app)
STUDIES = {
    *("accuracy", "training-speed", "labelling", "teacher-runtimes", "tflite-routes", "startup"),
    *("latency-repeats", "mil-agreement", "mil-conformance", "mil-rows", "arm", "demo-files"),
}


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from walk(child, (*path, name))
        else:
            yield " ".join((*path, name)), child


COMMANDS = dict(walk(ROOT))
EACH = pytest.mark.parametrize("path", COMMANDS)


@cache
def help_of(path: str) -> str:
    """The help as a wide terminal shows it, in one line."""
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, [*path.split(), "--help"])
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def test_the_tree_is_whole() -> None:
    assert len(COMMANDS) > 30
    names = {path.partition(" ")[2] for path in COMMANDS if path.startswith("study ")}
    assert names == STUDIES | {"documents"}


@EACH
def test_the_first_sentence_says_what_it_does_and_the_last_shows_how(path: str) -> None:
    command = COMMANDS[path]
    paragraphs = inspect.cleandoc(command.help).split("\n\n")
    summary = paragraphs[0]
    assert summary.endswith(".") and "\n" not in summary and ". " not in summary
    assert len(summary) <= 100
    shown = help_of(path)
    assert summary in shown
    examples = re.split(r"Examples?:\s", command.help)
    assert len(examples) == 2, "one heading Example or Examples"
    # Nothing but examples follows the heading, and each is of this command.
    quoted = re.findall(r"`([^`]+)`", examples[1])
    assert quoted and re.sub(r"`[^`]+`", "", examples[1]).strip() == ""
    assert all(example.startswith(f"edgefiqa {path}") for example in quoted)


@EACH
def test_every_option_and_argument_is_explained(path: str) -> None:
    for parameter in COMMANDS[path].params:
        text = parameter.help
        assert text, parameter.name
        sentence = re.sub(r"\(.*?\)", "", text)
        assert text[0].isupper() or text[0] in "'2", (parameter.name, text)
        assert sentence.rstrip().endswith("."), (parameter.name, text)
        for mark in re.findall(r"\{(\w+)\}", text):
            assert ", ".join(names_of(mark)) in help_of(path)


@EACH
def test_flags_have_one_spelling(path: str) -> None:
    options = {name: p for p in COMMANDS[path].params for name in (*p.opts, *p.secondary_opts)}
    assert ("--out" in options) == ("-o" in options)
    if "--out" in options:
        assert options["--out"] is options["-o"]
    for name, parameter in options.items():
        assert name not in OLD_NAMES.get(path, {}), f"{name} of {path} is an old spelling"
        if name == "--json":
            assert "Print JSON on standard output" in parameter.help


SHARED = (
    *("--out", "--json", "--labels", "--workers", "--seed", "--limit", "--size", "--photos"),
    *("--policy", "--resamples", "--rounds", "--batch", "--reference", "--threads"),
)


@pytest.mark.parametrize("flag", SHARED)
def test_a_flag_takes_the_same_kind_of_value_everywhere(flag: str) -> None:
    kinds: dict[str, set[str]] = {}
    for path in COMMANDS:
        found = re.search(rf"[│*] {flag} (?:-o )?<(\w+)", help_of(path))
        if found and (flag, path) != ("--threads", "bench latency"):  # takes 1,2,4
            kinds.setdefault(found[1], set()).add(path)
    # A model is a directory, or the word "default".
    allowed = 2 if flag == "--reference" else 1
    assert 1 <= len(kinds) <= allowed, kinds
    assert sum(map(len, kinds.values())) > 1


@pytest.mark.parametrize("path", OLD_NAMES)
def test_old_spellings_work_and_are_not_shown(path: str) -> None:
    command = COMMANDS[path]
    options = {name for parameter in command.params for name in parameter.opts}
    for old, new in OLD_NAMES[path].items():
        assert new in options
        assert f" {old} " not in help_of(path)
        # Without their arguments both fail for the same reason; an unknown option is another.
        outputs = [
            CliRunner(env={"COLUMNS": "300"})
            .invoke(app, [*path.split(), "--unknown-option", option, "1"])
            .output.replace(old, new)
            for option in (old, new)
        ]
        assert outputs[0] == outputs[1]
        assert f"No such option: {old}" not in outputs[0]


def test_an_old_spelling_reaches_the_command(tmp_path: Path) -> None:
    arguments = ["convert", "default", "--to", "onnx", "--out", str(tmp_path), "--photo-limit"]
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, [*arguments, "0"])
    assert done.exit_code == 2
    assert "'--limit'" in done.output
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, [*arguments[:-1], "--photo-limit=0"])
    assert "'--limit'" in done.output


def test_panels_stand_in_the_order_of_the_pipeline() -> None:
    shown = CliRunner(env={"COLUMNS": "120"}).invoke(app, ["--help"]).stdout
    panels = re.findall(r"╭─ (\w+) ─", shown)
    assert panels == [
        *("Options", "Data", "Train", "Distil", "Convert", "Quantise", "Benchmark", "Android"),
        "Tools",
    ]
    listed = [line.split()[1] for line in shown.splitlines() if re.match(r"│ [a-z]", line)]
    assert listed.index("data") < listed.index("distill") < listed.index("verify")
    assert listed.index("verify") < listed.index("study") < listed.index("demo")
    assert set(listed) == set(ROOT.commands)


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from typer.testing import CliRunner
from edgefiqa.cli import app
for path in {list(COMMANDS)!r}:
    done = CliRunner().invoke(app, [*path.split(), "--help"])
    assert done.exit_code == 0, done.output
    print(path, [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(COMMANDS)
    assert [line for line in lines if not line.endswith(" []")] == []


def test_choices_come_from_their_registries() -> None:
    recipes = "dynamic_w8, mixed_w8a8_srcc, static_w8a8_per_channel, weight_only_w8"
    assert ", ".join(names_of("recipes")) == recipes
    assert fill_in("one of {int8_formats}.") == "one of onnx, tflite, executorch, coreml."
    assert all(names_of(name) for name in LISTS)
    assert parse_choice(Engine, "ray", what="engine") is Engine.RAY
    with pytest.raises(UnknownNameError, match=r"unknown engine: 'spark'. Allowed: local, ray"):
        parse_choice(Engine, "spark", what="engine")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["study", "accuracy", "SET", "--out", "record.txt"], "a name ending in .json"),
        (["study", "accuracy", "SET", "--out", "r.json", "--model", "default"], "NAME=PATH"),
        (["study", "tflite-routes", "a.tflite"], "two files"),
        (["study", "mil-conformance", "--precision", "fp8"], "fp16, fp32, both"),
        (["study", "arm", "x", "--root", "r", "-o", "o", "--processor", "m1"], "cortex-a53"),
        (["study", "documents", "--demo", "runs/demo"], "--demo and --run"),
    ],
)
def test_a_study_says_what_is_wrong_in_one_line(
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from edgefiqa.cli import main

    monkeypatch.setattr(sys, "argv", ["edgefiqa", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code == UsageError.exit_code
    (line,) = shown.err.splitlines()
    assert line.startswith("error: ") and named in line


def test_json_is_all_that_standard_output_gets(tmp_path: Path) -> None:
    """Of the commands that need no model; those that do are tested with theirs."""
    (tmp_path / "empty.so").write_bytes(b"\x7fELF")
    done = CliRunner().invoke(app, ["android", "check-apk", "--json", str(tmp_path / "empty.so")])
    assert isinstance(json.loads(done.stdout), dict)
