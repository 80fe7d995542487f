"""Settings for a person's approval. They are separate from the waiting, so that a form needs no orchestrator."""

from pydantic import Field

from tasks.core.forms import Form


class ApprovalParams(Form):
    """Approval by a person of a model that has passed the gate."""

    required: bool = Field(
        default=False,
        description="Pause and wait for a person, who sees the evidence and approves or rejects, before the model "
        "becomes champion.",
    )
    timeout_hours: float = Field(
        default=72.0,
        gt=0,
        le=24 * 30,
        description="How long to wait. Time-out means reject: the model stays challenger.",
    )
