"""Records that the steps of a training pass on: tokens, base models, trained models."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from tasks.core.models.class_costs import costs_text
from tasks.core.readable import counts_text, figures
from tasks.core.records import Facts, Record, Summary


class TokensSummary(Summary):
    """Unpadded tokens of train and validation, one Parquet file each (columns: input_ids, length, labels)."""

    label_names: list[str]
    rows: dict[str, int]
    tokens: dict[str, int]
    truncated_rows: dict[str, int]
    max_length_tokens: int

    brief = ("tokens",)

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        return {
            "rows": counts_text(self.rows),
            "tokens": counts_text(self.tokens, "tokens"),
            "reviews cut": counts_text(self.truncated_rows),
            "longest": str(self.max_length_tokens),
            "tokenizers": str(inputs.get("tokenizers", "")),
        }


class TeacherLogitsSummary(Summary):
    """A teacher's logits for the training rows, as release 0.1 made them for distillation; for lineage."""

    teacher: str = Field(description="The version, as name/number.")
    label_names: list[str] = Field(description="In the order of the logits.")
    rows: int
    agreement: float = Field(description="Share of the rows whose label the teacher gives.")

    brief = ("teacher", "rows")

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        return {
            "teacher": self.teacher,
            "rows": f"{self.rows} rows",
            "agreement with their labels": f"{self.agreement:.4g}",
        }


class PretrainingTokensSummary(Summary):
    """Tokens of reviews to pre-train on, one Parquet file each for train and held_out (columns: input_ids, length)."""

    source: str = Field(description="Of the unlabelled ones; empty: the training reviews alone.")
    objective: str = Field(description="masked or causal.")
    rows: dict[str, int] = Field(description="Reviews.")
    pieces: dict[str, int] = Field(description="Of them: a long review has several.")
    tokens: dict[str, int]
    left_out: dict[str, int] = Field(description="Rows by the reason.")

    brief = ("reviews", "left out")

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        return {
            "source": self.source or "the training reviews alone",
            "reviews": counts_text(self.rows, "reviews"),
            "tokens": counts_text(self.tokens, "tokens"),
            "left out": counts_text(self.left_out),
        }


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


class BaseModelSummary(Summary):
    """A base model ready for fine-tuning: a folder with config, tokenizer and safetensors."""

    name: str
    revision: str
    architecture: str
    parameters: int
    pretraining: PretrainingSummary | None = Field(
        default=None, description="On the user's own reviews, where there was one."
    )

    brief = ("name", "reviews", "parameters")

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        facts = {
            "name": self.name,
            "revision": self.revision,
            "architecture": self.architecture,
            "parameters": f"{self.parameters:,} parameters",
        }
        if self.pretraining is None:
            return facts
        settings = dict(inputs.get("pretraining") or {})
        return facts | {
            "reviews": f"pre-trained on {self.pretraining.reviews:,} reviews",
            "objective": self.pretraining.objective,
            "settings": ", ".join(f"{name} {value}" for name, value in settings.items()),
            "held-out loss before, and after each epoch": ", ".join(
                f"{loss:.4g}" for loss in self.pretraining.held_out_losses
            ),
            "MLflow run": self.pretraining.mlflow_run_id,
        }


class BaseModelTrial(Summary):
    """The result of checking that a base model can be trained on reviews of some length. It has no files."""

    notes: list[str] = Field(description="What a person should know of it, a sentence each.")


class TrainingSummary(Summary):
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
    class_costs: dict[str, float] = Field(
        default={}, description="Cost of missing a review of each label; empty: none."
    )
    teacher: str = Field(
        default="", description="Version that it was distilled from, in release 0.1; empty: none."
    )

    brief = ("base model", "rows", "seed")

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        settings = dict(inputs.get("training") or {})
        seed = settings.pop("seed", None)
        settings.pop("base_model", None)
        libraries = [
            f"{name} {inputs[name]}" for name in ("torch", "transformers") if name in inputs
        ]
        return {
            "base model": self.base_model,
            "teacher": self.teacher,
            "class costs": costs_text(self.class_costs),
            "rows": f"trained on {self.train_rows:,} rows",
            "seed": "" if seed is None else f"seed {seed}",
            "training parameters": ", ".join(f"{name} {value}" for name, value in settings.items()),
            "steps": str(self.steps),
            "best epoch": str(self.best_epoch),
            "trained on": ", ".join([self.device, self.precision, *libraries]),
            "temperature": f"{self.temperature:.4g}",
            "validation": ", ".join(f"{k} {v}" for k, v in figures(self.validation).items()),
            "MLflow run": self.mlflow_run_id,
        }
