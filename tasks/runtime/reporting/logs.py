"""Readable logs: our own lines, little output of libraries, and sentences instead of stack traces."""

import logging
import re
import sys
import traceback
import warnings
from typing import Any

from tasks.core.errors import NightshiftError
from tasks.core.readable import on_one_line, said_to_people
from tasks.runtime.reporting.silence import note_line
from tasks.runtime.reporting.terminal import outlive_the_reader, print_whatever_comes
from tasks.runtime.settings import quiet_libraries

_NOISY = (
    "httpx",
    "botocore",
    "boto3",
    "datasets",
    "transformers",
    "mlflow",
    "alembic",
    "huggingface_hub",
    "urllib3",
)
_OURS = ("flows", "tasks")
_PREFECT_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


_COMPLETED = "Finished in state Completed("
_FAILED = re.compile(
    r"(Finished in state \w+)\(.(?:Task|Flow) run encountered an exception:? (\w+): "
)


class _Sentences(logging.Filter):
    """Shows each of our own errors once, as a sentence without stack trace. Other errors keep their stack trace.

    Prefect logs an error three times: as the end of the task, as the flow's error, and as the end of the flow. The
    second one is kept. The successful end of a task or flow is not logged: each step logs a line of its own.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.INFO and str(record.msg).startswith(_COMPLETED):
            return False
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, NightshiftError):
            record.msg, record.args = "%s: %s", (type(error).__name__, error)
            record.exc_info, record.exc_text = None, None
            record.ends_the_run = True
        elif (failed := _FAILED.match(str(record.msg))) and failed[2] in _names(NightshiftError):
            record.msg = failed[1]
        return True


def _names(kind: type[Exception]) -> set[str]:
    return {kind.__name__}.union(*map(_names, kind.__subclasses__()))


class _NotTheLast(logging.Filter):
    """Hides a run's error from a terminal on which the command itself prints it as its last line."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(record, "ends_the_run", False)


_SENTENCES = _Sentences()
_NOT_THE_LAST = _NotTheLast()


class ReadableRecord(logging.LogRecord):
    """A log record that foreign text cannot forge or colour, without passwords in URLs, even in a stack trace."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.name.split(".")[0] in _OURS:
            note_line()
        if self.exc_info and self.exc_info[0]:
            trace = "".join(traceback.format_exception(*self.exc_info))
            self.exc_text = said_to_people(trace).rstrip("\n")

    def getMessage(self) -> str:
        message = said_to_people(super().getMessage())
        return on_one_line(message) if self.name.split(".")[0] in _OURS else message


def _handlers() -> set[logging.Handler]:
    loggers = [logging.root, *map(logging.getLogger, logging.root.manager.loggerDict)]
    return {handler for logger in loggers for handler in logger.handlers}


def _quiet_libraries() -> None:
    """Silence those that are imported already; the others read it from the environment when they are."""
    quiet_libraries()
    if "transformers" in sys.modules:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
    if "datasets" in sys.modules:
        import datasets

        datasets.disable_progress_bars()


def log_for_people(command: bool = False) -> None:
    """Set up logging for this process. Idempotent.

    Args:
        command: True if this process is a command that prints its error itself, as its last line.
    """
    print_whatever_comes()
    for handler in _handlers():
        is_terminal = outlive_the_reader(getattr(handler, "console", None))
        if is_terminal and command:
            handler.addFilter(_NOT_THE_LAST)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.setLogRecordFactory(ReadableRecord)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in _PREFECT_LOGGERS:
        logging.getLogger(name).addFilter(_SENTENCES)
    _quiet_libraries()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
