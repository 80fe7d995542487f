"""The forms of the flows, composed of the parameters of their steps. Does not import Prefect, to keep `--help`
quick."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from flows.forms.recipes import RECIPES, RecipeName, filled_in
from flows.forms.registry import RegisteredName
from tasks.connectors.sources.params import SourceParams
from tasks.core.data.params import SplitParams, TokenizationParams, ValidationParams
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.evaluation.behaviour.params import BehaviourParams
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.formats.detection.text_encodings import UTF8, canonical_encoding
from tasks.core.forms import Form, with_current_names
from tasks.core.parsing.patterns import (
    BASE_MODEL,
    MODEL_NAME,
    RUN_RECORDS,
    S3_PREFIX,
    SOURCE_ROW,
    TEACHER_LOGITS,
    TOKENS,
)
from tasks.core.quality.params import InspectionParams
from tasks.core.release.gate.approval import ApprovalParams
from tasks.core.release.gate.params import GateParams
from tasks.core.release.report.params import ReportParams
from tasks.core.scoring.params import EngineParams, OutputFormat
from tasks.core.training.params import DistillationParams, TrainingParams
from tasks.core.training.pretraining.params import PretrainingParams
from tasks.core.training.tuning.params import SweepParams, TrialParams, require_agreement


class DataParams(Form):
    """Source, validation, split and inspection of the labelled reviews."""

    source: SourceParams = Field(
        default=SourceParams(), description="Location and format of the labelled reviews."
    )
    validation: ValidationParams = Field(
        default=ValidationParams(), description="Requirements that the reviews must meet."
    )
    split: SplitParams = Field(
        default=SplitParams(), description="Sizes of the train, validation and test splits."
    )
    inspection: InspectionParams = Field(
        default=InspectionParams(),
        description="Search for near-duplicates and likely label errors.",
    )


class RegistrationParams(Form):
    """Name of the registered model."""

    model_name: Annotated[str, MODEL_NAME] = Field(
        default="reviews",
        description="Name in the MLflow model registry. `score` uses the champion of this name.",
    )


class FineTuneParams(Form):
    """Fine-tune a base model on prepared data. `retrain` and `tune` start this flow themselves, on the GPU pool."""

    former_names: ClassVar = {"teacher_logits": "lessons"}

    tokens: Annotated[str, TOKENS] = Field(
        description="URI of the tokenized reviews, from the log of a retrain run.",
    )
    base_model: Annotated[str, BASE_MODEL] = Field(
        description="URI of the prepared base model, from the log of a retrain run.",
    )
    tokenization: TokenizationParams = Field(
        default=TokenizationParams(), description="Tokenization that produced the tokens."
    )
    training: TrainingParams = Field(
        default=TrainingParams(), description="Settings of fine-tuning."
    )
    trial: TrialParams | None = Field(
        default=None,
        description="Sweep trial that this training belongs to; it may be stopped early. Empty: none.",
    )
    teacher_logits: Annotated[str, TEACHER_LOGITS] = Field(
        default="",
        description="URI of the teacher's logits, from the log of a retrain run. Empty: no distillation.",
    )
    distillation: DistillationParams = Field(
        default=DistillationParams(),
        description="Weight and temperature of the teacher's soft labels.",
    )
    pretraining: PretrainingParams | None = Field(
        default=None,
        description="Pre-train the base model on these tokens instead of fine-tuning it. Empty: fine-tune.",
    )


class RetrainParams(Form):
    """Retrain a classifier on labelled reviews, register it, and promote it to champion if it passes the gate."""

    recipe: RecipeName = Field(
        default="standard",
        description="Preset for all fields that you leave unchanged. standard: the defaults of this form. quick: "
        "4,000 reviews, minutes on a CPU. best: 512 tokens, three times as long.",
    )
    data: DataParams = Field(
        default=DataParams(),
        description="Labelled reviews: source, validation, split and inspection.",
    )
    tokenization: TokenizationParams = Field(
        default=TokenizationParams(), description="Tokenization and truncation of the reviews."
    )
    pretraining: PretrainingParams = Field(
        default=PretrainingParams(),
        description="Further pre-training of the base model on review texts. Off by default.",
    )
    training: TrainingParams = Field(
        default=TrainingParams(), description="Fine-tuning of the base model."
    )
    distillation: DistillationParams = Field(
        default=DistillationParams(),
        description="Learning from the soft labels of a teacher. Off by default.",
    )
    evaluation: EvaluationParams = Field(
        default=EvaluationParams(), description="Metrics and confidence intervals on the test set."
    )
    behaviour: BehaviourParams = Field(
        default=BehaviourParams(),
        description="Behavioural checks: texts for which the correct behaviour is known.",
    )
    gate: GateParams = Field(
        default=GateParams(), description="Conditions for promotion to champion."
    )
    approval: ApprovalParams = Field(
        default=ApprovalParams(),
        description="Approval by a person before promotion. Off by default.",
    )
    report: ReportParams = Field(
        default=ReportParams(), description="HTML report on the model version."
    )
    engines: EngineChoiceParams = Field(
        default=EngineChoiceParams(), description="Choice of the inference engine by benchmark."
    )
    registration: RegistrationParams = Field(
        default=RegistrationParams(), description="Name of the registered model."
    )

    @model_validator(mode="before")
    @classmethod
    def _take_recipe(cls, values: Any) -> Any:
        name = values.get("recipe") if isinstance(values, Mapping) else None
        if isinstance(name, str) and name in RECIPES:  # may be any value
            return filled_in(with_current_names(cls, values), cls, name)
        return values


class TuneParams(RetrainParams):
    """Search for the best training settings; evaluate, register and promote the best model as `retrain` does."""

    sweep: SweepParams = Field(
        default=SweepParams(),
        description="Hyperparameter search: number of trials, metric, pruning and search space.",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        require_agreement(self.training, self.sweep.space)
        return self

    def retraining(self, training: TrainingParams) -> RetrainParams:
        """Return the form of a retraining with these settings, whatever recipe they came from."""
        values = {name: getattr(self, name) for name in RetrainParams.model_fields}
        # The recipe is already applied; applied again, it would replace a winner's value that equals the form's
        # default.
        return RetrainParams.model_validate(values | {"training": training, "recipe": "standard"})


class WatchParams(Form):
    """Check for newly labelled reviews, and emit an event that starts a retraining."""

    location: Annotated[str, S3_PREFIX] = Field(
        default="s3://nightshift/labelled/",
        description="Prefix to watch for labelled reviews.",
    )


class TidyParams(Form):
    """Clean up after runs that crashed."""


class VerifyParams(Form):
    """Verify from the object store alone that a scoring run is complete."""

    run: Annotated[str, RUN_RECORDS] = Field(
        description="URI of the run's records, from its log: s3://bucket/prefix/_runs/name.",
    )


class TraceParams(Form):
    """Trace predictions, models or data back to the labelled reviews, and on to the predictions made from them."""

    start: str = Field(
        min_length=1,
        max_length=1_200,
        validation_alias=AliasChoices("start", "prediction"),
        description="Predictions, scoring run or prepared data (s3://...), version (reviews/3, reviews/champion), "
        "digest, run id, or source of labelled reviews.",
    )
    row: int = Field(
        default=0,
        ge=0,
        le=10**12,
        description="Row number in the input, if `start` is an object with predictions. 0: the whole object.",
    )
    source_row: Annotated[str, SOURCE_ROW] = Field(
        default="",
        max_length=500,
        description="Look up one labelled review in the training data, such as: train.jsonl row 17. Empty: none.",
    )


class ScoreShardsParams(Form):
    """Score some shards of a scoring run. `score` starts this flow itself if `workers` is above 1."""

    former_names: ClassVar = {"run": "place"}

    run: Annotated[str, RUN_RECORDS] = Field(
        description="URI of the run's records, from its log: s3://bucket/prefix/_runs/name.",
    )
    shards: list[int] = Field(min_length=1, description="Shard numbers, from 0.")
    size: int = Field(
        default=0,
        ge=0,
        description="Approximate size of the shards in bytes, for the progress bar. 0: no progress bar.",
    )
    engine: EngineParams = Field(
        default=EngineParams(), description="The inference engine and its settings."
    )


class ScoreParams(Form):
    """Score every review below an S3 prefix with one version of a registered model."""

    former_names: ClassVar = {"max_rejected_fraction": "max_rejected_share"}

    input: Annotated[str, S3_PREFIX] = Field(
        default="s3://nightshift/incoming/",
        description="S3 prefix or object with the reviews: JSONL, CSV, TSV or Parquet, also compressed (gz, zst, bz2).",
    )
    output: Annotated[str, S3_PREFIX] = Field(
        default="s3://nightshift/predictions/",
        description="S3 prefix for the predictions. Each model version has its own folder, with one object per input "
        "object.",
    )
    model_name: RegisteredName = "reviews"
    model_version: str = Field(
        default="champion",
        min_length=1,
        description="Version number or alias. An alias is resolved once, when the run starts.",
    )
    text_column: str = Field(
        default="text",
        min_length=1,
        description="Column with the review text, or the path to a nested field, such as review.text.",
    )
    id_column: str = Field(
        default="id",
        min_length=1,
        description="Column with the review id. If it is missing, the row number is used.",
    )
    keep_columns: list[str] = Field(
        default=[],
        max_length=50,
        description="Columns to copy unchanged into the predictions.",
    )
    encoding: str = Field(
        default=UTF8,
        max_length=40,
        description="Encoding of CSV, TSV and JSONL files, such as cp1252. Files in UTF-8 or with a byte order mark "
        "are always detected.",
    )
    output_format: OutputFormat = Field(
        default="same",
        description="Format of the predictions. same: the format of each input object.",
    )
    csv_formula_guard: bool = Field(
        default=True,
        description="In CSV and TSV, put an apostrophe before texts that a spreadsheet could run as a formula (=, +, "
        "-, @, tab, line end).",
    )
    scope: Literal["only_new", "rescore"] = Field(
        default="only_new",
        description="only_new: skip unchanged objects that this version has already scored. rescore: score all "
        "objects again.",
    )
    allow_empty: bool = Field(
        default=False,
        description="Succeed when the prefix is empty. Off by default: an empty prefix is usually a typo.",
    )
    max_rejected_fraction: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Fail an object if a larger fraction of its rows is rejected (usually the wrong file).",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Number of parallel runs, on the pool of NIGHTSHIFT_SCORING_DEPLOYMENT, on Ray or on Dask. 1: "
        "score in this run.",
    )
    engine: EngineParams = Field(
        default=EngineParams(), description="The inference engine and its settings."
    )

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        return canonical_encoding(name)
