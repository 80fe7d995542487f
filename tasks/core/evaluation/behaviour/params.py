"""Settings of the behavioural checks as a form."""

from pydantic import Field

from tasks.core.forms import Form


class BehaviourParams(Form):
    """The behavioural checks that a model is tested with."""

    built_in: bool = Field(
        default=True,
        description="Use the checks that come with Nightshift: sentiment in English, and changes to test reviews "
        "that must not change the label.",
    )
    checks: str = Field(
        default="",
        max_length=1024,
        description="Checks of your own: a YAML file, s3:// or local (docs/behaviour.md). Empty: none.",
    )
    max_cases: int = Field(
        default=100,
        ge=10,
        le=2000,
        description="Most cases a check; of more, a sample is drawn.",
    )
    positive_label: str = Field(
        default="",
        max_length=100,
        description="The label that the checks call positive. Empty: told by its name (POSITIVE, pos, good).",
    )
    negative_label: str = Field(
        default="",
        max_length=100,
        description="The label that the checks call negative. Empty: told by its name (NEGATIVE, neg, bad).",
    )
    seed: int = Field(
        default=42, ge=0, le=2**31 - 1, description="Of the choice of sentences and reviews."
    )
