"""Settings for a person's approval. They are separate from the waiting, so that a form needs no orchestrator."""

from pydantic import Field

from tasks.core.forms import Form


class ApprovalParams(Form):
    """Approval by a person, after the model has passed the gate."""

    required: bool = Field(
        default=False,
        description="Pause before promotion until a person has read the evidence and approves or rejects the model.",
    )
    timeout_hours: float = Field(
        default=72.0,
        gt=0,
        le=24 * 30,
        description="Maximum waiting time in hours. After that, the model is rejected and stays challenger.",
    )
