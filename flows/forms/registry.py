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
        description="Your name, for the history; taken as you say it, nobody checks it.",
    ),
    SAID_BY_PEOPLE,
]
Reason = Annotated[
    str,
    Field(
        min_length=3,
        max_length=500,
        description="Why, for those who look at it later; kept in the history.",
    ),
    SAID_BY_PEOPLE,
]


class PromoteParams(Form):
    """Make a registered version the champion. The next scoring run uses it; one under way stays on its own."""

    model_name: RegisteredName = "reviews"
    version: str = Field(
        default="challenger",
        min_length=1,
        description="Number of the version, or an alias that points to it.",
    )
    who: Who
    reason: Reason
    overrule: bool = Field(
        default=False,
        description="Promote although the gate has refused it; the history says so.",
    )


class RollbackParams(Form):
    """Make the champion before the present one champion again. To take that back at once, name the version."""

    model_name: RegisteredName = "reviews"
    who: Who
    reason: Reason
    to_version: str = Field(
        default="",
        max_length=100,
        description="Number of the version to go back to; empty: the champion before the present one.",
    )


class HistoryParams(Form):
    """Show every move of a model's champion: when, by whom, why; also those of versions that are deleted."""

    model_name: RegisteredName = "reviews"
    last: int = Field(default=50, ge=1, le=10_000, description="How many, the newest first.")


class RetentionParams(Form):
    """Delete old versions of a model, but none with an alias, none of the last moves, none that predictions name."""

    model_name: RegisteredName = "reviews"
    who: Annotated[str, SAID_BY_PEOPLE] = Field(
        min_length=2,
        max_length=100,
        description="Your name, kept with what is deleted; taken as you say it, nobody checks it.",
    )
    keep_last: int = Field(
        default=10, ge=1, le=1_000, description="The newest so many versions are kept."
    )
    min_age_days: int = Field(
        default=30, ge=0, le=3_650, description="Versions younger than so many days are kept."
    )
    predictions: list[Annotated[str, S3_PREFIX]] = Field(
        default=["s3://nightshift/predictions/"],
        max_length=50,
        description="Prefixes where predictions lie. Scoring itself notes where it writes; what it wrote before it did "
        "is found below these, in model=<name>/version=<n>/.",
    )
    dry_run: bool = Field(
        default=True, description="Only show what would be deleted. Off: delete it."
    )
