"""One active MLflow run: its buffered metrics, and helpers for MLflow's texts."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from tasks.core.readable import without_passwords

logger = logging.getLogger(__name__)


LONGEST_TAG = 5000


class Run:
    """One active MLflow run. Metrics are buffered and sent in batches: sent singly they cost 36 ms each."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.id = run_id
        self._client = client
        self._metrics: list[Metric] = []

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Buffer metrics. They are sent when there are a hundred, and by `send`."""
        now = int(time.time() * 1000)
        self._metrics += [Metric(name, value, now, step) for name, value in metrics.items()]
        if len(self._metrics) >= 100:
            self.send()

    def send(self) -> None:
        """Send buffered metrics. If MLflow is unavailable, training continues and a later call tries again."""
        try:
            self.flush()
        except MlflowException as error:
            logger.warning("Metrics could not be sent yet: %s", first_line(error))

    def flush(self) -> None:
        """Send buffered metrics. Those that could not be sent stay buffered."""
        while self._metrics:
            self._client.log_batch(self.id, metrics=self._metrics[:1000])
            del self._metrics[:1000]


def cut(values: Mapping[str, Any], longest: int = LONGEST_TAG) -> dict[str, str]:
    """Convert values to text and truncate them with a mark, because MLflow truncates silently."""
    texts = {key: str(value) for key, value in values.items()}
    return {
        key: text if len(text) <= longest else text[: longest - 1] + "…"
        for key, text in texts.items()
    }


def first_line(error: Exception) -> str:
    """Return the first line of an MLflow error, without passwords."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = line.partition(" with exception ")[0]  # then follows the repr of urllib3's pool
    return without_passwords(line)[:300]  # truncate last, or half a password could remain
