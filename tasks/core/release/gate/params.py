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
    """Requirements on the test set for a model's first champion, which has no other model to be compared with."""

    min_test_rows: int = Field(
        default=100, ge=0, le=1_000_000, description="Test reviews that it needs. 0: any number."
    )
    min_test_rows_a_class: int = Field(
        default=10, ge=0, le=1_000_000, description="The same of each class. 0: any number."
    )
    must_beat_largest_class: bool = Field(
        default=True,
        description="Require an accuracy above what the largest class as the answer to every review would have, also "
        "at its lower bound (at champion.false_promotion_risk).",
    )
    must_recall_every_class: bool = Field(
        default=True,
        description="Refuse a model that gets no test review of a class right; of a later one, where the champion gets "
        "ten or more right.",
    )


class LimitsParams(Form):
    """Limits that apply to every model, regardless of the champion."""

    minimum_accuracy: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Never promote below this accuracy. 0: no floor."
    )
    minimum_macro_f1: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Never promote below this macro-F1. 0: no floor."
    )
    maximum_calibration_error: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="Expected calibration error; what so few rows show by chance is allowed on top. 1: no limit.",
    )


class ChampionParams(Form):
    """The comparison of the new model with the champion on the same test reviews."""

    margin: float = Field(
        default=0.01,
        ge=0.0005,
        le=0.2,
        description="How much lower than the champion's the true accuracy may be, where the test set can tell.",
    )
    false_promotion_risk: float = Field(
        default=0.05,
        ge=0.001,
        le=0.4,
        description="How often a model that is worse by the margin applied may be let through.",
    )
    false_refusal_risk: float = Field(
        default=0.2,
        ge=0.01,
        le=0.5,
        description="How often a model as good as the champion may be refused by chance.",
    )
    small_test_set: Literal["widen", "refuse"] = Field(
        default="widen",
        description="Where the test set is too small for the margin at both risks: widen the margin to what it can "
        "resolve, and warn; or refuse what is not shown to be within the margin.",
    )
    widest_margin: float = Field(
        default=0.05, ge=0.0005, le=0.3, description="Never widen the margin beyond this."
    )


class SlicesParams(Form):
    """Parts of the test set on which the new model must not be worse: lengths, labels, sources, columns."""

    margin: float = Field(
        default=0.03,
        ge=0.0,
        le=1.0,
        description="A slice shown to be worse than the champion's by more than this refuses the model. 1: off.",
    )
    min_rows: int = Field(
        default=30, ge=10, le=100_000, description="Slices with fewer test reviews are left out."
    )
    max_values: int = Field(
        default=10, ge=1, le=100, description="Of a column, its most frequent values."
    )


class ChecksParams(Form):
    """Behavioural checks: negation, names, typos and the like."""

    former_names: ClassVar = {"max_failure_fraction": "max_failure_share"}

    margin: float = Field(
        default=0.02,
        ge=0.0,
        le=1.0,
        description="Checks shown to fail more often than the champion's by more than this, on average, refuse the "
        "model. 1: off.",
    )
    max_single_rise: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="How much the failure share of a single check may rise, so that nothing the champion can do is "
        "lost. Two good models may well differ by 0.3. 1: no limit.",
    )
    max_failure_fraction: float = Field(
        default=1.0,
        ge=0.0,
        le=1.0,
        description="Share of a check's cases that may fail, whatever the champion does. 1: no limit.",
    )


class BudgetParams(Form):
    """Limits on a model's size and speed."""

    max_parameters: float | None = Field(
        default=None, gt=0.0, le=1e6, description="In millions. Empty: no limit."
    )
    max_slowdown: float | None = Field(
        default=None,
        gt=0.0,
        le=1000.0,
        description="Times as long as the champion takes for a review, both measured in turns. Empty: no limit.",
    )
    min_reviews_per_second: float | None = Field(
        default=None, gt=0.0, le=1e9, description="On the machine that evaluates. Empty: no limit."
    )


class PlausibilityParams(Form):
    """Checks for results too good to be true: a model that has seen the test reviews."""

    former_names: ClassVar = {"max_overlap_fraction": "max_overlap_share"}

    max_gain_over_validation: float = Field(
        default=0.03,
        ge=0.0,
        le=1.0,
        description="Test accuracy shown to be higher than validation accuracy by more than this refuses. 1: off.",
    )
    max_overlap_fraction: float = Field(
        default=0.05,
        ge=0.0,
        le=1.0,
        description="Share of test reviews that have a near-duplicate in training. 1: no limit.",
    )


class GateParams(Form):
    """The rule for promotion to champion."""

    promote: bool = Field(
        default=True,
        description="Let the new model become champion when it passes. Off: challenger only.",
    )
    must_beat_baseline: bool = Field(
        default=True,
        description="Require more right answers than TF-IDF + logistic regression on the same test rows.",
    )
    first_champion: FirstChampionParams = Field(
        default=FirstChampionParams(), description="Enough test reviews to rest a verdict on."
    )
    champion: ChampionParams = Field(
        default=ChampionParams(), description="Not worse than the champion."
    )
    slices: SlicesParams = Field(default=SlicesParams(), description="Not broken on a part.")
    behaviour: ChecksParams = Field(
        default=ChecksParams(), description="Checks of behaviour not worse."
    )
    limits: LimitsParams = Field(default=LimitsParams(), description="Floors and calibration.")
    budget: BudgetParams = Field(default=BudgetParams(), description="Size and speed.")
    plausibility: PlausibilityParams = Field(
        default=PlausibilityParams(), description="Too good to be true."
    )

    @property
    def clause_risk(self) -> float:
        """The risk that each of the other clauses refuses by chance a model that meets it."""
        return self.champion.false_refusal_risk * (1 - COMPARISON_SHARE) / _OTHER_CLAUSES
