"""The longest time that MLflow's client may take before it gives up."""

from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
    MLFLOW_HTTP_REQUEST_BACKOFF_JITTER,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)

_LONGEST_PAUSE_SECONDS = 120.0  # of urllib3 between two tries


def longest_request_seconds() -> float:
    """Return the longest time one call to MLflow may take, with all retries and pauses, by MLflow's own settings.

    Each attempt may wait for the connection and again for the answer. The pause between attempts doubles.
    """
    retries = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
    factor, jitter = (
        MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR.get(),
        MLFLOW_HTTP_REQUEST_BACKOFF_JITTER.get(),
    )
    pauses = (min(factor * 2.0**n + jitter, _LONGEST_PAUSE_SECONDS) for n in range(retries))
    return (retries + 1) * 2.0 * MLFLOW_HTTP_REQUEST_TIMEOUT.get() + sum(pauses)
