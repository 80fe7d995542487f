"""Attribution of errors: an error raised while one object is read, scored or encoded is the fault of that object.

There is no list of errors that an object may raise. There is a short list of those that are not its fault: our own
errors that say so (the store is away, a setting, a model); errors of a disk, a network or the kernel of this machine
(no memory for a new process, no more files or threads); and exceptions that are no errors (cancellation, Ctrl-C, the
end of the process).

Errors of libraries quote what they could not read, so their messages may hold reviews and are never repeated. A trace
shows the types of the errors and the lines of code they passed, and people get a sentence.
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
    # permissions
    errno.EACCES, errno.EPERM,
    # disks
    errno.EDQUOT, errno.EIO, errno.ENODEV, errno.ENOLCK, errno.ENOSPC, errno.ENXIO, errno.EROFS, errno.ESTALE,
    # the kernel has no memory, processes or open files left: starting a process fails with the first two
    errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOBUFS,
    # networks and pipes; broken connections and timeouts have exception types of their own
    errno.EADDRNOTAVAIL, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.EPIPE,
}  # fmt: skip
_NO_THREAD = "can't start new thread"  # Python's only message when the kernel answers EAGAIN
_MOST_CAUSES = 10


def is_object_error(error: BaseException) -> bool:
    """True if the error concerns the current object and no other."""
    return not isinstance(error, ModelError) and may_be_the_rows(error)


def may_be_the_rows(error: BaseException) -> bool:
    """True if neither the machine, nor a service, nor a cancellation explains the error.

    This includes errors of a model: the caller has to check whether the model works on other rows.
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
    """Return an object's error as a sentence for people; log the trace of an unforeseen one.

    Args:
        error: one for which `is_object_error` is true, or one that an engine raises for a single row.
        uri: URI of the object.
    """
    if isinstance(error, DataError):
        return error
    logger.error("%s: unexpected error:\n%s", uri, trace_of(error))
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name}" if frames else ""
    return UnreadableDataError(
        f"Unexpected error: {type(error).__name__}{where}",
        uri,
        "see the trace in the log; leave the object out or write it again, and report the error",
    )


@contextmanager
def blamed_on(where: str) -> Generator[None]:
    """Turn errors raised inside the block into a DataError that names this file or data set, if they are its fault."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, DataError) or not is_object_error(error):
            raise
        raise as_data_error(error, where) from None


def trace_of(error: BaseException) -> str:
    """Return types and lines of code of an error and its causes, first cause first, without messages and values."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < _MOST_CAUSES:
        lines = "".join(traceback.format_tb(current.__traceback__))
        number = (
            f" (errno {current.errno})" if isinstance(current, OSError) and current.errno else ""
        )
        parts.append(f"{lines}{type(current).__qualname__}{number}")
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return "\nled to:\n".join(reversed(parts))
