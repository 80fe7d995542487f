"""Settings of the behavioural checks as a form."""

from pydantic import Field

from tasks.core.forms import Form


class BehaviourParams(Form):
    """Behavioural checks that the model is tested with."""

    built_in: bool = Field(
        default=True,
        description="Use the built-in checks: English sentiment sentences, and edits of reviews that must not "
        "change the predicted label.",
    )
    checks: str = Field(
        default="",
        max_length=1024,
        description="YAML file with your own checks, s3:// or local (see docs/behaviour.md). Empty: none.",
    )
    max_cases: int = Field(
        default=100,
        ge=10,
        le=2000,
        description="Maximum number of cases per check. Larger sets are sampled.",
    )
    positive_label: str = Field(
        default="",
        max_length=100,
        description="Label that counts as positive in the checks. Empty: recognized by its name (POSITIVE, pos, good).",
    )
    negative_label: str = Field(
        default="",
        max_length=100,
        description="Label that counts as negative in the checks. Empty: recognized by its name (NEGATIVE, neg, bad).",
    )
    seed: int = Field(
        default=42, ge=0, le=2**31 - 1, description="Random seed for drawing sentences and reviews."
    )
