"""Logs a person can read at 3 a.m.: our own lines, no library chatter, and sentences instead of stack traces."""

import logging
import traceback
import warnings
from typing import Any

from tasks.core.errors import NightshiftError
from tasks.core.readable import on_one_line, said_to_people
from tasks.terminal import outlive_the_reader, print_whatever_comes

_CHATTY = (
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
_SPEAKING = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


class _Sentences(logging.Filter):
    """Replaces the stack trace of an error that explains itself by its explanation. Others keep theirs."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, NightshiftError):
            record.msg, record.args = "%s: %s", (type(error).__name__, error)
            record.exc_info, record.exc_text = None, None
        return True


_SENTENCES = _Sentences()


class ReadableRecord(logging.LogRecord):
    """A line that names of others cannot forge or colour, and in which no URL has a password, also in a stack trace."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        if self.exc_info and self.exc_info[0]:
            trace = "".join(traceback.format_exception(*self.exc_info))
            self.exc_text = said_to_people(trace).rstrip("\n")

    def getMessage(self) -> str:
        message = said_to_people(super().getMessage())
        return on_one_line(message) if self.name.split(".")[0] in _OURS else message


def _outlive_the_readers() -> None:
    """A run goes on where who read its log has gone (`| head`): Prefect's handler ends the process then."""
    loggers = [logging.root, *map(logging.getLogger, logging.root.manager.loggerDict)]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        outlive_the_reader(getattr(handler, "console", None))


def log_for_people() -> None:
    """Set up logging for this process; calling it again changes nothing."""
    print_whatever_comes()
    _outlive_the_readers()
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.setLogRecordFactory(ReadableRecord)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in _SPEAKING:
        logging.getLogger(name).addFilter(_SENTENCES)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    import datasets

    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
