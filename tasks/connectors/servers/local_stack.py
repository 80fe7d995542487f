"""The record of the services that `make up` has started on this machine: `.nightshift/stack/stack.json`."""

import contextlib
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from tasks.connectors.private_files import require_ours
from tasks.connectors.servers.listening import listener_problem
from tasks.connectors.servers.passwords import LocalPasswords, kept_passwords, read_passwords
from tasks.connectors.servers.processes import is_gone
from tasks.connectors.servers.seaweedfs import kept_credentials
from tasks.core.records import Record

PORT_SETTINGS = {
    "s3": "NIGHTSHIFT_S3_PORT",
    "mlflow": "NIGHTSHIFT_MLFLOW_PORT",
    "prefect": "NIGHTSHIFT_PREFECT_PORT",
}


class Stack(Record):
    """The addresses of a running stack's services. An empty URL means that the stack does not run that service.

    Attributes:
        asks_for_passwords: False for earlier versions, which asked for none and did not record this.
        prefect_user: id of the account that serves Prefect's address; None for the user of the stack.
    """

    owner: str
    s3_url: str
    mlflow_url: str
    prefect_url: str
    asks_for_passwords: bool = False
    prefect_user: int | None = None

    def require_own_ports(self) -> None:
        """Raise ServiceError if another user's program listens at one of the addresses."""
        for service, url, user in (
            ("s3", self.s3_url, None),
            ("mlflow", self.mlflow_url, None),
            ("prefect", self.prefect_url, self.prefect_user),
        ):
            if port := urlsplit(url).port:
                listener_problem(port, PORT_SETTINGS[service], user)

    def environment(self, home: Path) -> dict[str, str]:
        """Return the environment variables for a client of `make up`, including keys and passwords.

        Raises:
            ServiceError: as `addresses`; or the passwords cannot be read.
        """
        variables = self.addresses(home)
        if not self.asks_for_passwords:
            return variables
        passwords = read_passwords(passwords_of(home), LocalPasswords)
        if self.mlflow_url:
            variables |= passwords.mlflow_client()
        if self.prefect_url:
            variables |= passwords.prefect_client()
        return variables

    def addresses(self, home: Path) -> dict[str, str]:
        """Return the environment variables with the addresses of the services and the keys of the object store.

        Raises:
            ServiceError: another user's program listens at one of the addresses.
        """
        self.require_own_ports()
        variables: dict[str, str] = {}
        if self.s3_url:
            access_key, secret_key = kept_credentials(home / "s3" / "credentials.json")
            variables["AWS_ENDPOINT_URL_S3"] = self.s3_url
            variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"] = (
                access_key,
                secret_key,
            )
            variables["NIGHTSHIFT_OBJECT_STORE"] = "external"
        if self.mlflow_url:
            variables["MLFLOW_TRACKING_URI"] = self.mlflow_url
        if self.prefect_url:
            variables["PREFECT_API_URL"] = f"{self.prefect_url}/api"
            variables["PREFECT_HOME"] = str(home / "prefect")
        return variables


def passwords_of(home: Path) -> Path:
    """Return the file with the passwords of Prefect and MLflow."""
    return home / "passwords.json"


def high_availability_home(home: Path) -> Path:
    """Return the folder of `make up-ha`, below that of `make up`."""
    return home / "ha"


def high_availability_passwords_of(home: Path) -> Path:
    """Return the file with the passwords of `make up-ha`, in its folder."""
    return home / "secrets.json"


def accounts_of(home: Path) -> Path:
    """Return the file of MLflow's database of accounts."""
    return home / "mlflow" / "accounts.db"


def local_passwords(home: Path) -> LocalPasswords:
    """Return the passwords of this machine's servers, generated at first start; `make up` and single runs share them.

    Raises:
        ServiceError: the file is missing or damaged.
    """
    return kept_passwords(passwords_of(home), LocalPasswords, belongs_to=accounts_of(home))


def record_of(home: Path) -> Path:
    """Return the file of the record."""
    return home / "stack" / "stack.json"


def running_stack(home: Path) -> Stack | None:
    """Return the stack that runs on a folder; None if none does, or if its supervisor was killed.

    Raises:
        ServiceError: the folder or the record belongs to another user, who could name servers of their own in it.
    """
    require_ours(home)
    require_ours(record_of(home))
    with contextlib.suppress(FileNotFoundError, ValidationError):
        stack = Stack.model_validate_json(record_of(home).read_text(encoding="utf-8"))
        return None if is_gone(stack.owner) else stack
    return None
