"""The form for further pre-training."""

from typing import ClassVar

from pydantic import Field

from tasks.core.forms import Form


class PretrainingParams(Form):
    """The settings of further pre-training: the base model first learns the reviews' language, without labels."""

    former_names: ClassVar = {"mlm_probability": "mask_share"}

    epochs: int = Field(
        default=0,
        ge=0,
        le=50,
        description="Passes over the reviews before fine-tuning; 0: none. Worth its time where there are far more "
        "reviews than labels, or where their language is not that of the base model's texts.",
    )
    location: str = Field(
        default="",
        description="Unlabelled reviews beside the training reviews: as data.source.location, and no label column is "
        "looked for; of a data set its 'unsupervised' split, too. Copies of test and validation reviews are left "
        "out. Empty: the training reviews alone.",
    )
    text_column: str = Field(
        default="text", min_length=1, description="Column of the unlabelled reviews that holds one."
    )
    limit_rows: int | None = Field(
        default=None,
        ge=2,
        le=100_000_000,
        description="Reviews at most, the training reviews among them, drawn at random. Empty: all.",
    )
    learning_rate: float = Field(
        default=5e-5,
        gt=0,
        le=1e-2,
        description="Peak; it warms up in a tenth of the steps and then falls to zero in a line.",
    )
    mlm_probability: float = Field(
        default=0.15,
        gt=0,
        lt=1,
        description="Share of the tokens that an encoder has to guess. Decoders guess every next token instead.",
    )
    batch_size: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Reviews a batch, long ones in pieces of tokenization.max_length_tokens.",
    )
    seed: int = Field(
        default=42,
        ge=0,
        le=2**31 - 1,
        description="Of what is drawn, of the order of batches and of what is masked.",
    )
