"""A line every 30 seconds while long work has nothing else to report."""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import ClassVar

from tasks.core.readable import duration

logger = logging.getLogger(__name__)

_SILENT_SECONDS = 30.0
# Work that knows how far it is logs that a little more often, so that no second line comes between.
PROGRESS_SECONDS = 25.0
_lock = threading.Lock()


class _Process:
    """This process's last line, and its work in the order of its beginning."""

    last_line = 0.0
    works: ClassVar[list[threading.Event]] = []


def note_line() -> None:
    """Note that a line was logged."""
    _Process.last_line = time.monotonic()


@contextmanager
def still_doing(doing: str, tell: Callable[[str], object] = logger.info) -> Generator[None]:
    """Report "Still <doing>: 60 s" whenever nothing was logged for 30 seconds within the block.

    Of several at once, the one that began last reports: it is what the others wait for.

    Args:
        doing: the work, such as "starting mlflow".
        tell: takes the line. By default it is logged, in the Prefect run that the block belongs to.
    """
    over = threading.Event()
    with _lock:
        _Process.works.append(over)
    context = contextvars.copy_context()
    watching = threading.Thread(
        target=context.run, args=(_watch, doing, tell, over), name="still-doing", daemon=True
    )
    watching.start()
    try:
        yield
    finally:
        over.set()
        with _lock:
            _Process.works.remove(over)
        watching.join()


def _watch(doing: str, tell: Callable[[str], object], over: threading.Event) -> None:
    began, silent = time.monotonic(), 0.0
    while not over.wait(_SILENT_SECONDS - silent):
        now = time.monotonic()
        silent = now - max(began, _Process.last_line)
        if silent < _SILENT_SECONDS:
            continue
        with _lock:
            is_last = over in _Process.works[-1:]  # it may be over by now
        if is_last:
            tell(f"Still {doing}: {duration(now - began)}")
            note_line()
        silent = 0.0
