"""One MLflow run that is under way: metrics, tags and files."""

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
    """One MLflow run under way. Metrics are kept and sent in batches: one by one they cost 36 ms each."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.id = run_id
        self._client = client
        self._metrics: list[Metric] = []

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Note metrics; sent when there are a hundred, and by `send`."""
        now = int(time.time() * 1000)
        self._metrics += [Metric(name, value, now, step) for name, value in metrics.items()]
        if len(self._metrics) >= 100:
            self.send()

    def send(self) -> None:
        """Send what is kept. An MLflow that is away for a while does not stop a training: it is tried again later."""
        try:
            self.flush()
        except MlflowException as error:
            logger.warning("Metrics could not be sent yet: %s", first_line(error))

    def flush(self) -> None:
        """Send what is kept, and keep what could not be sent."""
        while self._metrics:
            self._client.log_batch(self.id, metrics=self._metrics[:1000])
            del self._metrics[:1000]


def cut(values: Mapping[str, Any], longest: int = LONGEST_TAG) -> dict[str, str]:
    """As text, cut with a mark: MLflow cuts silently."""
    texts = {key: str(value) for key, value in values.items()}
    return {
        key: text if len(text) <= longest else text[: longest - 1] + "…"
        for key, text in texts.items()
    }


def first_line(error: Exception) -> str:
    """The first line of an error of MLflow, without passwords."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = line.partition(" with exception ")[0]  # behind it: the repr of urllib3's pool
    return without_passwords(line)[:300]  # cut afterwards, or half a password would stay
