"""The promotion rule as a form: the conditions a new model must meet, and the risks accepted.

All clauses together keep two stated risks. `false_promotion_risk`: the most often that a model worse than the champion
by the applied margin is promoted. `false_refusal_risk`: the most often that a model as good as the champion is refused
by chance, if the test set is large enough. Three quarters of the latter go to the comparison with the champion. The
four clauses that could refuse an equal model by chance (slices, behaviour, calibration, plausibility) share the last
quarter, and slices divide their part again by their number (Bonferroni).

A first champion has no other model to be compared with. FirstChampionParams says what the test set must show of it: a
model worth no more than always answering with the largest class passes at most at `false_promotion_risk`.
"""

from typing import ClassVar, Literal

from pydantic import Field

from tasks.core.forms import Form

#: Fraction of the refusal risk that goes to the comparison with the champion; four other clauses share the rest.
COMPARISON_SHARE = 0.75
_OTHER_CLAUSES = 4


class FirstChampionParams(Form):
    """Requirements for the first champion, which cannot be compared with another model."""

    min_test_rows: int = Field(
        default=100,
        ge=0,
        le=1_000_000,
        description="Minimum number of test reviews. 0: no minimum.",
    )
    min_test_rows_a_class: int = Field(
        default=10,
        ge=0,
        le=1_000_000,
        description="Minimum number of test reviews per class. 0: no minimum.",
    )
    must_beat_largest_class: bool = Field(
        default=True,
        description="Require that accuracy, at its lower confidence bound, beats always answering with the largest "
        "class.",
    )
    must_recall_every_class: bool = Field(
        default=True,
        description="Refuse a model whose recall of a class is 0. After the first champion: only if the champion "
        "recalls at least 10 of its reviews.",
    )


class LimitsParams(Form):
    """Limits that apply to every model, regardless of the champion."""

    minimum_accuracy: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Minimum test accuracy. 0: no minimum."
    )
    minimum_macro_f1: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Minimum test macro-F1. 0: no minimum."
    )
    maximum_calibration_error: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="Maximum expected calibration error, with an allowance for chance if test reviews are few. 1: no "
        "limit.",
    )


class ChampionParams(Form):
    """Comparison with the champion on the same test reviews (non-inferiority test)."""

    margin: float = Field(
        default=0.01,
        ge=0.0005,
        le=0.2,
        description="Largest acceptable loss of accuracy against the champion; 0.01 is one percentage point.",
    )
    false_promotion_risk: float = Field(
        default=0.05,
        ge=0.001,
        le=0.4,
        description="Maximum probability of promoting a model that is worse than the champion by the applied margin.",
    )
    false_refusal_risk: float = Field(
        default=0.2,
        ge=0.01,
        le=0.5,
        description="Maximum probability of refusing a model that is as good as the champion, if the test set is "
        "large enough.",
    )
    small_test_set: Literal["widen", "refuse"] = Field(
        default="widen",
        description="If the test set is too small for the margin. widen: use the smallest margin that it can resolve, "
        "and warn. refuse: keep the margin.",
    )
    widest_margin: float = Field(
        default=0.05, ge=0.0005, le=0.3, description="Maximum margin after widening."
    )


class SlicesParams(Form):
    """Comparison with the champion on slices of the test set: text lengths, labels, sources, columns."""

    margin: float = Field(
        default=0.03,
        ge=0.0,
        le=1.0,
        description="Refuse a model whose accuracy on a slice is shown to be lower than the champion's by more than "
        "this. 1: off.",
    )
    min_rows: int = Field(
        default=30, ge=10, le=100_000, description="Ignore slices with fewer test reviews."
    )
    max_values: int = Field(
        default=10,
        ge=1,
        le=100,
        description="Maximum number of slices per column: its most frequent values.",
    )


class ChecksParams(Form):
    """Comparison with the champion on behavioural checks: negation, names, typos and others."""

    former_names: ClassVar = {"max_failure_fraction": "max_failure_share"}

    margin: float = Field(
        default=0.02,
        ge=0.0,
        le=1.0,
        description="Refuse a model whose average failure rate is shown to exceed the champion's by more than this. "
        "1: no limit.",
    )
    max_single_rise: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="Maximum increase of the failure rate of a single check. Two good models may differ by 0.3. 1: "
        "no limit.",
    )
    max_failure_fraction: float = Field(
        default=1.0,
        ge=0.0,
        le=1.0,
        description="Maximum failure rate of any check, regardless of the champion. 1: no limit.",
    )


class BudgetParams(Form):
    """Limits on a model's size and speed."""

    max_parameters: float | None = Field(
        default=None,
        gt=0.0,
        le=1e6,
        description="Maximum number of parameters, in millions. Empty: no limit.",
    )
    max_slowdown: float | None = Field(
        default=None,
        gt=0.0,
        le=1000.0,
        description="Maximum time per review as a multiple of the champion's, measured on the same machine. Empty: "
        "no limit.",
    )
    min_reviews_per_second: float | None = Field(
        default=None,
        gt=0.0,
        le=1e9,
        description="Minimum throughput on the machine that evaluates, in reviews per second. Empty: no limit.",
    )


class PlausibilityParams(Form):
    """Checks for results that are too good to be true: test reviews that leaked into training."""

    former_names: ClassVar = {"max_overlap_fraction": "max_overlap_share"}

    max_gain_over_validation: float = Field(
        default=0.03,
        ge=0.0,
        le=1.0,
        description="Refuse a model whose test accuracy is shown to exceed its validation accuracy by more than "
        "this. 1: off.",
    )
    max_overlap_fraction: float = Field(
        default=0.05,
        ge=0.0,
        le=1.0,
        description="Maximum fraction of test reviews with a near-duplicate in the training data. 1: no limit.",
    )


class GateParams(Form):
    """Conditions for promotion to champion."""

    promote: bool = Field(
        default=True,
        description="Promote the model to champion if it passes. Off: it stays challenger.",
    )
    must_beat_baseline: bool = Field(
        default=True,
        description="Require more correct test predictions than TF-IDF + logistic regression.",
    )
    first_champion: FirstChampionParams = Field(
        default=FirstChampionParams(), description="Requirements for the first champion."
    )
    champion: ChampionParams = Field(
        default=ChampionParams(), description="Comparison of accuracy with the champion."
    )
    slices: SlicesParams = Field(
        default=SlicesParams(),
        description="Comparison with the champion on slices of the test set.",
    )
    behaviour: ChecksParams = Field(
        default=ChecksParams(), description="Comparison with the champion on behavioural checks."
    )
    limits: LimitsParams = Field(
        default=LimitsParams(),
        description="Minimum accuracy and macro-F1, maximum calibration error.",
    )
    budget: BudgetParams = Field(default=BudgetParams(), description="Limits on size and speed.")
    plausibility: PlausibilityParams = Field(
        default=PlausibilityParams(),
        description="Checks for test reviews that leaked into training.",
    )

    @property
    def clause_risk(self) -> float:
        """The risk that each of the other clauses refuses by chance a model that meets it."""
        return self.champion.false_refusal_risk * (1 - COMPARISON_SHARE) / _OTHER_CLAUSES
