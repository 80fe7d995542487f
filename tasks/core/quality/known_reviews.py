"""How many reviews of a test set a model knows: near-duplicates in what it was trained on, counted alike for all."""

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
    """Reviews of a test set with a near-duplicate in what a model was trained on or chosen by.

    As `inspection.inspect` counts them for the model that is being trained.

    Args:
        seen: reviews by split.
        test: reviews of the test set.
        params: what a near-duplicate is, and of how many reviews a sample is looked at.
    """
    splits = {**seen, TEST: test}
    most, notes = params.max_rows_near_duplicates, list[str]()
    compared = {n: sampled(n, rows, most, params.seed, notes) for n, rows in splits.items()}
    found = find_near_duplicates(compared, params.near_duplicate_similarity, params.seed)
    return in_all(
        found.overlapping_rows[TEST],
        {name: len(rows) for name, rows in splits.items()},
        {name: len(rows) for name, rows in compared.items()},
    )


def in_all(found: int, rows: Mapping[str, int], compared: Mapping[str, int]) -> int:
    """Test reviews with a near-duplicate in training; of samples, what there are in all by the shares looked at."""
    scale = 1.0
    for name in ("train", TEST):
        scale *= rows[name] / max(1, compared.get(name, rows[name]))
    return min(rows[TEST], round(found * scale))
