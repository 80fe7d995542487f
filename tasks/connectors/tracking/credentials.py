"""A check for the credentials of MLflow's client, in its variables or its file."""

from mlflow.environment_variables import MLFLOW_TRACKING_TOKEN
from mlflow.utils.credentials import read_mlflow_creds


def has_credentials() -> bool:
    """True if a user name or a token is set."""
    return bool(read_mlflow_creds().username or MLFLOW_TRACKING_TOKEN.get())
