"""The command ``edgefiqa``: registers what is in ``edgefiqa.commands``, and reports faults."""

import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer

from edgefiqa import __version__
from edgefiqa.commands import (
    android,
    bench,
    convert,
    data,
    distill,
    measure,
    quantize,
    study_files,
    study_mil,
    study_models,
    tools,
    train,
)
from edgefiqa.commands.app import Command, Group
from edgefiqa.commands.terminal import say
from edgefiqa.errors import EdgeFiqaError

__all__ = ["app", "main"]

_HELP = "Train, convert and verify small face image quality scorers for phones and edge devices."


class _Panel(StrEnum):
    """The panels of ``edgefiqa --help``, in the pipeline's order."""

    DATA = "Data"
    TRAIN = "Train"
    DISTIL = "Distil"
    CONVERT = "Convert"
    QUANTISE = "Quantise"
    BENCHMARK = "Benchmark"
    ANDROID = "Android"
    TOOLS = "Tools"


_GROUPS = {
    "data": "Check photographs and labels, and build the image sets that training reads.",
    "distill": "Train a teacher with pseudo-labels and distil a student from it.",
    "bench": "Measure how long exported files take to score an image.",
    "study": "Run one of the studies behind the tables of the documents.",
    "android": "Check files that are built for Android devices.",
}
_COMMANDS: tuple[tuple[str, Callable[..., None], _Panel], ...] = (
    ("data check", data.check, _Panel.DATA),
    ("data pack", data.pack, _Panel.DATA),
    ("data degrade", data.degrade, _Panel.DATA),
    ("train", train.train, _Panel.TRAIN),
    ("label", train.label, _Panel.TRAIN),
    ("distill run", distill.run, _Panel.DISTIL),
    ("distill ablation", distill.ablation, _Panel.DISTIL),
    ("import", convert.import_, _Panel.CONVERT),
    ("convert", convert.convert, _Panel.CONVERT),
    ("verify", convert.verify, _Panel.CONVERT),
    ("quantize", quantize.quantize, _Panel.QUANTISE),
    ("bench latency", bench.latency, _Panel.BENCHMARK),
    ("drift", measure.drift, _Panel.BENCHMARK),
    ("waterfall", measure.waterfall, _Panel.BENCHMARK),
    ("layers", measure.layers, _Panel.BENCHMARK),
    ("gate", measure.gate, _Panel.BENCHMARK),
    ("compare", measure.compare, _Panel.BENCHMARK),
    ("report", measure.report, _Panel.BENCHMARK),
    ("study accuracy", study_models.accuracy, _Panel.BENCHMARK),
    ("study training-speed", study_models.training_speed, _Panel.BENCHMARK),
    ("study labelling", study_models.labelling, _Panel.BENCHMARK),
    ("study teacher-runtimes", study_models.teacher_runtimes, _Panel.BENCHMARK),
    ("study tflite-routes", study_files.tflite_routes, _Panel.BENCHMARK),
    ("study startup", study_files.startup, _Panel.BENCHMARK),
    ("study latency-repeats", study_files.latency_repeats, _Panel.BENCHMARK),
    ("study arm", study_files.arm, _Panel.BENCHMARK),
    ("study demo-files", study_files.demo_files, _Panel.BENCHMARK),
    ("study mil-agreement", study_mil.agreement, _Panel.BENCHMARK),
    ("study mil-conformance", study_mil.conformance, _Panel.BENCHMARK),
    ("study mil-rows", study_mil.rows, _Panel.BENCHMARK),
    ("study documents", study_files.documents, _Panel.BENCHMARK),
    ("android check-apk", android.check_apk, _Panel.ANDROID),
    ("bundle", android.bundle, _Panel.ANDROID),
    ("score", tools.score, _Panel.TOOLS),
    ("models", tools.models, _Panel.TOOLS),
    ("demo", tools.demo, _Panel.TOOLS),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgefiqa {__version__}")
        raise typer.Exit


def _root(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error; allowed anywhere."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Hold the options that stand before a command; `main` reads ``--debug`` itself."""


class _Root(Group):
    order = tuple(dict.fromkeys(name.partition(" ")[0] for name, _, _ in _COMMANDS))


def _typer(help_text: str, **settings: Any) -> typer.Typer:
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def _build_app() -> typer.Typer:
    root = _typer(_HELP, cls=_Root)
    root.callback(help=_HELP)(_root)
    groups: dict[str, typer.Typer] = {}
    for path, function, panel in _COMMANDS:
        group, _, name = path.rpartition(" ")
        if not group:
            root.command(name, cls=Command, rich_help_panel=panel)(function)
            continue
        if group not in groups:
            groups[group] = _typer(_GROUPS[group])
            root.add_typer(groups[group], name=group, rich_help_panel=panel)
        groups[group].command(name, cls=Command)(function)
    return root


app = _build_app()


def _fail(text: str, code: int) -> NoReturn:
    say(f"error: {text}")
    sys.exit(code)


def main() -> None:
    """Run the command line; every expected fault is one line and an exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(arguments, prog_name="edgefiqa")
    except EdgeFiqaError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if debug:
            raise
        _fail(
            f"internal fault ({type(error).__name__}: {error}). Next: run it with --debug and "
            "report the traceback",
            1,
        )
