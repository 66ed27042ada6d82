"""A real sshd on the loopback, and machines without edgefiqa behind it."""

import getpass
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Server:
    """A running sshd.

    Attributes:
        url: As ``--target`` takes it.
        options: What makes ssh find its key and trust the server's.
    """

    url: str
    options: tuple[str, ...]

    def with_option(self, option: str) -> "Server":
        name = option.partition("=")[0]
        kept = tuple(
            kept_option for kept_option in self.options if kept_option.partition("=")[0] != name
        )
        return replace(self, options=(option, *kept))


def find_sshd() -> str | None:
    """Return the path of sshd, which is seldom on a user's PATH."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def make_key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


@contextmanager
def running_sshd(folder: Path) -> Iterator[Server]:
    sshd = find_sshd()
    assert sshd is not None
    port, user = free_port(), getpass.getuser()
    host_key, key = make_key(folder / "host_key"), make_key(folder / "key")
    shutil.copyfile(f"{key}.pub", folder / "authorized_keys")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    kind, value, *_ = Path(f"{host_key}.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {value}\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            [sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log
        )
    try:
        _wait(port, process)
        options = (
            f"IdentityFile={key}",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={folder / 'known_hosts'}",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
        )
        yield Server(f"ssh://{user}@127.0.0.1:{port}", options)
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, "sshd did not start"
        time.sleep(0.1)
    raise AssertionError("sshd does not answer")


def make_python(folder: Path, packages: tuple[str, ...]) -> Path:
    """Make an interpreter that sees these packages and nothing else.

    Args:
        folder: For its virtual environment.
        packages: Import names; ``PIL`` brings ``pillow``'s files.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in packages:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        place = Path(spec.origin).parent.parent
        names = {package.lower(), "pillow" if package == "PIL" else package.lower()}
        for entry in place.iterdir():
            if entry.name.lower().partition("-")[0].partition(".")[0] in names:
                (site / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def make_faulty(path: Path, python: Path, script: str) -> Path:
    """Wrap an interpreter in a shell script that may do something else before it."""
    path.write_text(f'#!/bin/sh\n{script}\nexec {python} "$@"\n')
    path.chmod(0o755)
    return path
