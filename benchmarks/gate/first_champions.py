"""Measure how often a first champion is let through: the second half of `make gate-simulation`.

A worthless model draws its answers without looking at the review: always the largest class, sometimes another one, or
each class as often as it occurs. At most `false_promotion_risk` of them may become champion, and none on fewer test
reviews than the rule requires. Nothing is promised for good models; the share that is let through is printed. The
clauses that are not part of this (baseline, calibration) are switched off, so that they hide no error.
"""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np
from rich.table import Table
from scipy import stats

from tasks.core.evaluation.params import EvaluationParams
from tasks.core.release.gate.decision import decide
from tasks.core.release.gate.evidence import Evidence
from tasks.core.release.gate.params import GateParams

CLASSES = {
    "two, 1:1": (0.5, 0.5),
    "two, 4:1": (0.8, 0.2),
    "six, 40% to 4%": (0.4, 0.25, 0.15, 0.1, 0.06, 0.04),
}
ROWS = [50, 100, 200, 500]
# Worthless models: the share of answers that are the largest class; the others are drawn as often as the classes occur.
WORTHLESS = {"one answer": 1.0, "now and then another": 0.9, "drawn as the classes are": 0.0}
# Good models: the position between the share of the largest class (0) and all correct (1).
GOOD = {"a fifth of the way": 0.2, "half of the way": 0.5, "four fifths of the way": 0.8}
RULE = GateParams.model_validate(
    {"must_beat_baseline": False, "limits": {"maximum_calibration_error": 1.0}}
)
ONCE_IN = 1000  # a promise that is kept looks broken once in this many simulations
Cell = TypeVar("Cell")


@dataclass(frozen=True)
class FirstCell:
    """The results of the first models of one kind."""

    classes: str
    rows: int
    model: str
    accuracy: float  # measured, mean
    models: int
    through: float
    promised: float | None  # upper bound; None: nothing is promised
    allowed: float  # upper bound including the sampling noise of so few models
    refused_by: dict[str, int]

    @property
    def kept(self) -> bool:
        return self.through <= self.allowed


def answers(
    model: str, shares: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Draw a model's answers to reviews with these labels."""
    rows, classes = len(labels), len(shares)
    drawn = generator.choice(classes, rows, p=shares)
    if model in WORTHLESS:
        return np.where(generator.random(rows) < WORTHLESS[model], shares.argmax(), drawn)
    right = generator.random(rows) < shares.max() + (1 - shares.max()) * GOOD[model]
    other = (labels + generator.integers(1, classes, rows)) % classes
    return np.where(right, labels, other)


def evidence(said: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Evidence:
    """Return the evidence for a model that is compared with no other."""
    probabilities = np.eye(len(names))[said]
    return Evidence(
        labels=labels,
        label_names=names,
        candidate=probabilities,
        baseline=probabilities,
        champion=None,
        champion_name="",
        incomparable="",
        slices=[],
        behaviour={},
        parameters=0,
        champion_parameters=None,
        reviews_per_second=None,
        champion_reviews_per_second=None,
        validation_right=0,
        validation_rows=0,
        overlap=None,
    )


def run_cell(classes: str, rows: int, model: str, models: int, seed: int) -> FirstCell:
    """Repeatedly draw a test set and a model's answers, apply the gate, and count the verdicts."""
    generator, shares = np.random.default_rng(seed), np.array(CLASSES[classes])
    names = [f"class {n}" for n in range(len(shares))]
    through, right = 0, 0.0
    refused_by: Counter[str] = Counter()
    for _ in range(models):
        labels = generator.choice(len(shares), rows, p=shares)
        said = answers(model, shares, labels, generator)
        verdict = decide(evidence(said, labels, names), RULE, EvaluationParams())
        through += verdict.promote
        right += float((said == labels).mean())
        refused_by.update(clause.name for clause in verdict.failed)
    promised = _promised(model, rows)
    noisy = 1.0 if promised is None else stats.binom.ppf(1 - 1 / ONCE_IN, models, promised) / models
    return FirstCell(
        classes=classes,
        rows=rows,
        model=model,
        accuracy=right / models,
        models=models,
        through=through / models,
        promised=promised,
        allowed=float(noisy),
        refused_by=dict(refused_by),
    )


def _promised(model: str, rows: int) -> float | None:
    if rows < RULE.first_champion.min_test_rows:
        return 0.0
    return RULE.champion.false_promotion_risk if model in WORTHLESS else None


def simulate(models: int, rows: Sequence[int], workers: int) -> list[FirstCell]:
    """Simulate all kinds of first models, in separate processes if `workers` is above 1."""
    kinds = product(CLASSES, rows, [*WORTHLESS, *GOOD])
    jobs = [(*kind, models, seed) for seed, kind in enumerate(kinds, start=1)]
    return spread(run_cell, jobs, workers)


def spread(
    function: Callable[..., Cell], jobs: Sequence[Sequence[Any]], workers: int
) -> list[Cell]:
    """Return the results of a function for the arguments of each job."""
    if workers == 1:
        return [function(*job) for job in jobs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(function, *zip(*jobs, strict=True)))


def table(cells: Sequence[FirstCell]) -> Table:
    """Make a table with shares in percent."""
    shown = Table(
        "classes", "reviews", "model", "accuracy", "let through", "promised", "with noise", "", "most refused by",
        title=f"{cells[0].models:,} first models a row, percent",
    )  # fmt: skip
    for c in cells:
        most = max(c.refused_by, key=lambda name: c.refused_by[name]) if c.refused_by else ""
        shares = (c.accuracy, c.through)
        limits = ["-", "-"]
        if c.promised is not None:
            limits = [f"{100 * c.promised:.1f}", f"{100 * c.allowed:.1f}"]
        shown.add_row(
            c.classes,
            f"{c.rows:,}",
            ("worthless: " if c.model in WORTHLESS else "good: ") + c.model,
            *(f"{100 * share:.1f}" for share in shares),
            *limits,
            "kept" if c.kept else "BROKEN",
            most,
        )
    return shown
