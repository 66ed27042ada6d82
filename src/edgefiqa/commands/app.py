"""How a function becomes a command: live lists in its help, old option names, the table's order."""

from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand, TyperGroup

from edgefiqa.commands.choices import fill_in

__all__ = ["OLD_NAMES", "Command", "Group"]

OLD_NAMES: Mapping[str, Mapping[str, str]] = {
    "convert": {"--photo-limit": "--limit"},
    "data check": {"--range": "--score-range"},
    "demo": {"--faces": "--photos"},
    "study training-speed": {"--count": "--limit"},
    "study mil-agreement": {"--faces": "--photos", "--count": "--limit"},
    "study mil-rows": {"--images": "--limit"},
}
"""Command → option of an earlier version → its name now. Old names work and are not in any help."""


class Command(TyperCommand):
    """A command as `edgefiqa.cli` registers it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments after old option names became the new ones."""
        renamed = OLD_NAMES.get(ctx.command_path.partition(" ")[2], {})
        return super().parse_args(ctx, [_rename(text, renamed) for text in args])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text with the names that registries hold now."""
        for parameter in self.params:
            text = getattr(parameter, "help", None)
            if text:
                parameter.help = fill_in(text)  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """A group whose help lists commands in the order of the table, not commands before groups."""

    order: tuple[str, ...] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, those of ``order`` first and in that order."""
        names = super().list_commands(ctx)
        return [name for name in self.order if name in names] + [
            name for name in names if name not in self.order
        ]


def _rename(text: str, renamed: Mapping[str, str]) -> str:
    option, equals, value = text.partition("=")
    return f"{renamed.get(option, option)}{equals}{value}"
