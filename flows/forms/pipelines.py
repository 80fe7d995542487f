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
    """Source, validation and split of the reviews."""

    source: SourceParams = Field(default=SourceParams(), description="Where labelled reviews are.")
    validation: ValidationParams = Field(
        default=ValidationParams(), description="What they must be like."
    )
    split: SplitParams = Field(
        default=SplitParams(), description="How many are used, and for what."
    )
    inspection: InspectionParams = Field(
        default=InspectionParams(), description="What is looked for in them, for people to see."
    )


class RegistrationParams(Form):
    """Name of the registered model."""

    model_name: Annotated[str, MODEL_NAME] = Field(
        default="reviews",
        description="Name in the MLflow model registry. Scoring looks for the champion of this name.",
    )


class FineTuneParams(Form):
    """Fine-tune a base model on reviews that `retrain` has prepared. It starts this itself, on the GPU pool."""

    former_names: ClassVar = {"teacher_logits": "lessons"}

    tokens: Annotated[str, TOKENS] = Field(
        description="Where the tokenized reviews lie, as the log of a retrain run names it.",
    )
    base_model: Annotated[str, BASE_MODEL] = Field(
        description="Where the prepared base model lies, as the log of a retrain run names it.",
    )
    tokenization: TokenizationParams = Field(
        default=TokenizationParams(), description="How the tokens were made."
    )
    training: TrainingParams = Field(
        default=TrainingParams(), description="What is fine-tuned, and how."
    )
    trial: TrialParams | None = Field(
        default=None, description="Which trial of a sweep it is; a hopeless one is stopped early."
    )
    teacher_logits: Annotated[str, TEACHER_LOGITS] = Field(
        default="",
        description="URI of the teacher's logits, from the log of a retrain run. Empty: learn from the labels alone.",
    )
    distillation: DistillationParams = Field(
        default=DistillationParams(), description="Weight of the teacher's logits in the loss."
    )
    pretraining: PretrainingParams | None = Field(
        default=None,
        description="Pre-train the base model further on these tokens, and do not fine-tune it.",
    )


class RetrainParams(Form):
    """Retrain a classifier on labelled reviews, register it, and make it champion if it passes the gate."""

    recipe: RecipeName = Field(
        default="standard",
        description="Settings that go together: quick (minutes on a CPU, 4,000 reviews; scored by the model and a "
        "linear one blended, where OpenVINO is installed), standard (as the form stands), best (all tokens, three "
        "times as long). A field that you have set otherwise than the form "
        "has it stays yours.",
    )
    data: DataParams = Field(default=DataParams(), description="The labelled reviews.")
    tokenization: TokenizationParams = Field(
        default=TokenizationParams(), description="How reviews become tokens."
    )
    pretraining: PretrainingParams = Field(
        default=PretrainingParams(),
        description="Whether the base model first learns the reviews' language, without labels.",
    )
    training: TrainingParams = Field(
        default=TrainingParams(), description="What is fine-tuned, and how."
    )
    distillation: DistillationParams = Field(
        default=DistillationParams(), description="From which teacher it learns beside the labels."
    )
    evaluation: EvaluationParams = Field(
        default=EvaluationParams(), description="How the model is judged."
    )
    behaviour: BehaviourParams = Field(
        default=BehaviourParams(), description="Sentences that leave no doubt, put to the model."
    )
    gate: GateParams = Field(default=GateParams(), description="When it may become champion.")
    approval: ApprovalParams = Field(
        default=ApprovalParams(), description="Whether a person has the last word."
    )
    report: ReportParams = Field(
        default=ReportParams(), description="The report that people read of a version."
    )
    engines: EngineChoiceParams = Field(
        default=EngineChoiceParams(), description="What is to score with it, by measurement."
    )
    registration: RegistrationParams = Field(
        default=RegistrationParams(), description="Under which name it is registered."
    )

    @model_validator(mode="before")
    @classmethod
    def _take_recipe(cls, given: Any) -> Any:
        name = given.get("recipe") if isinstance(given, Mapping) else None
        if isinstance(name, str) and name in RECIPES:  # may be any value
            return filled_in(with_current_names(cls, given), cls, name)
        return given


class TuneParams(RetrainParams):
    """Search the settings of a training; evaluate, register and promote the best model as a retraining does."""

    sweep: SweepParams = Field(default=SweepParams(), description="What is tried, and how often.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        require_agreement(self.training, self.sweep.space)
        return self

    def retraining(self, training: TrainingParams) -> RetrainParams:
        """Return the form of a retraining with these settings, whatever recipe they came from."""
        given = {name: getattr(self, name) for name in RetrainParams.model_fields}
        # The recipe is already applied; applied again, it would replace a winner's value that equals the form's
        # default.
        return RetrainParams.model_validate(given | {"training": training, "recipe": "standard"})


class WatchParams(Form):
    """Check for newly labelled reviews, and emit an event that starts a retraining."""

    location: Annotated[str, S3_PREFIX] = Field(
        default="s3://nightshift/labelled/",
        description="Prefix where labelled reviews land.",
    )


class TidyParams(Form):
    """Clean up after runs that died."""


class VerifyParams(Form):
    """Prove from the object store alone that a scoring run is complete."""

    run: Annotated[str, RUN_RECORDS] = Field(
        description="Where the records of the run lie, as its log and its last line name it.",
    )


class TraceParams(Form):
    """Trace anything back to the reviews that a model learned from, and on to its predictions."""

    start: str = Field(
        min_length=1,
        max_length=1_200,
        validation_alias=AliasChoices("start", "prediction"),
        description="What to follow: an object with predictions or a scoring run (s3://...), a version (reviews/3 or "
        "reviews/champion), prepared data (s3://.../prepared/...), a digest, the id of a run, or the location of "
        "labelled reviews as retrain was given it.",
    )
    row: int = Field(
        default=0,
        ge=0,
        le=10**12,
        description="Of predictions: number of the row in the input; 0: only the object.",
    )
    source_row: Annotated[str, SOURCE_ROW] = Field(
        default="",
        max_length=500,
        description="Was this labelled review in the training data? Its name as the checks of the data give it, such "
        "as: train.jsonl row 17.",
    )


class ScoreShardsParams(Form):
    """Score some shards of a scoring run. `score` starts it where several share the work."""

    former_names: ClassVar = {"run": "place"}

    run: Annotated[str, RUN_RECORDS] = Field(
        description="Where the records of the run lie, as its log names it.",
    )
    shards: list[int] = Field(min_length=1, description="Numbers of the shards, from 0.")
    size: int = Field(
        default=0,
        ge=0,
        description="Bytes that they hold, more or less; the progress bar goes by them.",
    )
    engine: EngineParams = Field(default=EngineParams(), description="How the model is run.")


class ScoreParams(Form):
    """Score every review below a prefix with a pinned version of a registered model."""

    former_names: ClassVar = {"max_rejected_fraction": "max_rejected_share"}

    input: Annotated[str, S3_PREFIX] = Field(
        default="s3://nightshift/incoming/",
        description="Prefix (or one object) with reviews: JSONL, CSV, TSV or Parquet; gz, zst or bz2.",
    )
    output: Annotated[str, S3_PREFIX] = Field(
        default="s3://nightshift/predictions/",
        description="Prefix for predictions. Below it each model and version has a folder, with one object for each "
        "input object, of the same name.",
    )
    model_name: RegisteredName = "reviews"
    model_version: str = Field(
        default="champion",
        min_length=1,
        description="Alias or number; an alias is resolved once, when the run begins.",
    )
    text_column: str = Field(
        default="text",
        min_length=1,
        description="Column that holds the review, or the path to a nested field, such as review.text.",
    )
    id_column: str = Field(
        default="id",
        min_length=1,
        description="Column that names it; where absent, the row number does.",
    )
    keep_columns: list[str] = Field(
        default=[],
        max_length=50,
        description="Columns that go along to the predictions as they are.",
    )
    encoding: str = Field(
        default=UTF8,
        max_length=40,
        description="Of CSV, TSV and JSONL, such as cp1252. Files that are UTF-8, or whose byte order mark says what "
        "they are (UTF-16), are found out.",
    )
    output_format: OutputFormat = Field(
        default="same", description="Of the predictions; same: each object's own."
    )
    csv_formula_guard: bool = Field(
        default=True,
        description="In predictions as CSV or TSV, put an apostrophe before texts that begin with =, +, -, @, a tab or "
        "a line end, so that no spreadsheet runs them as formulas. Numbers stay as they are.",
    )
    scope: Literal["only_new", "rescore"] = Field(
        default="only_new",
        description="only_new leaves out what this version has scored in the state it is in; rescore does all again.",
    )
    allow_empty: bool = Field(
        default=False,
        description="A night without any review is no failure. Off: it is, as a wrong prefix looks the same.",
    )
    max_rejected_fraction: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="An object of which more rows cannot be scored fails whole: it is likely the wrong file.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Runs that share the work, on the pool of NIGHTSHIFT_SCORING_DEPLOYMENT or on Ray or Dask; 1: "
        "this run does it all.",
    )
    engine: EngineParams = Field(default=EngineParams(), description="How the model is run.")

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        return canonical_encoding(name)
