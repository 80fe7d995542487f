"""What is trained, and how: the same for a training in this process and in several."""

from pathlib import Path

from pydantic import Field

from tasks.core.data.params import TokenizationParams
from tasks.core.records import Record
from tasks.core.training.params import DistillationParams, TrainingParams


class TrainingJob(Record):
    """A base model, and what to make of it; the reviews come beside it."""

    base_folder: Path = Field(description="Config, tokenizer and safetensors of the base model.")
    label_names: list[str] = Field(description="In order of their ids.")
    tokenization: TokenizationParams = Field(
        description="How the tokens were made; it is saved with the model."
    )
    params: TrainingParams
    distillation: DistillationParams | None = Field(
        default=None,
        description="How much the teacher counts whose logits are in the training rows' column teacher_logits, one a "
        "class; None: they need no such column.",
    )
