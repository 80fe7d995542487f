"""Which reviews a base model is pre-trained on: each once, and none that a model is validated or tested on."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from tasks.core.data.texts import is_blank, matching_form
from tasks.core.errors import MissingDataError

TEST, VALIDATION = "copies of test reviews", "copies of validation reviews"
DOUBLE, UNUSABLE, OVER_LIMIT = "duplicates", "without a text", "more than the limit"
_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.05, 1000  # reviews


@dataclass(frozen=True)
class PretrainingRows:
    """Texts to learn from and texts to measure that by, and how many were left out for which reason."""

    train: list[str]
    held_out: list[str]
    left_out: dict[str, int]


def gather(
    training: Iterable[str | None],
    unlabelled: Iterable[str | None],
    validation: Iterable[str],
    test: Iterable[str],
    limit: int | None,
    seed: int,
) -> PretrainingRows:
    """All reviews that may be learned from, shuffled, with a twentieth of them held out.

    Two reviews are the same where their `matching_form` is. Both kinds of rows are looked at alike: no test review
    comes in by either.

    Args:
        training: texts of the training reviews.
        unlabelled: texts of the unlabelled ones; None where a row has none.
        validation, test: texts that must not be among them.
        limit: reviews at most.
        seed: of the shuffle.
    Raises:
        MissingDataError: less than two reviews are left.
    """
    forbidden = dict.fromkeys(map(matching_form, validation), VALIDATION)
    forbidden |= dict.fromkeys(map(matching_form, test), TEST)
    left_out: dict[str, int] = dict.fromkeys((TEST, VALIDATION, DOUBLE, UNUSABLE, OVER_LIMIT), 0)
    kept: list[str] = []
    seen: set[str] = set()
    for text in chain(training, unlabelled):
        if text is None or is_blank(text):
            left_out[UNUSABLE] += 1
            continue
        form = matching_form(text)
        if form in forbidden:
            left_out[forbidden[form]] += 1
        elif form in seen:
            left_out[DOUBLE] += 1
        else:
            seen.add(form)
            kept.append(text)
    chosen = [kept[i] for i in np.random.default_rng(seed).permutation(len(kept))[:limit]]
    left_out[OVER_LIMIT] = len(kept) - len(chosen)
    if len(chosen) < 2:
        raise MissingDataError(
            f"{len(chosen)} reviews are left to pre-train on", "", "check pretraining.location"
        )
    apart = min(max(1, round(len(chosen) * _HELD_OUT_SHARE)), _MOST_HELD_OUT)
    return PretrainingRows(chosen[:-apart], chosen[-apart:], left_out)
