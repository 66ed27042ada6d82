"""The system's ``ssh``: addresses, commands, and its faults in words."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO
from urllib.parse import unquote, urlsplit

from edgefiqa.errors import EdgeFiqaError, UsageError

__all__ = ["SshAddress", "parse_address", "run_ssh", "ssh_command", "ssh_exit_text"]

_SSH_FAILED = 255  # ssh's exit code; the remote command's is passed on otherwise
_SIGNALLED = 128  # a shell's exit code of a command that a signal ended is this and more
_NOT_FOUND = 127
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*")
_LIMIT_S = 300
_OPTIONS = {
    "BatchMode": "yes",  # a question for a password would wait for ever
    "ConnectTimeout": "15",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
}
_FAULTS = (
    (
        r"Permission denied|Too many authentication failures|No supported authentication",
        "the remote machine does not let us in",
        "make `ssh {to}` work without a password, such as with ssh-copy-id {to}",
    ),
    (
        r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the remote machine's key is not known, or has changed",
        "connect once by hand and check the key: ssh {to}",
    ),
    (
        r"Could not resolve|Name or service not known|refused|timed out|No route|unreachable",
        "the remote machine cannot be reached",
        "check its name, its port and the network",
    ),
)


@dataclass(frozen=True, kw_only=True)
class SshAddress:
    """Where ssh goes.

    Attributes:
        host: Name or address.
        user: None takes ssh's configuration.
        port: None takes ssh's configuration.
        folder: Where files are put; None takes the remote machine's folder for temporary files.
    """

    host: str
    user: str | None = None
    port: int | None = None
    folder: str | None = None

    @property
    def destination(self) -> str:
        """As ssh takes it: ``user@host``."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def url(self) -> str:
        """As records name it; without the folder, which changes nothing."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"ssh://{user}{host}" + (f":{self.port}" if self.port else "")


def parse_address(url: str) -> SshAddress:
    """Read ``ssh://[user@]host[:port][/folder]``.

    Raises:
        UsageError: It is none.
    """
    what, allowed = "this is no address for ssh", "ssh://[user@]host[:port][/folder]"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(what, value=url, allowed=allowed) from error
    host, user = parts.hostname or "", unquote(parts.username or "")
    if parts.password is not None:
        next_step = "set up a key; ssh is never given a password here"
        raise UsageError(what, value="it holds a password", allowed=allowed, next_step=next_step)
    if parts.scheme != "ssh" or parts.query or parts.fragment or not _NAME.fullmatch(host):
        raise UsageError(what, value=url, allowed=allowed)
    if parts.username is not None and not _NAME.fullmatch(user):
        raise UsageError(what, value=url, allowed=allowed)
    folder = unquote(parts.path).rstrip("/") or None
    return SshAddress(host=host, user=user or None, port=port, folder=folder)


def ssh_command(address: SshAddress, options: Sequence[str], script: str) -> list[str]:
    """Return the command that runs a POSIX shell script on the remote machine.

    Args:
        address: Where.
        options: More of ssh's options, each ``NAME=VALUE``; they come first, so they prevail.
        script: What runs, whatever the login shell is.
    """
    chosen = [*options, *(f"{name}={value}" for name, value in _OPTIONS.items())]
    port = ["-p", str(address.port)] if address.port else []
    flags = [word for option in chosen for word in ("-o", option)]
    # The remote shell reports a command that a signal ended; ssh alone would hide that behind 255.
    return ["ssh", "-T", *flags, *port, address.destination, f"sh -c {shlex.quote(script)}"]


def ssh_exit_text(code: int) -> str:
    """Say how a command on the remote machine ended, from ssh's exit code."""
    if code == _SSH_FAILED:
        return "the connection broke"
    if code < 0:
        return f"ssh ended by signal {-code}"
    return f"signal {code - _SIGNALLED}" if code > _SIGNALLED else f"exit code {code}"


def run_ssh(
    address: SshAddress,
    options: Sequence[str],
    script: str,
    *,
    write: Callable[[IO[bytes]], object] = lambda stream: None,
) -> str:
    """Run a script on the remote machine and return what it printed.

    Args:
        address: Where.
        options: As in `ssh_command`.
        script: What runs.
        write: Writes its standard input.

    Raises:
        UsageError: There is no ssh here.
        EdgeFiqaError: The machine cannot be reached, does not let us in, or the script failed.
    """
    if shutil.which("ssh") is None:
        raise UsageError("there is no ssh on this machine", next_step="install OpenSSH's client")
    command = ssh_command(address, options, script)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it stopped reading; what it printed says why
            write(process.stdin)
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdin = None
        try:
            output, errors = process.communicate(timeout=_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise EdgeFiqaError("no answer from the remote machine", value=address.url) from None
    if process.returncode:
        raise _fault(address, process.returncode, errors.decode(errors="replace"))
    return output.decode(errors="replace")


def _fault(address: SshAddress, code: int, errors: str) -> EdgeFiqaError:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    reason = lines[-1][:300] if lines else ssh_exit_text(code)
    port = f"-p {address.port} " if address.port else ""
    if code == _SSH_FAILED:
        for pattern, what, next_step in _FAULTS:
            if re.search(pattern, errors):
                step = next_step.format(to=port + address.destination)
                return EdgeFiqaError(f"{what} ({reason})", value=address.url, next_step=step)
    if code == _NOT_FOUND:
        what, next_step = "there is no such program there", "name its Python with --python"
        return UsageError(f"{what} ({reason})", value=address.url, next_step=next_step)
    return EdgeFiqaError(f"ssh failed ({reason})", value=address.url)
