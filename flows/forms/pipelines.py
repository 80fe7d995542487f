"""The forms of the flows, composed of the parameters of their steps. Does not import Prefect, to keep `--help`
quick."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from flows.forms.recipes import RECIPES, RecipeName, filled_in
from tasks.connectors.sources.params import SourceParams
from tasks.core.data.params import SplitParams, TokenizationParams, ValidationParams
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.evaluation.behaviour.params import BehaviourParams
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.forms import Form, with_current_names
from tasks.core.models.class_costs import parse_class_costs
from tasks.core.parsing.pairs import PairsText
from tasks.core.parsing.patterns import (
    BASE_MODEL,
    MODEL_NAME,
    S3_PREFIX,
    TOKENS,
)
from tasks.core.quality.params import InspectionParams
from tasks.core.release.gate.approval import ApprovalParams
from tasks.core.release.gate.params import GateParams
from tasks.core.release.report.params import ReportParams
from tasks.core.training.params import TrainingParams
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
    """Name of the registered model, and the costs of its errors."""

    model_name: Annotated[str, MODEL_NAME] = Field(
        default="reviews",
        description="Name in the MLflow model registry. `score` uses the champion of this name.",
    )
    class_costs: PairsText = Field(
        default="",
        max_length=20_000,
        description="Cost of giving a review of this label another one, such as NEGATIVE=5 (1 for labels not named). "
        "Empty: predict the most likely label.",
    )

    @field_validator("class_costs")
    @classmethod
    def _costs_are_numbers(cls, text: str) -> str:
        parse_class_costs(text)
        return text


class FineTuneParams(Form):
    """Fine-tune a base model on prepared data. `retrain` and `tune` start this flow themselves, on the GPU pool."""

    removed_fields: ClassVar = frozenset({"lessons", "teacher_logits", "distillation"})

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
    pretraining: PretrainingParams | None = Field(
        default=None,
        description="Pre-train the base model on these tokens instead of fine-tuning it. Empty: fine-tune.",
    )


class RetrainParams(Form):
    """Retrain a classifier on labelled reviews, register it, and promote it to champion if it passes the gate."""

    removed_fields: ClassVar = frozenset({"distillation"})

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
        default=RegistrationParams(),
        description="Name of the registered model, and the costs of its errors.",
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
