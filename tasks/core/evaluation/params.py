"""Settings of the evaluation as a form, and the names of its metrics."""

from pydantic import Field

from tasks.core.forms import Form

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "mean_absolute_error": "Mean absolute error (labels as a scale)",
    "quadratic_weighted_kappa": "Kappa, quadratic weights (labels as a scale)",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "Log-loss (nats)",
    "calibration_error": "Calibration error",
}


LOWER_IS_BETTER = frozenset({"log_loss", "calibration_error", "mean_absolute_error"})


class EvaluationParams(Form):
    """Evaluation of a model on the test set."""

    resamples: int = Field(
        default=2000,
        ge=100,
        le=20_000,
        description="Number of bootstrap resamples per confidence interval.",
    )
    confidence: float = Field(
        default=0.95, ge=0.5, le=0.999, description="Confidence level of the intervals."
    )
    calibration_bins: int = Field(
        default=15,
        ge=2,
        le=100,
        description="Number of equal-width bins for the expected calibration error.",
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="Random seed of the bootstrap.")
