"""The columns of predictions: one list, which decides what is written and what is scored again."""

from typing import Any

import pytest

from tasks.core.formats.parquet.arrow_types import WHOLE_NUMBER
from tasks.core.records import ModelVersion
from tasks.core.scoring import columns
from tasks.core.scoring.columns import Column, Scored
from tasks.core.scoring.predict import Prediction, Review
from tests.core.scoring.scoring_runs import scoring_run

LABELS = ["NEGATIVE", "POSITIVE"]


def scored() -> Scored:
    review = Review(7, "r7", "Lovely.", kept=("de",))
    prediction = Prediction(review, "POSITIVE", 0.87654321, [0.12345679, 0.87654321])
    model = ModelVersion(name="reviews", version="3", model_digest="d", run_id="r")
    return Scored(prediction, "s3://acme/in/a.jsonl", model)


def test_a_row_has_the_columns_in_their_order() -> None:
    row = columns.output_row(scored(), LABELS, ["language"])
    assert row == {
        "input": "s3://acme/in/a.jsonl",
        "row": 7,
        "id": "r7",
        "label": "POSITIVE",
        "score": 0.876543,
        "probability_NEGATIVE": 0.123457,
        "probability_POSITIVE": 0.876543,
        "language": "de",
        "model": "reviews",
        "model_version": "3",
    }
    assert list(row) == columns.output_columns(LABELS, ["language"])
    assert set(columns.output_types(LABELS)) == set(row) - {"language"}


def test_names_of_columns_are_reserved() -> None:
    assert columns.is_reserved("label") and columns.is_reserved("probability_x")
    assert not columns.is_reserved("language")


def test_a_new_column_scores_everything_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fingerprint of release 0.1 names no columns, so outputs of then stay valid until one is added."""
    before = scoring_run().configuration("a.jsonl")
    letters: Any = lambda row: len(row.prediction.review.text)  # noqa: E731
    added = (*columns.COLUMNS, Column("letters", WHOLE_NUMBER, letters))
    monkeypatch.setattr(columns, "COLUMNS", added)
    assert columns.output_row(scored(), LABELS, ["language"])["letters"] == 7
    assert scoring_run().configuration("a.jsonl") != before
