"""Whose fault an error is: whatever reading, scoring or encoding one object raises is that object's.

There is no list of errors that an object may raise. There is a short one of what is not its fault: our own errors that
say so (the store is away, a setting, a model), a disk, a network or the kernel of this machine (out of memory for a
new process, of files, of threads), and what is no error at all (cancellation, Ctrl-C, the end of the process).

Errors of libraries quote what they could not read. So their messages, which may hold reviews, are never repeated: a
trace shows the types of the errors and the lines of code they passed, and a person gets a sentence.
"""

import errno
import logging
import traceback
from collections.abc import Generator
from contextlib import contextmanager

from tasks.core.errors import (
    DataError,
    ModelError,
    NightshiftError,
    UnreadableDataError,
    is_disk_full,
)

logger = logging.getLogger(__name__)

_OF_THE_MACHINE = {
    # rights
    errno.EACCES, errno.EPERM,
    # disks
    errno.EDQUOT, errno.EIO, errno.ENODEV, errno.ENOLCK, errno.ENOSPC, errno.ENXIO, errno.EROFS, errno.ESTALE,
    # the kernel has no more memory, processes or open files to give: a new process fails with the first two
    errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOBUFS,
    # networks and pipes; broken connections and timeouts have types of their own
    errno.EADDRNOTAVAIL, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.EPIPE,
}  # fmt: skip
_NO_THREAD = "can't start new thread"  # all that Python says of the kernel's EAGAIN then
_MOST_CAUSES = 10


def is_the_objects(error: BaseException) -> bool:
    """True of an error that says something about the object in work, and nothing about any other."""
    return not isinstance(error, ModelError) and may_be_the_rows(error)


def may_be_the_rows(error: BaseException) -> bool:
    """True of an error that neither the machine, nor a service, nor a cancellation explains.

    A model's error may be: whoever works on rows has to look if it works on others.
    """
    if isinstance(error, NightshiftError):
        return isinstance(error, DataError | ModelError)
    if not isinstance(error, Exception):
        return type(error).__module__ == "pyo3_runtime"  # a panic in Rust, no Exception to Python
    if isinstance(error, ConnectionError | TimeoutError) or is_disk_full(error):
        return False
    if isinstance(error, RuntimeError):
        return _NO_THREAD not in str(error)
    return not (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE)


def as_data_error(error: BaseException, uri: str) -> DataError:
    """The sentence that a person reads of an object's error; of one that nobody foresaw, the trace is logged.

    Args:
        error: for which `is_the_objects` is true, or that an engine raises for one row.
        uri: of the object.
    """
    if isinstance(error, DataError):
        return error
    logger.error("%s raises what nothing foresaw:\n%s", uri, trace_of(error))
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name}" if frames else ""
    return UnreadableDataError(
        f"It raises {type(error).__name__}{where}, which nothing foresaw",
        uri,
        "look at the trace in the log; leave the object out or write it anew, and report it",
    )


@contextmanager
def blamed_on(where: str) -> Generator[None]:
    """Whatever is raised meanwhile, and is no other's fault, becomes a sentence that names this file or data set."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, DataError) or not is_the_objects(error):
            raise
        raise as_data_error(error, where) from None


def trace_of(error: BaseException) -> str:
    """Types and lines of code of an error and its causes, the first cause first; no messages, no values."""
    parts: list[str] = []
    left: BaseException | None = error
    while left is not None and len(parts) < _MOST_CAUSES:
        lines = "".join(traceback.format_tb(left.__traceback__))
        number = f" (errno {left.errno})" if isinstance(left, OSError) and left.errno else ""
        parts.append(f"{lines}{type(left).__qualname__}{number}")
        left = left.__cause__ or (None if left.__suppress_context__ else left.__context__)
    return "\nled to:\n".join(reversed(parts))
