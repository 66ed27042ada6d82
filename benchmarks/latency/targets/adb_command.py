"""The system's ``adb``: commands, and its faults in words."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgefiqa.errors import EdgeFiqaError, UsageError

__all__ = ["Adb", "Instrumentation", "parse_instrumentation"]

_FAULTS = (
    (
        r"unauthori[sz]ed|failed to authenticate",
        "the phone does not let us in",
        "unlock it and accept this computer's key",
    ),
    (
        r"no devices|device '[^']*' not found|device offline|device still connecting",
        "the phone is not there",
        "check the cable and `adb devices`; USB debugging must be on",
    ),
    (
        r"failed to connect|cannot connect|Connection refused|Connection timed out",
        "the phone cannot be reached",
        "check its address; adb over the network must be on",
    ),
    (
        r"more than one",
        "there are several phones",
        "name one with --target adb:SERIAL; `adb devices` lists them",
    ),
    (
        r"No space left",
        "the phone's storage is full",
        "make room in /data/local/tmp",
    ),
)
_LIMIT_S = 300.0
_RESULT = re.compile(r"^INSTRUMENTATION_RESULT: ([^=\s]+)=(.*)$", re.MULTILINE)
_CODE = re.compile(r"^INSTRUMENTATION_CODE: (-?\d+)", re.MULTILINE)
_RESULT_OK = -1  # android.app.Activity.RESULT_OK


class Adb:
    """One phone.

    Args:
        serial: Which; None takes the only one. A ``HOST:PORT`` is connected to first.
    """

    def __init__(self, serial: str | None) -> None:
        self.serial = serial or ""

    def connect(self) -> None:
        """Make sure that the phone answers.

        Raises:
            UsageError: There is no adb here.
            EdgeFiqaError: The phone is not there, or does not let us in.
        """
        if shutil.which("adb") is None:
            next_step = "install Android's platform tools"
            raise UsageError("there is no adb on this machine", next_step=next_step)
        try:
            self._settle()
        except EdgeFiqaError:
            if ":" not in self.serial:
                raise
            with suppress(EdgeFiqaError):  # adb may still hold a connection that broke
                self._call(["disconnect", self.serial], _LIMIT_S)
            self._settle()

    def _settle(self) -> None:
        if ":" in self.serial:
            said = self._call(["connect", self.serial], _LIMIT_S)
            if "connected to" not in said:  # its exit code is 0 all the same
                raise self._fault(said)
        state = self.run("get-state").strip()
        if state != "device":
            raise self._fault(f"device {state}")
        self.serial = self.serial or self.run("get-serialno").strip()

    def run(self, *arguments: str, limit_s: float = _LIMIT_S) -> str:
        """Run an adb command on the phone and return what it printed.

        Raises:
            EdgeFiqaError: It failed.
        """
        which = ["-s", self.serial] if self.serial else []
        return self._call([*which, *arguments], limit_s)

    def shell(self, script: str, *, limit_s: float = _LIMIT_S) -> str:
        """Run a shell script on the phone and return what it printed."""
        return self.run("shell", "-T", script, limit_s=limit_s)

    def push(self, sources: Sequence[Path], folder: str) -> None:
        """Copy files and folders into a folder of the phone."""
        self.run("push", *map(str, sources), f"{folder}/")

    def pull(self, source: str, target: Path) -> None:
        """Copy a file from the phone."""
        self.run("pull", source, str(target))

    def _call(self, arguments: Sequence[str], limit_s: float) -> str:
        try:
            done = subprocess.run(
                ["adb", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            what = f"no answer from the phone in {limit_s:g} s"
            raise EdgeFiqaError(what, value=self.serial or None) from None
        output = done.stdout.decode(errors="replace").replace("\r\n", "\n")
        if done.returncode:
            raise self._fault(done.stderr.decode(errors="replace") + output)
        return output

    def _fault(self, said: str) -> EdgeFiqaError:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        # What adb says first is the fault; below it are hints.
        reason = next((line for line in lines if "daemon" not in line), "no reason given")
        for pattern, what, next_step in _FAULTS:
            if re.search(pattern, said):
                value = self.serial or "adb"
                return EdgeFiqaError(f"{what} ({reason[:200]})", value=value, next_step=next_step)
        return EdgeFiqaError(f"adb failed ({reason[:200]})", value=self.serial or None)


@dataclass(frozen=True, kw_only=True)
class Instrumentation:
    """What ``am instrument -r`` printed.

    Attributes:
        results: Its named results.
        fault: Why there is no answer; empty where there is.
    """

    results: dict[str, str]
    fault: str


def parse_instrumentation(output: str) -> Instrumentation:
    """Read the output of ``am instrument -w -r``.

    A process that dies gives ``shortMsg``, a component that is not there
    ``INSTRUMENTATION_FAILED``, and a phone that went away no code at all.
    """
    results = {name: value.strip() for name, value in _RESULT.findall(output)}
    code = _CODE.search(output)
    fault = ""
    if "shortMsg" in results or "Process crashed" in output:
        fault = f"the agent died: {results.get('longMsg') or results.get('shortMsg', 'no reason')}"
    elif "INSTRUMENTATION_FAILED" in output or "Unable to find instrumentation" in output:
        fault = "the agent is not installed"
    elif code is None:
        fault = "the phone went away before the agent had finished"
    elif int(code[1]) != _RESULT_OK or "report" not in results:
        fault = f"the agent wrote no report: {results.get('fault', 'no reason given')}"
    return Instrumentation(results=results, fault=fault)
