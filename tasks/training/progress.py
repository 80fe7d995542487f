"""Progress of a training: in MLflow, on the run's page, and in its log."""

import logging

from tasks.connectors.tracking.run import Run
from tasks.core.training.records import TrainingSummary
from tasks.runtime.reporting.progress import ProgressMeter

logger = logging.getLogger(__name__)

_BEGUN = "%s is under way: step"
BEGUN = _BEGUN % "Training"


class _StepMeter(ProgressMeter):
    """A meter that names the step: a resumed training does not begin at 1."""

    def amount(self) -> str:
        return f"Step {self.done:,} of {self.of:,}"


class Listener:
    """Send metrics to MLflow and progress to the run's page; log a line per epoch, and the progress.

    Args:
        run: the MLflow run.
        what: a description of the training, for people.
        key: the key of the progress bar.
    """

    def __init__(self, run: Run, what: str = "Training", key: str = "training-progress") -> None:
        self._run, self._what = run, what
        self._meter = _StepMeter(f"{what.lower()} steps", of=0, bar=key)
        self._last: int | None = None

    def on_step(self, step: int, total_steps: int) -> None:
        if self._last is None:
            logger.info(f"{_BEGUN} %s of %s", self._what, step, total_steps)
            self._meter.of = total_steps
            self._meter.skip(step)
        else:
            self._meter.add(step - self._last, done=step - self._last)
        self._last = step

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step)
        if "validation_loss" in metrics:
            self._run.send()  # so that the chart of a long training keeps growing
            measured = [f"validation loss {metrics['validation_loss']:.4f}"]
            if "validation_accuracy" in metrics:  # only classifiers have it
                measured.append(f"accuracy {metrics['validation_accuracy']:.4f}")
            logger.info("Step %s: %s", step, ", ".join(measured))


def log_training(summary: TrainingSummary) -> None:
    """Log one line about a training; also used by the run that requested it."""
    logger.info(
        "Trained %s on %s reviews in %.0f s (%.1f reviews/s, %s on %s): validation accuracy %.4f, best epoch %g",
        summary.base_model,
        f"{summary.train_rows:,}",
        summary.seconds,
        summary.reviews_per_second,
        summary.precision,
        summary.device,
        summary.validation["accuracy"],
        summary.best_epoch,
    )
