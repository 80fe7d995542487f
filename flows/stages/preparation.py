"""Prepare a training, from the source to tokens: the first half of `retrain` and of `tune`.

check -> base model -> load -> validate -> hold out the test set -> split -> inspect -> tokenize
"""

from dataclasses import dataclass
from typing import Any

from flows.forms.pipelines import RetrainParams
from tasks.core.evaluation.behaviour.checks import label_roles
from tasks.core.models.class_costs import costs_of_labels
from tasks.core.quality.records import InspectionSummary
from tasks.core.records import (
    HeldOutSummary,
    LoadedSummary,
    Reference,
    SplitSummary,
    ValidatedSummary,
)
from tasks.core.training.records import BaseModelSummary, PretrainingTokensSummary, TokensSummary
from tasks.data.holdout import hold_out_test
from tasks.data.ingestion import load_reviews, split_reviews, validate_reviews
from tasks.data.inspection import inspect_reviews
from tasks.engines.selection import warn_of_few_rows
from tasks.evaluation.behavioural_tests import Checks, keep_checks
from tasks.release.gate import warn_of_few_test_rows
from tasks.runtime.runs.preflight import check_services
from tasks.training.inputs import prepare_base_model, tokenize_reviews


@dataclass(frozen=True)
class Pretraining:
    """References to the tokens for further pre-training, and to the resulting base model."""

    tokens: Reference[PretrainingTokensSummary]
    base: Reference[BaseModelSummary]


@dataclass(frozen=True)
class Prepared:
    """References to the prepared results, in the order of the steps."""

    checks: Checks
    base: Reference[BaseModelSummary]
    loaded: Reference[LoadedSummary]
    validated: Reference[ValidatedSummary]
    held_out: Reference[HeldOutSummary]
    split: Reference[SplitSummary]
    inspection: Reference[InspectionSummary]
    tokens: Reference[TokensSummary]
    pretraining: Pretraining | None = None

    @property
    def start(self) -> Reference[BaseModelSummary]:
        """The model to fine-tune: the base model, or the result of its further pre-training."""
        return self.pretraining.base if self.pretraining else self.base

    @property
    def steps(self) -> list[Reference[Any]]:
        """All references."""
        data = [self.loaded, self.validated, self.held_out, self.split, self.inspection]
        further = [self.pretraining.tokens, self.pretraining.base] if self.pretraining else []
        return [self.checks, self.base, *data, self.tokens, *further]


def prepare(params: RetrainParams) -> Prepared:
    """Check that the services answer, then prepare what does not exist yet."""
    check_services(params.training.device, trains=True)
    checks = keep_checks(params.behaviour)
    source, rules = params.data.source, params.data
    base = prepare_base_model(params.training, params.tokenization)
    loaded = load_reviews(source, rules.validation.max_unusable_fraction)
    validated = validate_reviews(loaded, source.label_names, rules.validation, source.label_map)
    label_roles(validated.summary.label_names, params.behaviour)  # its labels must exist
    costs_of_labels(params.registration.class_costs, validated.summary.label_names)  # theirs, too
    held_out = hold_out_test(validated, source, rules.split, params.registration.model_name)
    split = split_reviews(
        validated,
        held_out,
        source.slice_columns,
        rules.split,
        rules.validation.min_rows_a_class,
    )
    warn_of_few_rows(split, params.engines)
    warn_of_few_test_rows(split, params.gate)
    inspection = inspect_reviews(split, validated, rules.inspection)
    tokens = tokenize_reviews(split, base, params.tokenization)
    return Prepared(checks, base, loaded, validated, held_out, split, inspection, tokens)
