"""Logs a person can read at 3 a.m.: our own lines, no library chatter, and sentences instead of stack traces."""

import logging
import warnings

from tasks.core.errors import NightshiftError

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


def log_for_people() -> None:
    """Set up logging for this process; calling it again changes nothing."""
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("flows", "tasks"):
        logging.getLogger(name).setLevel(logging.INFO)
    for name in _SPEAKING:
        logging.getLogger(name).addFilter(_SENTENCES)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    import datasets

    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
