"""The plots of an evaluation, for the report and for MLflow."""

from collections.abc import Sequence

from tasks.core.evaluation.plots import figures
from tasks.core.evaluation.plots.figures import SliceRow
from tasks.core.release.report.parts import Picture
from tasks.evaluation.predictions import Evaluation, read_predictions
from tasks.runtime.steps import work_folder

_CAPTIONS = {
    "confusion": "Confusion matrix: true labels by predicted ones",
    "roc": "ROC curve",
    "precision_recall": "Precision and recall",
    "reliability": "Fraction of correct predictions by confidence, before and after temperature scaling",
    "scores": "Confidence of correct and of wrong predictions",
}


def draw_plots(evaluation: Evaluation, bins: int) -> list[Picture]:
    """Draw the plots of an evaluation from its predictions.

    Args:
        evaluation: the evaluation.
        bins: of the reliability diagram.
    """
    predictions, summary = read_predictions(evaluation), evaluation.summary
    with work_folder("plots") as folder:
        paths = figures.draw_all(
            folder,
            predictions.labels,
            predictions.probabilities,
            summary.label_names,
            summary.model,
            bins,
            predictions.uncalibrated,
            predictions.class_costs,
        )
        return [Picture(path.stem, _CAPTIONS[path.stem], path.read_bytes()) for path in paths]


def draw_slices(rows: Sequence[SliceRow]) -> list[Picture]:
    """Draw the accuracy on each slice. Returns no picture if there are no slices."""
    if not rows:
        return []
    with work_folder("plots") as folder:
        path = figures.draw_slices(folder / "slices.png", rows)
        return [Picture("slices", "Accuracy on each slice", path.read_bytes())]
