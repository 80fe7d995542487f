"""The forms of the flows that promote, roll back, list and delete a model's versions."""

from typing import Annotated

from pydantic import Field

from tasks.core.forms import Form
from tasks.core.parsing.patterns import S3_PREFIX, SAID_BY_PEOPLE

RegisteredName = Annotated[
    str, Field(min_length=1, description="Name in the MLflow model registry.")
]
Who = Annotated[
    str,
    Field(
        min_length=2,
        max_length=100,
        description="Your name, recorded in the history. It is not verified.",
    ),
    SAID_BY_PEOPLE,
]
Reason = Annotated[
    str,
    Field(
        min_length=3,
        max_length=500,
        description="Your reason, recorded in the history.",
    ),
    SAID_BY_PEOPLE,
]


class PromoteParams(Form):
    """Make a registered version the champion. The next scoring run uses it; running ones keep their version."""

    model_name: RegisteredName = "reviews"
    version: str = Field(
        default="challenger",
        min_length=1,
        description="Version number or alias.",
    )
    who: Who
    reason: Reason
    overrule: bool = Field(
        default=False,
        description="Promote a version that the gate has refused. The history records this.",
    )


class RollbackParams(Form):
    """Make the previous champion the champion again. Undoing it within ten minutes requires `to_version`."""

    model_name: RegisteredName = "reviews"
    who: Who
    reason: Reason
    to_version: str = Field(
        default="",
        max_length=100,
        description="Version number to go back to. Empty: the previous champion.",
    )


class HistoryParams(Form):
    """List all changes of the champion: when, by whom and why. Deleted versions are included."""

    model_name: RegisteredName = "reviews"
    last: int = Field(
        default=50, ge=1, le=10_000, description="Number of changes to list, newest first."
    )


class RetentionParams(Form):
    """Delete old versions of a model, except those with an alias, a recent promotion or stored predictions."""

    model_name: RegisteredName = "reviews"
    who: Annotated[str, SAID_BY_PEOPLE] = Field(
        min_length=2,
        max_length=100,
        description="Your name, recorded with each deletion. It is not verified.",
    )
    keep_last: int = Field(
        default=10, ge=1, le=1_000, description="Keep this many of the newest versions."
    )
    min_age_days: int = Field(
        default=30, ge=0, le=3_650, description="Keep versions younger than this many days."
    )
    predictions: list[Annotated[str, S3_PREFIX]] = Field(
        default=["s3://nightshift/predictions/"],
        max_length=50,
        description="Also keep versions with predictions below these prefixes. Needed only for predictions that "
        "scoring did not record.",
    )
    dry_run: bool = Field(
        default=True, description="Only show what would be deleted. Off: delete it."
    )
