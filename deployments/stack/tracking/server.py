"""How MLflow's server is run, with a password for everybody who asks it."""

import sys
from collections.abc import Mapping
from pathlib import Path

from deployments.stack.supervision import Program
from deployments.stack.tracking.mlflow_pages import AUTHORIZATION_FUNCTION
from tasks.connectors.private_files import write_private
from tasks.connectors.servers.passwords import MLFLOW_ADMINISTRATOR
from tasks.connectors.servers.seaweedfs import HOST

_BASIC_AUTH = """\
[mlflow]
default_permission = {others_may}
database_uri = {accounts}
admin_username = {administrator}
authorization_function = {authorization}
# Checking a password takes a tenth of a second of computing, and clients send theirs with each request.
auth_cache_ttl_seconds = 60
"""


def mlflow_server(
    port: int, configuration: Path, data: str, artifacts: str, environment: Mapping[str, str]
) -> Program:
    """MLflow with accounts, on loopback.

    Args:
        port: that it listens on.
        configuration: of its accounts, as `write_mlflow_accounts` writes it.
        data: SQLAlchemy URL of its database.
        artifacts: URI of the place where it keeps models and files.
        environment: its whole environment, without what is said here, but with `mlflow_secrets`.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
    command += ["--host", HOST, "--port", str(port), "--backend-store-uri", data]
    # More workers than one would make the tables of the accounts at the same time.
    command += ["--artifacts-destination", artifacts, "--workers", "1"]
    given = {
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Its job runner would be ten more processes for features that are not used here.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return Program(name="mlflow", command=command, environment={**environment, **given})


def mlflow_secrets(password: str, forms: str) -> dict[str, str]:
    """What the server must know: the administrator's password, and what it signs its own forms with."""
    return {
        "MLFLOW_AUTH_ADMIN_USERNAME": MLFLOW_ADMINISTRATOR,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": forms,
    }


def write_mlflow_accounts(configuration: Path, accounts: str, others_may: str) -> None:
    """Write where MLflow keeps its accounts, and what one may do that was given no permission: NO_PERMISSIONS, READ."""
    escaped = accounts.replace("%", "%%")  # as configparser reads it
    text = _BASIC_AUTH.format(
        accounts=escaped,
        administrator=MLFLOW_ADMINISTRATOR,
        authorization=AUTHORIZATION_FUNCTION,
        others_may=others_may,
    )
    write_private(configuration, text)
