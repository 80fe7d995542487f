"""Settings of a version's report."""

from pydantic import Field

from tasks.core.forms import Form


class ReportParams(Form):
    """The report on a version, for people."""

    worst_errors: int = Field(
        default=10, ge=0, le=50, description="How many of the wrongest answers are shown."
    )
    show_texts: bool = Field(
        default=True,
        description="Show the reviews of wrong answers. The report lies in the object store and in MLflow; off where "
        "those who may read there may not read reviews.",
    )
    attributions: bool = Field(
        default=True,
        description="Tint the words that drove each wrong answer, by integrated gradients; takes seconds a review.",
    )
    attribution_steps: int = Field(
        default=20, ge=4, le=200, description="Points of the integral; more is more exact."
    )
