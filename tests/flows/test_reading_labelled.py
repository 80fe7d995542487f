"""From labelled files to splits, by the steps of a retraining, without a model."""

import logging
from pathlib import Path

import pytest

from tasks.connectors.sources.params import SourceParams
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.data import tables
from tasks.core.data.params import SplitParams, TokenizationParams, ValidationParams
from tasks.core.errors import ValidationError
from tasks.core.records import Reference, SplitSummary
from tasks.core.release.gate.params import GateParams
from tasks.core.training.params import TrainingParams
from tasks.data.holdout import hold_out_test
from tasks.data.ingestion import load_reviews, split_reviews, validate_reviews
from tasks.data.inspection import _origin
from tasks.release.gate import warn_of_few_test_rows
from tasks.runtime.steps import fetched
from tasks.training.inputs import prepare_base_model, tokenize_reviews
from tests.reviews import as_csv, reviews

PARAMS = ValidationParams()
STARS = "1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5=POSITIVE, 3=-"


def split(model: str, source: SourceParams) -> Reference[SplitSummary]:
    loaded = load_reviews.fn(source, PARAMS.max_unusable_fraction)
    validated = validate_reviews.fn(loaded, source.label_names, PARAMS, source.label_map)
    held_out = hold_out_test.fn(validated, source, SplitParams(), model)
    return split_reviews.fn(validated, held_out, [], SplitParams(), PARAMS.min_rows_a_class)


def starred(rows: int) -> list[tuple[str, object]]:
    return [(text, number % 5 + 1) for number, (text, _) in enumerate(reviews(rows))]


def test_another_label_map_draws_another_test_set(configured: ObjectStore, prefix: str) -> None:
    configured.write_bytes(as_csv(starred(500)), f"{prefix}/reviews.csv")
    labels: list[set[tuple[str, int]]] = []
    for label_map in (STARS, STARS.replace("3=-", "3=NEGATIVE"), STARS):
        source = SourceParams(location=prefix, label_map=label_map)
        made = split("label-map", source)
        assert made.summary.label_names == ["NEGATIVE", "POSITIVE"]
        with fetched(made, "test.parquet") as folder:
            rows = tables.read_labelled(folder / "test.parquet")
        stars = dict(starred(500))
        labels.append({(str(stars[row.text]), row.label) for row in rows})
    known = {("1", 0), ("2", 0), ("4", 1), ("5", 1)}
    assert labels == [known, known | {("3", 0)}, known]


def test_the_same_reviews_under_other_labels_are_trained_on_anew(
    configured: ObjectStore, prefix: str, bert: Path
) -> None:
    """Their rows are the same to the byte, but for the names of the labels."""
    configured.write_bytes(as_csv(reviews(200)), f"{prefix}/reviews.csv")
    tokenization = TokenizationParams(max_length_tokens=48)
    base = prepare_base_model.fn(TrainingParams(base_model=str(bert)), tokenization)
    digests: list[str] = []
    for names in (["bad", "good"], ["negative", "positive"], ["bad", "good"]):
        label_map = f"NEGATIVE={names[0]}, POSITIVE={names[1]}"
        source = SourceParams(location=prefix, label_map=label_map)
        tokens = tokenize_reviews.fn(split("-".join(names), source), base, tokenization)
        assert tokens.summary.label_names == names
        digests.append(tokens.digest)
    assert digests[0] == digests[2] != digests[1]


def test_the_split_of_each_file_is_in_the_log_and_in_the_data_card(
    configured: ObjectStore, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name, rows, seed in (("train", 200, 1), ("Test (1)", 40, 2), ("dev", 40, 3)):
        configured.write_bytes(as_csv(reviews(rows, seed)), f"{prefix}/{name}.csv")
    configured.write_bytes(b"PK", f"{prefix}/more.xlsx")
    source = SourceParams(location=prefix)
    with caplog.at_level(logging.INFO):
        loaded = load_reviews.fn(source, PARAMS.max_unusable_fraction)
        load_reviews.fn(source, PARAMS.max_unusable_fraction)
    said = [
        "Files of test: Test (1).csv (its name says so)",
        "Files of train: train.csv (its name says so)",
        "Files of validation, not used: dev.csv (its name says so)",
        "Files not read: more.xlsx (it is an Excel workbook)",
    ]
    for line in said:
        assert caplog.text.count(line) == 2, "also where it was read before"
    assert loaded.summary.rows == {"train": 200, "test": 40}
    validated = validate_reviews.fn(loaded, [], PARAMS)
    held_out = hold_out_test.fn(validated, source, SplitParams(), "files")
    made = split_reviews.fn(validated, held_out, [], SplitParams(), PARAMS.min_rows_a_class)
    card = {file.name: file.split for file in _origin(made, validated).files}
    assert card == {
        "train.csv": "train",
        "Test (1).csv": "test",
        "dev.csv": "validation",
        "more.xlsx": "-",
    }


def test_files_of_another_test_location_are_named(configured: ObjectStore, prefix: str) -> None:
    for name, seed in (("a/train", 1), ("a/test", 2), ("b/2025", 3)):
        configured.write_bytes(as_csv(reviews(60, seed)), f"{prefix}/{name}.csv")
    given = SourceParams(location=f"{prefix}/a", test_location=f"{prefix}/b")
    files = load_reviews.fn(given, 0.01).summary.files
    assert {file.name: file.split for file in files} == {
        "train.csv": "train",
        "test.csv": "-",
        "2025.csv": "test",
    }


def test_rows_are_counted_after_the_split(
    configured: ObjectStore, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "reviews.csv").write_bytes(as_csv(reviews(20)))
    source = SourceParams(location=str(tmp_path))
    with pytest.raises(
        ValidationError,
        match=r"train: after the split it has 7 of NEGATIVE, 7 of POSITIVE.*needs 8",
    ):
        split("after-split", source)


def test_test_reviews_that_come_again_are_no_evidence_for_a_first_champion(
    configured: ObjectStore, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """60 reviews twice, in capitals: as many rows as are wanted, and half as many reviews."""
    once = reviews(60, 2)
    again = [*once, *((text.upper(), label) for text, label in once)]
    configured.write_bytes(as_csv(reviews(200, 1)), f"{prefix}/train.csv")
    configured.write_bytes(as_csv(again), f"{prefix}/test.csv")
    made = split("again", SourceParams(location=prefix))
    assert made.summary.rows["test"] == 120
    warn_of_few_test_rows(made, GateParams())
    assert (
        "'enough test reviews': 60, and a first champion needs 100: 40 are missing" in caplog.text
    )
    assert "of each class" not in caplog.text
