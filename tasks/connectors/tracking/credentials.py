"""Whether MLflow's client has credentials, from its variables or its file."""

from mlflow.environment_variables import MLFLOW_TRACKING_TOKEN
from mlflow.utils.credentials import read_mlflow_creds


def has_credentials() -> bool:
    """A user name or a token."""
    return bool(read_mlflow_creds().username or MLFLOW_TRACKING_TOKEN.get())
