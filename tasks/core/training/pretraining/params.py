"""The form for further pre-training."""

from typing import ClassVar

from pydantic import Field

from tasks.core.forms import Form


class PretrainingParams(Form):
    """Further pre-training of the base model on review texts, without labels."""

    former_names: ClassVar = {"mlm_probability": "mask_share"}

    epochs: int = Field(
        default=0,
        ge=0,
        le=50,
        description="Pre-training epochs before fine-tuning (0: none). Useful with many unlabelled reviews or "
        "unusual language.",
    )
    location: str = Field(
        default="",
        description="Unlabelled reviews beside the training reviews, specified like data.source.location. Empty: the "
        "training reviews only.",
    )
    text_column: str = Field(
        default="text", min_length=1, description="Column with the text of the unlabelled reviews."
    )
    limit_rows: int | None = Field(
        default=None,
        ge=2,
        le=100_000_000,
        description="Maximum number of reviews, training reviews included, drawn at random. Empty: all.",
    )
    learning_rate: float = Field(
        default=5e-5,
        gt=0,
        le=1e-2,
        description="Peak learning rate: warmup in the first tenth of the steps, then linear decay to 0.",
    )
    mlm_probability: float = Field(
        default=0.15,
        gt=0,
        lt=1,
        description="Fraction of tokens that an encoder must predict (masked language modelling). Decoders predict "
        "every next token.",
    )
    batch_size: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Reviews per mini-batch. A review longer than tokenization.max_length_tokens counts as several.",
    )
    seed: int = Field(
        default=42,
        ge=0,
        le=2**31 - 1,
        description="Random seed of sampling, batch order and masking.",
    )
