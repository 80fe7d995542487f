"""A line every 30 seconds while long work has nothing else to report."""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

_SILENT_SECONDS = 30.0
# Work that knows how far it is logs that a little more often, so that no second line comes between.
PROGRESS_SECONDS = 25.0
_one_line = threading.Lock()


class _LastLine:
    """The time of this process's last line, for all work that goes on at once."""

    at = 0.0


def note_line() -> None:
    """Note that a line was logged."""
    _LastLine.at = time.monotonic()


@contextmanager
def still_doing(doing: str, tell: Callable[[str], object] = logger.info) -> Generator[None]:
    """Report "Still <doing>: 60 s" whenever nothing was logged for 30 seconds within the block.

    Args:
        doing: the work, such as "starting mlflow".
        tell: takes the line. By default it is logged, in the Prefect run that the block belongs to.
    """
    over = threading.Event()
    context = contextvars.copy_context()
    watching = threading.Thread(
        target=context.run, args=(_watch, doing, tell, over), name="still-doing", daemon=True
    )
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def _watch(doing: str, tell: Callable[[str], object], over: threading.Event) -> None:
    began, silent = time.monotonic(), 0.0
    while not over.wait(_SILENT_SECONDS - silent):
        with _one_line:
            now = time.monotonic()
            silent = now - max(began, _LastLine.at)
            if silent >= _SILENT_SECONDS:
                tell(f"Still {doing}: {now - began:.0f} s")
                note_line()
                silent = 0.0
