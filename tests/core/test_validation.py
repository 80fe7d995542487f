"""Each rule of validation, on the smallest data that breaks it."""

import pytest

from tasks.core.errors import ValidationError
from tasks.core.validation import RawReview, Validated, ValidationParams, class_rows, validate
from tests.reviews import reviews

PARAMS = ValidationParams()


def raw(rows: int = 40, seed: int = 0) -> list[RawReview]:
    return [
        RawReview(t, label, f"f row {i}") for i, (t, label) in enumerate(reviews(rows, seed), 1)
    ]


def checked(
    train: list[RawReview], test: list[RawReview] | None = None, **given: object
) -> Validated:
    params = ValidationParams.model_validate(given)
    splits = {"train": train} | ({"test": test} if test is not None else {})
    return validate(splits, ["NEGATIVE", "POSITIVE"], {}, params)


def rules(validated: Validated) -> dict[str, str]:
    return {f.rule: f.severity for f in validated.findings}


def test_clean_reviews_pass() -> None:
    validated = checked(raw(), raw(10, seed=1))
    assert rules(validated) == {}
    assert class_rows(validated.splits, validated.label_names)["train"] == {
        "NEGATIVE": 20,
        "POSITIVE": 20,
    }
    validated.raise_errors()


def test_the_textbooks_slice_is_refused() -> None:
    """train[:1000] of a set that is sorted by label holds one class."""
    validated = checked(raw(40)[:20])
    assert rules(validated) == {"one class": "error"}
    with pytest.raises(
        ValidationError, match=r"all rows are of one class \(NEGATIVE 20, POSITIVE 0\)"
    ):
        validated.raise_errors()


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (RawReview(None, "POSITIVE", "f row 41"), "missing text"),
        (RawReview(" <br />", "POSITIVE", "f row 41"), "missing text"),
        (RawReview("A film.", None, "f row 41"), "missing label"),
    ],
)
def test_unusable_rows_are_left_out_up_to_a_share(broken: RawReview, rule: str) -> None:
    few, many = checked([*raw(200), broken]), checked([*raw(40), broken])
    assert rules(few) == {rule: "warning"} and len(few.splits["train"]) == 200
    assert rules(many) == {rule: "error"}
    with pytest.raises(ValidationError, match=r"f row 41"):
        many.raise_errors()


def test_unlabelled_rows_are_counted() -> None:
    validated = checked(raw() + [RawReview(f"Unseen {i}.", "-1", "") for i in range(30)])
    (finding,) = validated.findings
    assert (finding.rule, finding.severity, finding.count) == ("unlabelled", "warning", 30)
    assert "list it in data.source.label_names" in finding.message


def test_minus_one_is_a_class_where_it_is_named() -> None:
    rows = [RawReview(f"Review {i} of it.", str(i % 3 - 1), "") for i in range(60)]
    validated = validate({"train": rows}, ["-1", "0", "1"], {}, PARAMS)
    assert [r.label for r in validated.splits["train"][:3]] == [0, 1, 2]


def test_an_unknown_label_is_an_error_with_its_place() -> None:
    with pytest.raises(ValidationError, match=r"none of 0, 1, NEGATIVE, POSITIVE: '5' in f row 41"):
        checked([*raw(), RawReview("A film.", "5", "f row 41")]).raise_errors()


def test_duplicates_and_leaks() -> None:
    train, test = raw(), raw(10, seed=1)
    again = RawReview(f"  {train[0].text}".upper() + "<br />", train[0].label, "f row 41")
    leaked = RawReview(test[0].text, test[0].label, "f row 42")
    validated = checked([*train, again, leaked], [*test, test[3]])
    assert rules(validated) == {
        "duplicates in train": "warning",
        "leak": "warning",
        "duplicates in test": "warning",
    }
    assert len(validated.splits["train"]) == 40 and len(validated.splits["test"]) == 11


def test_contradictions_are_dropped() -> None:
    train = raw()
    validated = checked([*train, RawReview(train[0].text, "POSITIVE", "f row 41")])
    assert rules(validated) == {"contradiction": "warning"} and len(validated.splits["train"]) == 39


@pytest.mark.parametrize(
    ("positives", "rule", "severity"), [(7, "few rows", "error"), (8, "imbalance", "warning")]
)
def test_balance(positives: int, rule: str, severity: str) -> None:
    rows = raw(400)
    assert rules(checked(rows[:200] + rows[-positives:])) == {rule: severity}


def test_strong_imbalance_is_an_error() -> None:
    rows = raw(400)
    assert rules(checked(rows[:200] + rows[-10:], max_imbalance=15)) == {"imbalance": "error"}


def test_nothing_left() -> None:
    assert "empty" in rules(checked([]))


def test_unreadable_rows_count_towards_the_share() -> None:
    splits = {"train": raw(40)}
    assert rules(validate(splits, None, {"train": 1}, PARAMS)) == {"unreadable rows": "error"}


def test_bare_numbers_are_mentioned() -> None:
    rows = [RawReview(r.text, str(int(r.label == "POSITIVE")), r.where) for r in raw()]
    validated = validate({"train": rows}, None, {}, PARAMS)
    assert validated.label_names == ["0", "1"] and rules(validated) == {"unnamed labels": "warning"}
