"""Count of test reviews that a model knows: those with near-duplicates in its training data, counted alike for all."""

from collections.abc import Mapping, Sequence

from tasks.core.data.usable_rows import LabelledReview
from tasks.core.quality.inspection import sampled
from tasks.core.quality.near_duplicates import find_near_duplicates
from tasks.core.quality.params import InspectionParams

TEST = "test"


def known_reviews(
    seen: Mapping[str, Sequence[LabelledReview]],
    test: Sequence[LabelledReview],
    params: InspectionParams,
) -> int:
    """Count the reviews of a test set that have a near-duplicate in the data a model was trained on or chosen by.

    The count is the one that `inspection.inspect` gives for the model in training.

    Args:
        seen: reviews by split.
        test: reviews of the test set.
        params: similarity threshold of near-duplicates, and size of the sample.
    """
    splits = {**seen, TEST: test}
    most, notes = params.max_rows_near_duplicates, list[str]()
    compared = {n: sampled(n, rows, most, params.seed, notes) for n, rows in splits.items()}
    near_duplicates = find_near_duplicates(compared, params.near_duplicate_similarity, params.seed)
    return in_all(
        near_duplicates.overlapping_rows[TEST],
        {name: len(rows) for name, rows in splits.items()},
        {name: len(rows) for name, rows in compared.items()},
    )


def in_all(sampled_count: int, rows: Mapping[str, int], compared: Mapping[str, int]) -> int:
    """Return the test reviews with a near-duplicate in training, extrapolated from samples to all rows."""
    scale = 1.0
    for name in ("train", TEST):
        scale *= rows[name] / max(1, compared.get(name, rows[name]))
    return min(rows[TEST], round(sampled_count * scale))
