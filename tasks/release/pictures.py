"""The plots of an evaluation, for the report."""

from collections.abc import Sequence

from tasks.core.evaluation.plots import figures
from tasks.core.evaluation.plots.figures import SliceRow
from tasks.core.release.report.parts import Picture
from tasks.evaluation.predictions import Evaluation
from tasks.runtime.steps import fetched

_PICTURES = {
    "confusion": "Confusion matrix: true labels by predicted ones",
    "roc": "ROC curve",
    "precision_recall": "Precision and recall",
    "reliability": "Fraction of correct predictions by confidence, before and after temperature scaling",
    "scores": "Confidence of correct and of wrong predictions",
}


def pictures_of(evaluation: Evaluation, slices: Sequence[SliceRow]) -> list[Picture]:
    """Return the plots stored with an evaluation, and one of its slices."""
    with fetched(evaluation) as folder:
        drawn = [
            Picture(name, caption, path.read_bytes())
            for name, caption in _PICTURES.items()
            if (path := folder / f"{name}.png").is_file()
        ]
        if slices:
            path = figures.draw_slices(folder / "slices.png", slices)
            drawn.append(Picture("slices", "Accuracy on each slice", path.read_bytes()))
    return drawn
