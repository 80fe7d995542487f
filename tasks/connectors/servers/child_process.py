"""A child process that never outlives its parent, even when the parent is killed.

The child is started by a small guardian (this module, run with -m), which holds the reading end of a pipe whose writing
end only the parent has. However the parent ends, the pipe closes, and the guardian kills the child's whole process
group. A process that the parent forked may keep the writing end open, so the guardian also checks its parent's id. On
Linux the kernel kills the child if the guardian itself is killed.
"""

import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.connectors.private_files import PRIVATE_UMASK
from tasks.core.errors import ChildEndedError

_PATIENCE_SECONDS = 3.0
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
# The fatal message of a Go program; the stacks of its goroutines follow.
_LAST_WORDS = re.compile(r"(F\d{4} |panic: |fatal error: )")


class ChildProcess:
    """A server that runs until `stop`, or until this process is gone.

    Args:
        name: for messages.
        command: program and arguments.
        environment: the child's whole environment.
        log: file that takes its output.
        kill_at_once: send SIGKILL without SIGTERM first, for servers that are safe with it and slow without.
        cwd: working folder of the child; defaults to this process's.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        kill_at_once: bool = False,
        cwd: Path | None = None,
    ) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        reading, self._writing = os.pipe()
        first = signal.SIGKILL if kill_at_once else signal.SIGTERM
        guard_arguments = [str(reading), str(os.getpid()), str(int(first))]
        guardian = [sys.executable, "-m", __name__, *guard_arguments, *command]
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                guardian,
                env={**environment, "PYTHONPATH": _import_path(environment)},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(reading,),
                start_new_session=True,  # Ctrl-C on the terminal reaches the parent only; it decides
                umask=PRIVATE_UMASK,
            )
        os.close(reading)

    def running(self) -> bool:
        """True while the child is running."""
        return self._process.poll() is None

    def require_running(self) -> None:
        """Raise ChildEndedError with the end of the log if the child has ended."""
        if not self.running():
            raise ChildEndedError(
                f"{self.name} stopped with status {self._process.returncode}: {self._last_words() or 'no output'}",
                str(self.log),
                "read the log",
            )

    def _last_words(self) -> str:
        """Return the child's fatal message without the stacks that follow, or else the last lines of its log."""
        lines = (
            self.log.read_bytes()[self._log_start :].decode(errors="replace").strip().splitlines()
        )
        fatal = [line for line in lines if _LAST_WORDS.match(line)]
        return " / ".join(fatal[:1] or lines[-3:])

    def stop(self) -> None:
        """Stop the child and wait until it has ended."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
        self._process.wait()


def _import_path(environment: Mapping[str, str]) -> str:
    """Return a PYTHONPATH by which the guardian finds this module, wherever it was imported from."""
    root = str(Path(__file__).parents[3])
    return os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])


def die_with(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent ends, also after exec. Linux only; else a no-op.

    Args:
        parent: id of the expected parent; if it has already ended, this process ends, too.
        number: the signal.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def _guard(pipe: int, parent: int, first_signal: int, command: Sequence[str]) -> int:
    """Run the command until it ends, the pipe closes or the parent is gone. Returns its status."""
    this = os.getpid()
    child = subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=lambda: die_with(this, signal.SIGKILL),  # there are no threads here
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _end(child, first_signal))
    while child.poll() is None:
        if select.select([pipe], [], [], 0.2)[0] or os.getppid() != parent:
            _end(child, first_signal)
    return child.returncode


def _end(child: "subprocess.Popen[bytes]", first_signal: int) -> None:
    for number in (first_signal, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(_guard(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
