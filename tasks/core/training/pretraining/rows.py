"""The reviews for further pre-training: each once, and none of the validation or test reviews."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from tasks.core.data.texts import is_blank, matching_form
from tasks.core.errors import MissingDataError

TEST, VALIDATION = "copies of test reviews", "copies of validation reviews"
DOUBLE, UNUSABLE, OVER_LIMIT = "duplicates", "without a text", "more than the limit"
_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.05, 1000  # fraction of the reviews, and the most of them


@dataclass(frozen=True)
class PretrainingRows:
    """Texts to train on, texts to measure the loss on, and the number of rows left out by reason."""

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
    """Collect all reviews that may be trained on, shuffle them, and hold out a twentieth, at most 1,000.

    Two reviews are the same if their `matching_form` is. Training and unlabelled rows are filtered alike, so that no
    test review enters through either.

    Args:
        training: texts of the training reviews.
        unlabelled: texts of the unlabelled reviews; None for a row without a text.
        validation, test: texts to exclude.
        limit: the most reviews; None for all.
        seed: seed of the shuffle.
    Raises:
        MissingDataError: fewer than two reviews are left.
    """
    forbidden = dict.fromkeys(map(matching_form, validation), VALIDATION)
    forbidden |= dict.fromkeys(map(matching_form, test), TEST)
    left_out: dict[str, int] = dict.fromkeys((TEST, VALIDATION, DOUBLE, UNUSABLE, OVER_LIMIT), 0)
    usable: list[str] = []
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
            usable.append(text)
    chosen = [usable[i] for i in np.random.default_rng(seed).permutation(len(usable))[:limit]]
    left_out[OVER_LIMIT] = len(usable) - len(chosen)
    if len(chosen) < 2:
        raise MissingDataError(
            f"Only {len(chosen)} reviews are left for pre-training",
            "",
            "check pretraining.location",
        )
    apart = min(max(1, round(len(chosen) * _HELD_OUT_SHARE)), _MOST_HELD_OUT)
    return PretrainingRows(chosen[:-apart], chosen[-apart:], left_out)
