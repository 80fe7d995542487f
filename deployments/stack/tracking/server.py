"""Run MLflow's server, with a password for every client."""

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
    """Return the program that runs MLflow with accounts, on loopback.

    Args:
        port: the port it listens on.
        configuration: the configuration of its accounts, as `write_mlflow_accounts` writes it.
        data: SQLAlchemy URL of its database.
        artifacts: URI of the place where it keeps models and files.
        environment: its whole environment, except the variables set here; includes `mlflow_secrets`.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
    command += ["--host", HOST, "--port", str(port), "--backend-store-uri", data]
    # Several workers would create the tables of the accounts at the same time.
    command += ["--artifacts-destination", artifacts, "--workers", "1"]
    settings = {
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Its job runner would start ten more processes for features that are not used here.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return Program(name="mlflow", command=command, environment={**environment, **settings})


def mlflow_secrets(password: str, forms: str) -> dict[str, str]:
    """Return the server's secrets: the administrator's password, and the key that signs its own forms."""
    return {
        "MLFLOW_AUTH_ADMIN_USERNAME": MLFLOW_ADMINISTRATOR,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": forms,
    }


def write_mlflow_accounts(configuration: Path, accounts: str, others_may: str) -> None:
    """Write where MLflow keeps its accounts, and the default permission, such as NO_PERMISSIONS or READ."""
    escaped = accounts.replace("%", "%%")  # for configparser
    text = _BASIC_AUTH.format(
        accounts=escaped,
        administrator=MLFLOW_ADMINISTRATOR,
        authorization=AUTHORIZATION_FUNCTION,
        others_may=others_may,
    )
    write_private(configuration, text)
