"""What a model knows of a test set is counted for a champion as the inspection counts it for a candidate."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.data.usable_rows import LabelledReview
from tasks.core.quality.inspection import inspect, summarize
from tasks.core.quality.known_reviews import in_all, known_reviews
from tasks.core.quality.params import InspectionParams
from tests.reviews import reviews


def labelled(rows: list[tuple[str, str]]) -> list[LabelledReview]:
    return [
        LabelledReview(text=text, label=int(label == "POSITIVE"), where=f"a.jsonl row {n}")
        for n, (text, label) in enumerate(rows)
    ]


def nearly(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"{text} And so on.", label) for text, label in rows]


@settings(max_examples=15)
@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from([40, 100_000]))
def test_it_is_the_inspection_s_count(exact: int, near: int, most: int) -> None:
    test = reviews(100, 7)
    train = reviews(200, 8) + test[:exact] + nearly(test[50 : 50 + near])
    splits = {name: labelled(rows) for name, rows in (("train", train), ("validation", []))}
    params = InspectionParams.model_construct(
        **{**InspectionParams().model_dump(), "max_rows_near_duplicates": most, "folds": 2}
    )
    counted = known_reviews(splits, labelled(test), params)
    everything = splits | {"validation": labelled(reviews(20, 9)), "test": labelled(test)}
    found: Any = summarize(inspect(everything, params), params, 0.0)
    own = in_all(found.test_rows_near_train, found.rows, found.rows_compared)
    alone = known_reviews(
        {name: everything[name] for name in ("train", "validation")}, labelled(test), params
    )
    assert alone == own
    if most > 1000:
        assert exact <= counted <= exact + near + 20 and (near == 0 or counted > exact)


@pytest.mark.parametrize(("found", "expected"), [(3, 12), (60, 200)])
def test_samples_are_taken_for_all(found: int, expected: int) -> None:
    rows, compared = {"train": 400, "validation": 50, "test": 200}, {"train": 200, "test": 100}
    assert in_all(found, rows, compared) == expected
