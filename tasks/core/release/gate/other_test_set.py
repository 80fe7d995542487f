"""Comparison with a champion that was judged on another test set.

The verdict says so first, and both models are also compared on the champion's own test set. On the new test set, a
model trained on another source may win only because the champion has never seen such reviews, and lose what the
champion is for. The non-inferiority rule applies to both test sets.
"""

from dataclasses import dataclass

from tasks.core.evaluation.comparison import NonInferiority, Pair

OTHER = "source and test set"
NOT_WORSE_THERE = "not worse than the champion on its own test set"


@dataclass(frozen=True)
class OtherTestSet:
    """The champion's own test set, if it is not the candidate's.

    Attributes:
        differs: how source and test set differ, for people.
        pair: candidate and champion on the reviews of the champion's test set; None if they were not compared there.
        accuracies: of candidate and champion there.
        why_not: why they were not compared.
        instead: what to type to accept the candidate all the same.
    """

    differs: str
    pair: Pair | None = None
    accuracies: tuple[float, float] = (0.0, 0.0)
    why_not: str = ""
    instead: str = ""


def compare_there(
    other: OtherTestSet, rule: NonInferiority
) -> tuple[bool, str, float | None, float]:
    """Return whether the candidate is shown not to be worse there, a text that says so, the bound, and its limit.

    If the models could not be compared there, the candidate passes and the text says why.
    """
    pair = other.pair
    if pair is None:
        return True, f"not compared there: {other.why_not}", None, -rule.margin
    bound, margin = pair.lower(rule.false_promotion_risk), rule.margin
    if bound < -margin:
        margin = float(rule.applied(pair.rows, pair.differing))
    passed = not pair.differing or bool(rule.passes(pair.rows, pair.better, pair.worse, margin))
    own, theirs = other.accuracies
    text = (
        f"{own:.4f} against {theirs:.4f} on its {pair.rows:,} reviews ({pair.better:,} better, {pair.worse:,} worse), "
        f"lower by at most {max(-bound, 0.0):.4f} at a risk of {rule.false_promotion_risk:g}, margin {margin:.4f}"
    )
    return passed, text if passed else f"{text}; {other.instead}", bound, -margin
