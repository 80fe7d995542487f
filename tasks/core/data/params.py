"""Parameters of reading, splitting and tokenizing reviews, which people fill in as forms."""

from typing import ClassVar, Literal

from pydantic import Field

from tasks.core.forms import Form


class ValidationParams(Form):
    """Requirements that the labelled reviews must meet."""

    former_names: ClassVar = {"max_unusable_fraction": "max_unusable_share"}

    min_rows_a_class: int = Field(
        default=8,
        ge=2,
        le=1_000_000,
        description="Minimum number of training reviews per class. In validation and test, fewer is a warning and "
        "none is an error.",
    )
    max_unusable_fraction: float = Field(
        default=0.01,
        ge=0.0,
        le=1.0,
        description="Fail if a larger fraction of rows has no readable text or label; otherwise drop these rows with "
        "a warning.",
    )
    max_imbalance: float = Field(
        default=100.0,
        ge=1.0,
        le=1e6,
        description="Fail if the largest class has more than this many times the training reviews of the smallest "
        "class.",
    )


class SplitParams(Form):
    """Sizes of the train, validation and test splits. Samples are shuffled and stratified by class."""

    limit_train_rows: int | None = Field(
        default=None,
        ge=16,
        le=100_000_000,
        description="Train on a sample of this many reviews. Validation reviews are drawn in addition if there are "
        "enough. Empty: all.",
    )
    limit_test_rows: int | None = Field(
        default=None,
        ge=16,
        le=100_000_000,
        description="Test on a sample of this many reviews. Empty: all.",
    )
    validation_fraction: float = Field(
        default=0.1,
        ge=0.02,
        le=0.5,
        description="Fraction of the training data held out for validation, to choose the best epoch and to calibrate.",
    )
    test_fraction: float = Field(
        default=0.2,
        ge=0.05,
        le=0.5,
        description="Fraction to draw as the test set if the source has none. It is drawn once and reused by all "
        "later retrainings.",
    )
    new_test_set: bool = Field(
        default=False,
        description="Draw a new test set if the source has none. A champion trained on many of its reviews cannot be "
        "compared on it.",
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="Random seed of the splits.")


class TokenizationParams(Form):
    """Tokenization and truncation of the reviews."""

    max_length_tokens: int = Field(
        default=256,
        ge=8,
        le=8192,
        description="Maximum tokens per review, including special tokens. Longer reviews are truncated, and counted "
        "in the log.",
    )
    truncation: Literal["head_tail", "head"] = Field(
        default="head_tail",
        description="head_tail: keep the first quarter and the last three quarters of the allowed tokens, as "
        "verdicts often come last. head: keep the beginning.",
    )
    strip_markup: bool = Field(
        default=True,
        description="Replace HTML tags with spaces and decode HTML entities before tokenization.",
    )
