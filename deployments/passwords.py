"""The passwords of a stack: generated once, kept in a file that its owner alone can read, handed on by environment."""

import json
import os
import secrets
from pathlib import Path

from pydantic import Field, ValidationError

from tasks.core.errors import ServiceError
from tasks.core.records import Record


def _generated() -> str:
    # Hexadecimal, so that it can be part of a URL, a configuration file and a header as it is.
    return secrets.token_hex(24)


class Passwords(Record):
    """One for each account, so that what a program may do is what it needs and no more. None of them is ever shown."""

    postgres: str = Field(default_factory=_generated, repr=False)
    prefect_database: str = Field(default_factory=_generated, repr=False)
    mlflow_database: str = Field(default_factory=_generated, repr=False)
    redis: str = Field(default_factory=_generated, repr=False)
    prefect: str = Field(default_factory=_generated, repr=False)
    mlflow_admin: str = Field(default_factory=_generated, repr=False)
    mlflow_workers: str = Field(default_factory=_generated, repr=False)
    mlflow_forms: str = Field(default_factory=_generated, repr=False)


def read_passwords(path: Path) -> Passwords:
    """Those that were generated.

    Raises:
        ServiceError: the file is gone or spoilt, and with it the way into the databases.
    """
    try:
        return Passwords(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, ValidationError):
        # Without its cause: a report of what is wrong with a file of passwords would quote them.
        raise ServiceError(
            "The passwords of the databases cannot be read",
            str(path),
            "bring the file back from a backup, or move the whole folder away to begin anew",
        ) from None


def kept_passwords(path: Path, belongs_to: Path) -> Passwords:
    """Those of a stack; generated when its database does not exist yet.

    Args:
        path: the file.
        belongs_to: the database's folder: where that is there, other passwords would not open it.
    Raises:
        ServiceError: as `read_passwords`.
    """
    if not path.exists() and not belongs_to.exists():
        write_privately(path, Passwords().model_dump_json(indent=1))
    return read_passwords(path)


def write_privately(path: Path, text: str) -> None:
    """Write a file that its owner alone can read; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    part.replace(path)
