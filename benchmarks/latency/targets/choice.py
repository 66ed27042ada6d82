"""Which target an option of the command line means."""

from collections.abc import Sequence
from pathlib import Path

from edgefiqa.benchmarks.latency.targets.adb import AdbTarget
from edgefiqa.benchmarks.latency.targets.base import LatencyTarget
from edgefiqa.benchmarks.latency.targets.host import HOST, HostTarget
from edgefiqa.benchmarks.latency.targets.ssh import SshTarget
from edgefiqa.benchmarks.latency.targets.tool import ToolTarget
from edgefiqa.benchmarks.latency.targets.tool_output import TOOLS
from edgefiqa.errors import UnknownNameError, UsageError

__all__ = ["open_target", "parse_tool"]

_ADB = "adb"


def open_target(
    name: str, *, python: str | None = None, ssh_options: Sequence[str] = ()
) -> LatencyTarget:
    """Return the target of a name.

    Args:
        name: "host", ``ssh://[user@]host[:port][/folder]``, "adb" or ``adb:SERIAL``.
        python: The remote machine's Python; ssh only.
        ssh_options: More of ssh's options, each ``NAME=VALUE``; ssh only.

    Raises:
        UnknownNameError: There is no such target.
        UsageError: It is not written as it must be, or takes no such option.
    """
    if name.startswith("ssh://"):
        return SshTarget(name, python=python or "python3", options=ssh_options)
    if python or ssh_options:
        what = "--python and --ssh-option are for ssh targets"
        raise UsageError(what, value=name, allowed="--target ssh://[user@]host")
    if name == HOST:
        return HostTarget()
    kind, colon, serial = name.partition(":")
    if kind == _ADB and bool(colon) == bool(serial):
        return AdbTarget(serial or None)
    allowed = "host, ssh://[user@]host[:port][/folder], adb, adb:SERIAL"
    raise UnknownNameError("unknown target", value=repr(name), allowed=allowed)


def parse_tool(text: str) -> ToolTarget:
    """Return the target of an external tool.

    Args:
        text: ``NAME=PATH``.

    Raises:
        UnknownNameError: There is no such tool.
        UsageError: It is not written so, or there is no such program.
    """
    name, equals, path = text.partition("=")
    if not equals or not path:
        what, allowed = "this is no tool", ", ".join(f"{tool}=PATH" for tool in TOOLS)
        raise UsageError(what, value=text, allowed=allowed)
    if name not in TOOLS:
        raise UnknownNameError("unknown tool", value=repr(name), allowed=", ".join(TOOLS))
    return ToolTarget(TOOLS[name], Path(path))
