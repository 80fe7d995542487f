"""Clauses on what the test set must show of any model: enough reviews, and at least one right answer per class.

A first champion has no other model to be compared with, so these clauses are its only evidence. Later models are
compared with a champion on the same reviews, and for them a failure here is a warning. One failure refuses them too: a
class that the champion recognizes and the new model never does. Slices and margins cannot see such small classes.

A review that is in the test set more than once counts once.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tasks.core.evaluation.comparison import least_share, rows_to_exceed
from tasks.core.release.gate.evidence import Clause, Evidence
from tasks.core.release.gate.params import FirstChampionParams, GateParams

ENOUGH = "enough test reviews"
ENOUGH_A_CLASS = "enough test reviews of each class"
ABOVE_LARGEST = "better than the largest class"
EVERY_CLASS = "every class recognized"
MORE_REVIEWS = (
    "Label more reviews to test on. A test set that was drawn from the training reviews stays as it is until it is "
    "drawn anew: --data.split.new-test-set"
)
# A class that the new model never recognizes counts as lost if the champion gets at least ten of its reviews right: an
# equal model gets ten such reviews all wrong by chance once in 1,024 times.
_NOT_BY_CHANCE = 10
_MOST_NAMED = 20  # class names that a clause lists at most
_NAME_LETTERS = 40  # letters shown of each name


def shown_by_test_set(
    evidence: Evidence, params: GateParams, warnings: list[str]
) -> list[Clause | None]:
    """Return all clauses for a first champion; for a later model return the one on lost classes and warn of others."""
    first_champion, counts = params.first_champion, evidence.class_rows.tolist()
    rows = of_test_rows(dict(zip(evidence.label_names, counts, strict=True)), first_champion)
    largest = _above_largest(evidence, params)
    recognized = _every_class(evidence, first_champion, warnings)
    if evidence.first:
        warnings += [] if all(clause.passed for clause in rows) else [MORE_REVIEWS]
        return [*rows, largest, recognized]
    weak = [clause for clause in (*rows, largest) if clause and not clause.passed]
    warnings += [refusal(clause) for clause in weak]
    return [recognized]


def of_test_rows(class_rows: Mapping[str, int], params: FirstChampionParams) -> list[Clause]:
    """Return the clauses on the number of test reviews, which is known before training."""
    rows = sum(class_rows.values())
    clauses = [_rows(rows, params.min_test_rows)] if params.min_test_rows else []
    if params.min_test_rows_a_class:
        clauses.append(_class_rows(class_rows, params.min_test_rows_a_class))
    return clauses


def refusal(clause: Clause) -> str:
    """Return the warning for a failed clause that does not refuse the model."""
    return f"A first champion would be refused, as it fails '{clause.name}': {clause.text}"


def _rows(rows: int, least: int) -> Clause:
    text = f"{rows:,}, and a first champion needs {least:,}"
    if rows < least:
        text += f": {least - rows:,} are missing"
    return Clause(name=ENOUGH, passed=rows >= least, text=text, value=rows, limit=least)


def _class_rows(class_rows: Mapping[str, int], least: int) -> Clause:
    fewest = min(class_rows, key=lambda name: class_rows[name])
    few = [
        f"{name[:_NAME_LETTERS]} has {rows:,}, {least - rows:,} are missing"
        for name, rows in class_rows.items()
        if rows < least
    ]
    text = _listed(few) or f"{fewest[:_NAME_LETTERS]} has {class_rows[fewest]:,}, the fewest"
    return Clause(
        name=ENOUGH_A_CLASS,
        passed=not few,
        text=f"each needs {least:,}: {text}",
        value=class_rows[fewest],
        limit=least,
    )


def _above_largest(evidence: Evidence, params: GateParams) -> Clause | None:
    """Use the exact Clopper-Pearson bound.

    A model worth no more than the answer of the largest class passes at most at the stated risk.
    """
    if not params.first_champion.must_beat_largest_class:
        return None
    counts, risk = evidence.class_rows, params.champion.false_promotion_risk
    right, rows = int(evidence.rows_of(evidence.candidate_right).sum()), int(counts.sum())
    accuracy, share = right / rows, float(counts.max()) / rows
    least = least_share(right, rows, risk)
    name = evidence.label_names[int(counts.argmax())][:_NAME_LETTERS]
    text = (
        f"{accuracy:.4f} on {rows:,} test reviews, at least {least:.4f} at a risk of {risk:g}, against "
        f"{share:.4f} of the answer {name} to all of them"
    )
    passed = least > share
    if not passed and accuracy > share:
        needed = max(rows_to_exceed(accuracy, share, risk), rows + 1)
        text += f"; about {needed:,} test reviews would show it, {needed - rows:,} are missing"
    elif not passed:
        text += "; more test reviews would not help, a better model would"
    return Clause(name=ABOVE_LARGEST, passed=passed, text=text, value=least, limit=share)


def _every_class(
    evidence: Evidence, params: FirstChampionParams, warnings: list[str]
) -> Clause | None:
    """Refuse a recall of 0: always for a first champion, and for a later model if the champion knows the class.

    If the champion does not know the class either, a refusal would only keep the worse of the two, so it is a warning.
    """
    if not params.must_recall_every_class:
        return None
    expected, recognized = evidence.class_rows, evidence.rows_of(evidence.candidate_right)
    never: list[int] = np.flatnonzero((expected > 0) & (recognized == 0)).tolist()
    if not never:
        text = f"each of {int((expected > 0).sum()):,} at least once"
        return Clause(name=EVERY_CLASS, passed=True, text=text)
    names = [evidence.label_names[i][:_NAME_LETTERS] for i in never]
    text = _listed(
        [f"{name} in none of {expected[i]:,} reviews" for name, i in zip(names, never, strict=True)]
    )
    if evidence.champion_right is None:
        text += "; label more reviews of it to train on"
        return Clause(name=EVERY_CLASS, passed=False, text=text)
    theirs = evidence.rows_of(evidence.champion_right)[never]
    text += f"; {evidence.champion_name} in {_listed([f'{count:,}' for count in theirs])}"
    passed = bool((theirs < _NOT_BY_CHANCE).all())
    if passed:
        warnings.append(f"A class is never recognized: {text}")
        text += f", fewer than the {_NOT_BY_CHANCE} that would refuse"
    return Clause(name=EVERY_CLASS, passed=passed, text=text)


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - _MOST_NAMED
    return ", ".join(parts[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
