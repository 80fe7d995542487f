"""Records that the steps of a training pass on: tokens, base models, trained models."""

from pydantic import Field

from tasks.core.records import Record


class TokensSummary(Record):
    """Unpadded tokens of train and validation, one Parquet file each (columns: input_ids, length, labels)."""

    label_names: list[str]
    rows: dict[str, int]
    tokens: dict[str, int]
    truncated_rows: dict[str, int]
    max_length_tokens: int


class TeacherLogitsSummary(Record):
    """A teacher's logits for the training rows, in row order, in one Parquet file (column: teacher_logits)."""

    teacher: str = Field(description="The version, as name/number.")
    label_names: list[str] = Field(description="In the order of the logits.")
    rows: int
    agreement: float = Field(description="Share of the rows whose label the teacher gives.")


class PretrainingTokensSummary(Record):
    """Tokens of reviews to pre-train on, one Parquet file each for train and held_out (columns: input_ids, length)."""

    source: str = Field(description="Of the unlabelled ones; empty: the training reviews alone.")
    objective: str = Field(description="masked or causal.")
    rows: dict[str, int] = Field(description="Reviews.")
    pieces: dict[str, int] = Field(description="Of them: a long review has several.")
    tokens: dict[str, int]
    left_out: dict[str, int] = Field(description="Rows by the reason.")


class PretrainingSummary(Record):
    """The outcome of further pre-training of a base model."""

    base_revision: str
    objective: str
    reviews: int
    pieces: int
    epochs: int
    steps: int
    seconds: float
    precision: str
    device: str
    final_train_loss: float = Field(description="Mean of the last steps, ten at most.")
    held_out_losses: list[float] = Field(description="Before it, and after each epoch.")
    mlflow_run_id: str


class BaseModelSummary(Record):
    """A base model ready for fine-tuning: a folder with config, tokenizer and safetensors."""

    name: str
    revision: str
    architecture: str
    parameters: int
    pretraining: PretrainingSummary | None = Field(
        default=None, description="On the user's own reviews, where there was one."
    )


class BaseModelTrial(Record):
    """The result of checking that a base model can be trained on reviews of some length. It has no files."""

    notes: list[str] = Field(description="What a person should know of it, a sentence each.")


class TrainingSummary(Record):
    """A fine-tuned classifier in the format that `from_pretrained` reads, and the facts of its training."""

    base_model: str
    base_revision: str
    label_names: list[str]
    train_rows: int
    steps: int
    epochs_run: float
    best_epoch: float
    seconds: float
    reviews_per_second: float
    precision: str
    device: str
    processes: int = Field(default=1, description="That trained it together.")
    packed: bool = Field(default=False, description="Its batches had no padding.")
    batch_rule: str = Field(
        default="padded",
        description="Which texts share a batch so that no answer depends on another text: any (padded), those of equal "
        "lengths, or none (alone). It holds for training and for all that scores the model.",
    )
    bf16_difference: float | None = Field(
        default=None,
        description="Share by which loss or gradient of the first batches in bf16 differed from fp32's; where it is "
        "more than the settings allow, the precision is fp32. None: not looked at.",
    )
    final_train_loss: float = Field(description="Mean of the last steps, ten at most.")
    temperature: float = Field(description="Fitted on the validation reviews.")
    validation_rows: int
    validation: dict[str, float] = Field(description="Metrics of the kept checkpoint.")
    mlflow_run_id: str
    teacher: str = Field(default="", description="Version it learned from, too; empty: from none.")
