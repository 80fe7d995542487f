"""Each rule of validation, on the smallest data that breaks it."""

import pytest

from tasks.core.data.label_map import LabelMap
from tasks.core.data.params import ValidationParams
from tasks.core.data.usable_rows import RawReview
from tasks.core.data.validation import Validated, class_rows, validate
from tasks.core.errors import ValidationError
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
    few = checked([*raw(400), RawReview("Unseen.", "-1", "")])
    assert rules(few) == {"unlabelled": "note"} and few.findings[0].count == 1
    many = checked(raw() + [RawReview(f"Unseen {i}.", "-1", "") for i in range(30)])
    (found,) = many.findings
    assert (found.rule, found.severity, found.count) == ("unlabelled", "error", 30)
    assert "--data.source.label-map=-1=NAME" in found.message, "the classes have names"


def test_minus_one_says_how_it_becomes_a_class() -> None:
    rows = [RawReview(f"Review {i} of it.", str(i % 2 * 2 - 1), "") for i in range(40)]
    validated = validate({"train": rows}, None, {}, PARAMS)
    message = next(f.message for f in validated.findings if f.severity == "error")
    assert "read as unlabelled" in message
    assert "name it: --data.source.label-names=-1,1; " in message
    assert "leave such rows out: --data.source.label-map=-1=-" in message
    named = validate({"train": rows}, ["-1", "1"], {}, PARAMS)
    assert len(named.splits["train"]) == 40 and named.label_names == ["-1", "1"]
    mapped = validate({"train": rows}, None, {}, PARAMS, label_map=LabelMap("-1=bad, 1=good"))
    assert (mapped.label_names, len(mapped.splits["train"])) == (["bad", "good"], 40)
    kept = validate({"train": rows}, None, {}, PARAMS, label_map=LabelMap("-1=-1, 1=1"))
    assert kept.label_names == ["-1", "1"]


@pytest.mark.parametrize("label", ["-1", None])
def test_hidden_labels_of_a_test_set_have_their_remedy(label: str | None) -> None:
    test = [RawReview(f"Hidden {i}.", label, "") for i in range(10)]
    validated = checked(raw(), test)
    assert rules(validated) == {"hidden labels": "error", "empty": "error"}
    assert "--data.source.splits=test=-" in validated.findings[0].message
    assert "'--data.source.splits=validation=test, test=-'" in validated.findings[0].message


def test_stars_are_mapped_and_some_left_out() -> None:
    rows = [RawReview(f"Review {i} of it.", str(i % 5 + 1), f"f row {i}") for i in range(100)]
    stars = LabelMap("1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5=POSITIVE, 3=-")
    validated = validate({"train": rows}, None, {}, PARAMS, label_map=stars)
    assert validated.label_names == ["NEGATIVE", "POSITIVE"]
    assert validated.source_rows == {"train": [40, 40]}
    (found,) = validated.findings
    assert (found.rule, found.severity, found.count) == ("left out", "note", 20)
    ordered = validate({"train": rows}, ["POSITIVE", "NEGATIVE"], {}, PARAMS, label_map=stars)
    assert ordered.splits["train"][0].label == 1, "label_names orders the classes"


def test_a_label_that_the_map_forgets_is_an_error() -> None:
    rows = [RawReview(f"Review {i} of it.", str(i % 5 + 1), f"f row {i}") for i in range(100)]
    stars = LabelMap("1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5=POSITIVE, 6=POSITIVE")
    validated = validate({"train": rows}, None, {}, PARAMS, label_map=stars)
    assert rules(validated) == {"unmapped label": "error", "unused mapping": "warning"}
    message = "; ".join(f.message for f in validated.findings)
    assert "labels that no row has: 6" in message and "'3' in f row 2" in message
    assert "6=POSITIVE, 3=-'" in message


def test_other_spellings_count_as_the_class_and_are_said() -> None:
    rows = raw(40)
    other = [RawReview(f"{r.text} Again.", str(r.label).title(), r.where) for r in rows[:3]]
    given = checked(rows + other)
    assert rules(given) == {"spelling": "warning"} and given.findings[0].count == 3
    assert "'Negative' for 'NEGATIVE'" in given.findings[0].message
    found = validate({"train": rows + other}, None, {}, PARAMS)
    assert found.label_names == ["NEGATIVE", "POSITIVE"] and rules(found) == {"spelling": "warning"}


def test_a_missing_value_in_words_is_warned_of() -> None:
    rows = raw(40) + [RawReview(f"Odd {i}.", "NaN", "") for i in range(10)]
    validated = validate({"train": rows}, None, {}, PARAMS)
    assert rules(validated) == {"missing in words": "warning"}
    assert "--data.source.label-map=NaN=-" in validated.findings[0].message


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
