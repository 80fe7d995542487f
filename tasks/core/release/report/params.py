"""Settings of a version's report."""

from pydantic import Field

from tasks.core.forms import Form


class ReportParams(Form):
    """HTML report on a model version."""

    worst_errors: int = Field(
        default=10,
        ge=0,
        le=50,
        description="Number of the most confident wrong predictions to show.",
    )
    show_texts: bool = Field(
        default=True,
        description="Show the review texts of wrong predictions. Turn off if readers of MLflow or the object store "
        "may not read reviews.",
    )
    attributions: bool = Field(
        default=True,
        description="Highlight the words behind each wrong prediction (integrated gradients). Takes seconds per "
        "review.",
    )
    attribution_steps: int = Field(
        default=20,
        ge=4,
        le=200,
        description="Number of steps of the integrated gradients. More steps are more accurate.",
    )
