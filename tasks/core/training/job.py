"""The description of a training, the same for one process and for several."""

from pathlib import Path

from pydantic import Field

from tasks.core.data.params import TokenizationParams
from tasks.core.records import Record
from tasks.core.training.params import TrainingParams


class TrainingJob(Record):
    """A base model, its labels and the settings of its training. The reviews are passed separately."""

    base_folder: Path = Field(description="Config, tokenizer and safetensors of the base model.")
    label_names: list[str] = Field(description="In order of their ids.")
    tokenization: TokenizationParams = Field(
        description="How the tokens were made; it is saved with the model."
    )
    params: TrainingParams
