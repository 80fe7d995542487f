"""Measure how often the gate lets a model through, and compare with its rule's promise: `make gate-simulation`.

Pairs of a champion and a candidate are drawn whose true accuracies are known: equal, worse by exactly the margin that
the rule applies to a test set of that size, and worse by twice that. Each pair goes through the real `decide`, with its
default slices, behavioural checks, calibration and plausibility; a wrong verdict of any clause counts.

The simulation assumes: a champion of accuracy 0.9; a candidate that differs from it on a given share of reviews, like a
model retrained on similar data; long reviews are harder for both models, and there they also differ more; confidences
are calibrated. A promise is broken if errors exceed the bound printed beside it. If the true rate is exactly the
promised one, chance alone exceeds the bound once in a thousand times.

The exact probability for the comparison with the champion alone, summed over all outcomes, is printed beside it.
first_champions.py has the models that are compared with no champion.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.gate import first_champions
from tasks.core.evaluation.comparison import NonInferiority, chance_to_pass
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.evaluation.slices import BANDS, make_slices
from tasks.core.release.gate.champion import NOT_WORSE, comparison_rule
from tasks.core.release.gate.decision import decide
from tasks.core.release.gate.evidence import Evidence
from tasks.core.release.gate.params import GateParams

ACCURACY, BASELINE = 0.9, 0.8
ROWS, DISAGREEMENTS = [500, 2000, 25_000], [0.06, 0.1]
TRUTHS = {"equal": 0, "worse by the margin": 1, "worse by twice the margin": 2}
RULES = {
    name: GateParams.model_validate({"champion": {"small_test_set": name}})
    for name in ("widen", "refuse")
}
ONCE_IN = 1000  # a promise that is kept looks broken once in this many simulations
_BAND_SHARES = np.array([0.1, 0.35, 0.3, 0.18, 0.07])
_HARDNESS = np.array([0.8, 0.9, 1.0, 1.2, 1.4])
_CHECKS, _CASES, _SWING, _VALIDATION_ROWS = 27, 60, 0.1, 1000


@dataclass(frozen=True)
class Cell:
    """The results of the pairs of one kind. Shares are of `judged` pairs, except `through` and `too_small`."""

    rows: int
    disagreement: float  # true share of reviews on which exactly one of the two is right
    small_test_set: str
    truth: str
    difference: float  # true difference in accuracy
    pairs: int
    through: float
    computed: float  # the exact probability for the comparison with the champion alone
    margin: float  # margin applied, mean
    too_small: float  # share of test sets that cannot resolve the allowed margin: there, equals are promised nothing
    judged: int
    errors: float
    promised: float
    allowed: float  # upper bound including the sampling noise of so few pairs
    refused_by: dict[str, int]

    @property
    def kept(self) -> bool:
        return self.errors <= self.allowed


@dataclass(frozen=True)
class Pairs:
    """A kind of pair: the shares of reviews that only the candidate, and only the champion, gets right."""

    rows: int
    truth: str
    small_test_set: str
    better: float
    worse: float

    @classmethod
    def of(cls, rows: int, disagreement: float, truth: str, small_test_set: str) -> "Pairs":
        """Make a kind of pair. Equals differ on `disagreement`; a worse model errs more often, so it differs on more.

        The applied margin depends on how often two models differ, and that depends on the margin; the loop resolves
        this.
        """
        rule, times = comparison_rule(RULES[small_test_set]), TRUTHS[truth]
        deficit = 0.0
        for _ in range(100 if times else 0):
            deficit = times * float(rule.applied(rows, rows * (disagreement + deficit)))
        return cls(rows, truth, small_test_set, disagreement / 2, disagreement / 2 + deficit)

    @property
    def rule(self) -> NonInferiority:
        return comparison_rule(RULES[self.small_test_set])


def evidence(kind: Pairs, generator: np.random.Generator) -> Evidence:
    """Draw the evidence for one pair on one test set."""
    rows = kind.rows
    band = generator.choice(len(BANDS), rows, p=_BAND_SHARES)
    hardness = (_HARDNESS / (_HARDNESS @ _BAND_SHARES))[band]
    labels = generator.integers(0, 2, rows)
    # Regions of the line from 0 to 1: only one is right, only the other, both wrong; in the rest both are right.
    both_wrong = 1 - ACCURACY - kind.better
    place = generator.random(rows) / hardness
    right = place >= kind.better + kind.worse + both_wrong
    better, differ = place < kind.better, place < kind.better + kind.worse
    lows = np.array([low for low, _ in BANDS.values()])
    columns = {"source": [f"{i}.jsonl" for i in generator.integers(0, 4, rows)]}
    asked = RULES[kind.small_test_set].slices
    accuracy = ACCURACY + kind.better - kind.worse
    return Evidence(
        labels=labels,
        label_names=["NEGATIVE", "POSITIVE"],
        candidate=_answers(labels, right | better, accuracy, generator),
        baseline=_answers(labels, generator.random(rows) < BASELINE, BASELINE, generator),
        champion=_answers(labels, right | (differ & ~better), ACCURACY, generator),
        champion_name="reviews version 1",
        incomparable="",
        slices=make_slices(
            lows[band] + 1,
            labels,
            ["NEGATIVE", "POSITIVE"],
            columns,
            asked.min_rows,
            asked.max_values,
        ),
        behaviour={f"check {i}": _checked(generator) for i in range(_CHECKS)},
        parameters=22_000_000,
        champion_parameters=22_000_000,
        reviews_per_second=100.0,
        champion_reviews_per_second=100.0,
        validation_right=int(generator.binomial(_VALIDATION_ROWS, accuracy)),
        validation_rows=_VALIDATION_ROWS,
        overlap=rows // 100,
    )


def _answers(
    labels: np.ndarray, right: np.ndarray, accuracy: float, generator: np.random.Generator
) -> np.ndarray:
    """Draw probabilities of a calibrated classifier: of answers given with confidence q, a share q is right.

    q is (1 + x) / 2 with x from Beta(k, 1), k such that the mean of q is the accuracy; x of a right answer then has a
    density in proportion to (1 + x) x^(k-1), of a wrong one to (1 - x) x^(k-1), drawn here by inverting the sum.
    """
    k = (2 * accuracy - 1) / (2 - 2 * accuracy)
    grid = np.linspace(0, 1, 2001)
    x = np.empty(len(labels))
    for answer, sign in ((right, 1), (~right, -1)):
        below = grid**k + sign * k / (k + 1) * grid ** (k + 1)
        x[answer] = np.interp(generator.random(answer.sum()), below / below[-1], grid)
    positive = np.where(right, labels, 1 - labels) == 1
    p = np.where(positive, 1 + x, 1 - x) / 2
    return np.column_stack([1 - p, p])


def _checked(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the failed cases of two equal models. Each has its own failure rate, as cases of one check fail together."""
    usual = generator.uniform(0.05, 0.4)
    shares = np.clip(generator.normal(usual, _SWING, 2), 0, 1)
    # The model with the larger rate also fails every case that the other fails.
    drawn = generator.random(_CASES)
    return drawn < shares[0], drawn < shares[1]


def run_cell(kind: Pairs, pairs: int, seed: int) -> Cell:
    """Draw the pairs, apply the gate, and count the verdicts."""
    generator = np.random.default_rng(seed)
    through = np.zeros(pairs, dtype=bool)
    differing = np.zeros(pairs)
    margins = np.zeros(pairs)
    refused_by: Counter[str] = Counter()
    for i in range(pairs):
        known = evidence(kind, generator)
        verdict = decide(known, RULES[kind.small_test_set], EvaluationParams())
        through[i] = verdict.promote
        differing[i] = (known.candidate_right != known.champion_right).sum()
        margins[i] = next(-(c.limit or 0.0) for c in verdict.clauses if c.name == NOT_WORSE)
        refused_by.update(clause.name for clause in verdict.failed)
    rule, asked = kind.rule, RULES[kind.small_test_set].champion
    resolved = rule.resolvable(kind.rows, differing) <= max(rule.margin, rule.widest)
    equal = kind.truth == "equal"
    judged = int(resolved.sum()) if equal else pairs
    wrong = int((resolved & ~through).sum() if equal else through.sum())
    promised = asked.false_refusal_risk if equal else asked.false_promotion_risk
    allowed = float(stats.binom.ppf(1 - 1 / ONCE_IN, judged, promised)) / judged if judged else 1.0
    disagreement, difference = kind.better + kind.worse, kind.better - kind.worse
    return Cell(
        rows=kind.rows,
        disagreement=disagreement,
        small_test_set=kind.small_test_set,
        truth=kind.truth,
        difference=difference,
        pairs=pairs,
        through=float(through.mean()),
        computed=chance_to_pass(rule, kind.rows, disagreement, difference),
        margin=float(margins.mean()),
        too_small=float(1 - resolved.mean()),
        judged=judged,
        errors=wrong / judged if judged else 0.0,
        promised=promised,
        allowed=allowed,
        refused_by=dict(refused_by),
    )


def simulate(
    pairs: int, rows: Sequence[int], disagreements: Sequence[float], workers: int
) -> list[Cell]:
    """Simulate all kinds of pairs, in separate processes if `workers` is above 1."""
    kinds = [
        Pairs.of(n, d, truth, small)
        for small, n, d, truth in product(RULES, rows, disagreements, TRUTHS)
    ]
    jobs = [(kind, pairs, seed) for seed, kind in enumerate(kinds, start=1)]
    return first_champions.spread(run_cell, jobs, workers)


def table(cells: Sequence[Cell]) -> Table:
    """Make a table with shares in percent."""
    shown = Table(
        "small test set", "reviews", "models differ", "candidate", "margin", "let through", "(computed)",
        "too small", "wrong", "promised", "with noise", "",
        title=f"{cells[0].pairs:,} pairs a row, percent",
    )  # fmt: skip
    for c in cells:
        shares = (c.through, c.computed, c.too_small)
        judged = [f"{100 * x:.1f}" for x in (c.errors, c.promised, c.allowed)]
        shown.add_row(
            c.small_test_set,
            f"{c.rows:,}",
            f"{100 * c.disagreement:.1f}",
            f"{c.truth} ({100 * c.difference:.2f})",
            f"{100 * c.margin:.2f}",
            *(f"{100 * share:.1f}" for share in shares),
            *(judged if c.judged else ["-", "-", "-"]),
            "kept" if c.kept else "BROKEN",
        )
    return shown


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Plot the probability that a candidate passes, by its true difference: computed, and simulated where it was."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    disagreement = DISAGREEMENTS[-1]
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    rule = comparison_rule(RULES["widen"])
    for colour, rows in enumerate(ROWS):
        differences = np.linspace(-0.105, 0.02, 120)
        # As for the pairs: a worse model differs on more reviews.
        chances = [chance_to_pass(rule, rows, disagreement + abs(d), float(d)) for d in differences]
        axes.plot(100 * differences, chances, color=f"C{colour}", label=f"{rows:,} test reviews")
        points = [
            (100 * c.difference, c.through)
            for c in cells
            if c.rows == rows
            and c.small_test_set == "widen"
            and abs(c.disagreement + c.difference - disagreement) < 1e-9
        ]
        axes.plot(*zip(*points, strict=True), "o", color=f"C{colour}")
    axes.axhline(rule.false_promotion_risk, color="grey", linestyle=":")
    axes.axhline(1 - RULES["widen"].champion.false_refusal_risk, color="grey", linestyle=":")
    axes.set(xlabel="true difference in accuracy to the champion, percentage points")
    axes.set(ylabel="let through", ylim=(-0.02, 1.02))
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate.simulation")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--disagreements", type=float, nargs="+", default=DISAGREEMENTS)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="draw them here")
    asked = parser.parse_args()
    cells = simulate(asked.pairs, asked.rows, asked.disagreements, asked.workers)
    first = first_champions.simulate(asked.pairs, first_champions.ROWS, asked.workers)
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(table(cells))
    console.print(first_champions.table(first))
    if asked.json:
        found = [asdict(cell) | {"kept": cell.kept} for cell in (*cells, *first)]
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if asked.plot:
        draw(cells, asked.plot)
    broken = [cell for cell in (*cells, *first) if not cell.kept]
    print("all promises kept" if not broken else f"{len(broken)} promises broken")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
