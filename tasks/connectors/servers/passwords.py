"""Generated passwords: made once, kept in a file that its owner alone can read, handed on by environment."""

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
_BEGIN_ANEW = "bring the file back from a backup, or move the whole folder away to begin anew"
P = TypeVar("P", bound="Generated")


def _generated() -> str:
    # Hexadecimal, so that it can be part of a URL, a configuration file and a header as it is.
    return secrets.token_hex(24)


class Generated(Record):
    """Passwords of one stack. None of them is ever shown."""

    lost: ClassVar[str] = _BEGIN_ANEW


class LocalPasswords(Generated):
    """Those of the servers that `make up` and `python -m flows` start.

    Attributes:
        prefect: account and password as one text: that is what Prefect's settings hold and its login page asks for.
        mlflow: of the account `admin`.
        mlflow_forms: with which MLflow signs its own forms.
    """

    lost: ClassVar[str] = (
        "bring the file back from a backup; or delete it and mlflow/accounts.db beside it, which holds accounts alone, "
        "and both are made anew"
    )

    prefect: str = Field(default_factory=lambda: f"{PREFECT_USER}:{_generated()}", repr=False)
    mlflow: str = Field(default_factory=_generated, repr=False)
    mlflow_forms: str = Field(default_factory=_generated, repr=False)

    def prefect_client(self) -> dict[str, str]:
        """What a client of the Prefect server has in its environment."""
        return {"PREFECT_API_AUTH_STRING": self.prefect}

    def mlflow_client(self) -> dict[str, str]:
        """What a client of the MLflow server has in its environment."""
        return {
            "MLFLOW_TRACKING_USERNAME": MLFLOW_ADMINISTRATOR,
            "MLFLOW_TRACKING_PASSWORD": self.mlflow,
        }


class Passwords(Generated):
    """Those of `make up-ha`: one for each account, so that what a program may do is what it needs and no more."""

    postgres: str = Field(default_factory=_generated, repr=False)
    prefect_database: str = Field(default_factory=_generated, repr=False)
    mlflow_database: str = Field(default_factory=_generated, repr=False)
    redis: str = Field(default_factory=_generated, repr=False)
    prefect: str = Field(default_factory=_generated, repr=False)
    mlflow_admin: str = Field(default_factory=_generated, repr=False)
    mlflow_workers: str = Field(default_factory=_generated, repr=False)
    mlflow_forms: str = Field(default_factory=_generated, repr=False)


def read_passwords(path: Path, kind: type[P]) -> P:
    """Those that were generated.

    Raises:
        ServiceError: the file is gone or spoilt, and with it the way into what it belongs to.
    """
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, ValidationError):
        # Without its cause: a report of what is wrong with a file of passwords would quote them.
        raise ServiceError("The passwords cannot be read", str(path), kind.lost) from None


def kept_passwords(path: Path, kind: type[P], belongs_to: Path) -> P:
    """Those of a stack; generated when its database does not exist yet.

    Args:
        path: the file.
        kind: of the record.
        belongs_to: the database: where that is there, other passwords would not open it.
    Raises:
        ServiceError: as `read_passwords`.
    """
    if not path.exists() and not belongs_to.exists():
        write_private(path, kind().model_dump_json(indent=1))
    return read_passwords(path, kind)
