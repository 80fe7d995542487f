"""Parameters of reading, splitting and tokenizing reviews, which people fill in as forms."""

from typing import ClassVar, Literal

from pydantic import Field

from tasks.core.forms import Form


class ValidationParams(Form):
    """Requirements on the reviews."""

    former_names: ClassVar = {"max_unusable_fraction": "max_unusable_share"}

    min_rows_a_class: int = Field(
        default=8,
        ge=2,
        le=1_000_000,
        description="Training reviews every class must have, after the split; of validation and test, fewer than that "
        "are a warning, and none is an error.",
    )
    max_unusable_fraction: float = Field(
        default=0.01,
        ge=0.0,
        le=1.0,
        description="Share of rows without a readable text or label that may be left out with a warning.",
    )
    max_imbalance: float = Field(
        default=100.0,
        ge=1.0,
        le=1e6,
        description="Most rows of the largest class for one of the smallest.",
    )


class SplitParams(Form):
    """Sizes of the train, validation and test splits. Every sample is shuffled, and stratified by class."""

    limit_train_rows: int | None = Field(
        default=None,
        ge=16,
        le=100_000_000,
        description="Train on so many reviews only; 1,000 of IMDb are 500 of each class.",
    )
    limit_test_rows: int | None = Field(
        default=None, ge=16, le=100_000_000, description="Test on so many reviews only."
    )
    validation_fraction: float = Field(
        default=0.1,
        ge=0.02,
        le=0.5,
        description="Share kept apart from training to choose the best epoch; taken from reviews beyond "
        "limit_train_rows where there are any.",
    )
    test_fraction: float = Field(
        default=0.2,
        ge=0.05,
        le=0.5,
        description="Share kept apart for the test, where the source has no test split. It is drawn once for a model "
        "and a source, and stays the test set of every later retraining.",
    )
    new_test_set: bool = Field(
        default=False,
        description="Draw the test set anew, where the source has none of its own, by `seed` and the data there is "
        "now. A champion that was trained on more than a few of its reviews cannot be compared on it.",
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="Of the shuffle.")


class TokenizationParams(Form):
    """Tokenization of reviews."""

    max_length_tokens: int = Field(
        default=256,
        ge=8,
        le=8192,
        description="Tokens a review may have, the special ones included. Longer reviews are cut, and counted. "
        "256 with head_tail was more accurate on IMDb than 512 with head, and runs 1.4 times as fast.",
    )
    truncation: Literal["head_tail", "head"] = Field(
        default="head_tail",
        description="What is kept of a review that is too long: its first quarter and last three quarters of the "
        "room (head_tail; people give their verdict at the end), or its beginning (head).",
    )
    strip_markup: bool = Field(
        default=True, description="Turn HTML tags into spaces and entities into characters first."
    )
