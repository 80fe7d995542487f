"""Generated passwords: made once, kept in a file that only its owner can read, passed on in the environment."""

import json
import secrets
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import Field, ValidationError

from tasks.connectors.private_files import write_private
from tasks.core.errors import ServiceError
from tasks.core.records import Record

PREFECT_USER = "nightshift"
MLFLOW_ADMINISTRATOR = "admin"
_BEGIN_ANEW = "restore the file from a backup, or move the whole folder away to start over"
P = TypeVar("P", bound="Generated")


def _generated() -> str:
    # Hexadecimal needs no escaping in a URL, a configuration file or a header.
    return secrets.token_hex(24)


class Generated(Record):
    """The passwords of one stack. They are never shown."""

    lost: ClassVar[str] = _BEGIN_ANEW


class LocalPasswords(Generated):
    """The passwords of the servers that `make up` and `python -m flows` start.

    Attributes:
        prefect: account and password as one text, the form that Prefect's settings hold and its login page asks for.
        mlflow: password of the account `admin`.
        mlflow_forms: key with which MLflow signs its own forms.
    """

    lost: ClassVar[str] = (
        "restore the file from a backup; or delete it and mlflow/accounts.db beside it, which holds only accounts: "
        "both are created again"
    )

    prefect: str = Field(default_factory=lambda: f"{PREFECT_USER}:{_generated()}", repr=False)
    mlflow: str = Field(default_factory=_generated, repr=False)
    mlflow_forms: str = Field(default_factory=_generated, repr=False)

    def prefect_client(self) -> dict[str, str]:
        """Return the environment variables for a client of the Prefect server."""
        return {"PREFECT_API_AUTH_STRING": self.prefect}

    def mlflow_client(self) -> dict[str, str]:
        """Return the environment variables for a client of the MLflow server."""
        return {
            "MLFLOW_TRACKING_USERNAME": MLFLOW_ADMINISTRATOR,
            "MLFLOW_TRACKING_PASSWORD": self.mlflow,
        }


class Passwords(Generated):
    """The passwords of `make up-ha`: one for each account, so that each program has only the rights it needs."""

    postgres: str = Field(default_factory=_generated, repr=False)
    prefect_database: str = Field(default_factory=_generated, repr=False)
    mlflow_database: str = Field(default_factory=_generated, repr=False)
    redis: str = Field(default_factory=_generated, repr=False)
    prefect: str = Field(default_factory=_generated, repr=False)
    mlflow_admin: str = Field(default_factory=_generated, repr=False)
    mlflow_workers: str = Field(default_factory=_generated, repr=False)
    mlflow_forms: str = Field(default_factory=_generated, repr=False)


def read_passwords(path: Path, kind: type[P]) -> P:
    """Read generated passwords from their file.

    Raises:
        ServiceError: the file is missing or damaged, and with it the access to the servers.
    """
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, ValidationError):
        # Without the cause: it would quote passwords from the file.
        raise ServiceError("The passwords cannot be read", str(path), kind.lost) from None


def kept_passwords(path: Path, kind: type[P], belongs_to: Path) -> P:
    """Return the passwords of a stack. They are generated if its database does not exist yet.

    Args:
        path: the file.
        kind: of the record.
        belongs_to: the database; if it exists, newly generated passwords would not open it.
    Raises:
        ServiceError: as `read_passwords`.
    """
    if not path.exists() and not belongs_to.exists():
        write_private(path, kind().model_dump_json(indent=1))
    return read_passwords(path, kind)
