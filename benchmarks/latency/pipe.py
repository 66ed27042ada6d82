"""The driver's end of a cell's process; ``latency_process`` is the other."""

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgefiqa.errors import EdgeFiqaError

__all__ = ["CellProcess"]


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class CellProcess:
    """The process of one cell in one round, on the other end of two pipes.

    Args:
        command: Starts it, here or by way of ssh.
        log: Receives what it prints.
        limit_s: Without an answer for so long it has failed.
        exit_text: Says in words how it ended, from its exit code.

    Attributes:
        cpu_s: Processor time that it said it has used.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        limit_s: float,
        exit_text: Callable[[int], str] = _exit_text,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log, self._limit_s, self._exit_text = log, limit_s, exit_text
        self.cpu_s = 0.0
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
            )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # a dead process gives no answer, which says more
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for an answer.

        Raises:
            EdgeFiqaError: The process reported a fault, died, or was stopped at the time limit.
        """
        assert self._process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(self._limit_s, stop)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        next_step = f"its log is {self._log}"
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            if line.endswith("\n"):  # it lives, and would wait for ever
                self._process.kill()
                what = "the process said something else than an answer"
                raise EdgeFiqaError(what, value=line.strip()[:80], next_step=next_step) from None
            code = self._process.wait()
            what = f"no answer in {self._limit_s:g} s" if late.is_set() else "the process died"
            raise EdgeFiqaError(what, value=self._exit_text(code), next_step=next_step) from None
        if "error" in message:
            told = "Next: " in message["error"]  # errors on purpose say themselves what to do
            raise EdgeFiqaError(message["error"], next_step=None if told else next_step)
        self.cpu_s = message.get("cpu_s", self.cpu_s)
        return message

    def close(self) -> None:
        """End the process if it still runs; its processor time then counts as ours."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
