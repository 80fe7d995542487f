"""Fit a cascade: calibrate its stages, find their deferral thresholds, and record what it then does.

`bands.py` describes what the thresholds promise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.core.decision import predict_labels
from tasks.core.engines.cascade.bands import (
    NOTHING,
    SAFETY,
    CascadeRule,
    changes,
    fit_deferral_thresholds,
    margins,
    most_failures,
)
from tasks.core.engines.cascade.blending import fit_weights
from tasks.core.engines.cascade.records import CascadeRecord, StageRecord
from tasks.core.engines.cascade.stages import Cascade, Ints, Logits, Stage
from tasks.core.errors import ModelError
from tasks.core.evaluation.comparison import Pair
from tasks.core.models.calibration import fit_temperature

# The threshold of a first stage whose logits later stages only add to theirs.
_ANSWERS_NOTHING = 1e9
_RECORDED = StageRecord.model_fields.keys() - {"scored_share"}


@dataclass(frozen=True)
class Rows:
    """Validation rows that deferral thresholds are fitted on.

    Attributes:
        input_ids: unpadded rows like those that will be scored.
        labels: true class ids, shape (rows,), below 0 if unknown; may be None unless the cascade is fast.
        answers: logits of engines that are already computed, by the name of the stage.
        reference: logits of the engine that a fast cascade is compared with; None for the last stage's.
    """

    input_ids: Sequence[Sequence[int]]
    labels: Ints | None = None
    answers: Mapping[str, Logits] | None = None
    reference: Logits | None = None

    def logits_of(self, stage: Stage) -> Logits:
        """Return a stage's logits of these rows."""
        precomputed = (self.answers or {}).get(stage.name)
        if precomputed is None:
            return stage.logits(self.input_ids)
        return stage.without_costs(precomputed)


def fit_cascade(
    stages: Sequence[Stage], rows: Rows, rule: CascadeRule
) -> tuple[Cascade, CascadeRecord]:
    """Fit a cascade by a rule. Stages whose answers can never be accepted are left out.

    Args:
        stages: cheapest first, the exact one last. Their thresholds and the temperatures of other models are fitted.
            The last but one is the exact engine's model in lower precision, unless the cascade is fast.
        rows: rows that no stage was trained on.
        rule: the rule to satisfy.
    Raises:
        ModelError: no rows or no stages, or the stages have different labels.
        ValueError: a fast cascade without labels.
    """
    if not len(rows.input_ids):
        raise ModelError(
            "A cascade cannot be fitted without validation rows", "", "add validation reviews"
        )
    whole = Cascade(stages, rule.class_costs)
    stages, answers = whole.stages, [rows.logits_of(stage) for stage in whole.stages]
    if rows.labels is not None and (rows.labels >= 0).any():
        of_their_own = len(stages) - (1 if rule.use == "fast" else 2)
        stages, answers = _calibrated(stages, answers, rows.labels, max(of_their_own, 0))
    if rule.blends and len(stages) > 1 and rows.labels is not None:
        stages, answers = _blended(stages, answers, rows.labels)
    answers = [whole.with_costs(logits) for logits in answers]
    exact = answers[-1] if rows.reference is None else rows.reference
    deferral_thresholds, _ = fit_deferral_thresholds(answers, rows.labels, rule, exact)
    fitted = [
        replace(stage, band=threshold)
        for stage, threshold in zip(stages, [*deferral_thresholds, 0.0], strict=True)
    ]
    if any(stage.blend for stage in fitted) and fitted[0].band == NOTHING:
        fitted[0] = replace(fitted[0], band=_ANSWERS_NOTHING)
    active = [n for n, stage in enumerate(fitted) if stage.band < NOTHING]
    cascade = Cascade([fitted[n] for n in active], rule.class_costs)
    active_answers = [answers[n] for n in active]
    return cascade, _record(cascade.stages, active_answers, exact, rows.labels, rule)


def _calibrated(
    stages: Sequence[Stage], answers: Sequence[Logits], labels: Ints, first: int
) -> tuple[list[Stage], list[Logits]]:
    """Calibrate the first stages. The exact engine has its temperature in its head, in any precision."""
    labelled = labels >= 0
    temperatures = [
        fit_temperature(logits[labelled], labels[labelled]) for logits in answers[:first]
    ]
    temperatures += [1.0] * (len(stages) - first)
    calibrated = [
        replace(stage, temperature=stage.temperature * temperature)
        for stage, temperature in zip(stages, temperatures, strict=True)
    ]
    return calibrated, [
        logits / np.float32(temperature)
        for logits, temperature in zip(answers, temperatures, strict=True)
    ]


def _blended(
    stages: Sequence[Stage], answers: Sequence[Logits], labels: Ints
) -> tuple[list[Stage], list[Logits]]:
    """Blend the first stage's logits into all other stages."""
    first = answers[0]
    mixed, sums = [stages[0]], [first]
    for stage, stage_logits in zip(stages[1:], answers[1:], strict=True):
        own, blend = fit_weights(stage_logits, first, labels)
        mixed.append(replace(stage, temperature=stage.temperature / own, blend=blend))
        sums.append(np.asarray(own * stage_logits + blend * first, dtype=np.float32))
    return mixed, sums


def _record(
    stages: Sequence[Stage],
    answers: Sequence[Logits],
    exact: Logits,
    labels: Ints | None,
    rule: CascadeRule,
) -> CascadeRecord:
    final, remaining = exact.copy(), np.ones(len(exact), dtype=np.bool_)
    shares: list[float] = []
    for stage, stage_logits in zip(stages, answers, strict=True):
        shares.append(float(remaining.mean()))
        final[remaining] = stage_logits[remaining]
        remaining &= ~(margins(stage_logits) >= stage.band)
    facts = {
        "use": rule.use,
        "promise": promise(rule, len(exact), len(stages)),
        "rows": len(exact),
        "rescored_share": shares[-1],
        "agreement": float((predict_labels(final) == predict_labels(exact)).mean()),
        "largest_change": float(changes(final, exact, rule.class_costs).max()),
    }
    if labels is not None and (labelled := labels >= 0).any():
        right = (predict_labels(final) == labels)[labelled]
        exactly = (predict_labels(exact) == labels)[labelled]
        pair = Pair.of(right, exactly)
        facts |= {"accuracy": float(right.mean()), "exact_accuracy": float(exactly.mean())}
        facts |= {"better": pair.better, "worse": pair.worse, "mcnemar_p": pair.mcnemar()}
        exactly_so = len(stages) == 1 and facts["agreement"] == 1.0
        if rule.use == "fast" and not exactly_so and pair.lower(rule.risk) < -rule.accuracy_margin:
            facts["promise"] = (
                "none: the rows are too few, or its last stage is not accurate enough"
            )
            facts["holds"] = False
    written = [
        StageRecord(scored_share=share, **{name: getattr(stage, name) for name in _RECORDED})
        for stage, share in zip(stages, shares, strict=True)
    ]
    return CascadeRecord(stages=written, **facts)  # type: ignore[arg-type]


def promise(rule: CascadeRule, rows: int, stages: int) -> str:
    """Describe what a cascade with this many stages, fitted by a rule on this many rows, promises for similar rows."""
    sure = f"at a confidence of {1 - rule.risk:.0%}"
    if stages == 1:
        return "every row is scored exactly"
    if rule.use == "fast":
        return f"accuracy at most {100 * rule.accuracy_margin:g} points below the exact engine's, {sure}"
    near = (
        f"a label differs from the exact engine's only if its margin is overstated by more than {SAFETY:g} times the "
        f"most in {rows} rows, and is within that distance of the decision boundary"
    )
    if stages > 2:
        return (
            f"answers of other models: a label differs from the exact engine's in at most "
            f"{1 - rule.minimum_agreement:.2%} of all reviews, {sure}; other answers: {near}"
        )
    if most_failures(rows, 1 - rule.minimum_agreement, rule.risk) >= 0:
        close = (
            f" and probabilities within {rule.maximum_change:g} of its own"
            if rule.maximum_change < 1
            else ""
        )
        return f"labels of the exact engine{close} in at least {rule.minimum_agreement:.2%} of reviews, {sure}"
    return f"{near}; the rows are too few for {rule.minimum_agreement:.2%} {sure}"
