"""Labels are compared by what they mean, numbered, mapped, and refused where they are none."""

import unicodedata
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.data.label_map import LabelMap
from tasks.core.data.labels import (
    LabelIds,
    NotALabelError,
    canonical_label,
    discover_names,
    index_of,
    meaning,
    same_labels,
    scale_of,
)
from tasks.core.errors import ValidationError
from tasks.core.parsing.pairs import pairs_text, parse_pairs


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ([0, 0.0, "0", "0.0", " 0 ", "-0", "0.", Decimal("0.00"), "\N{FULLWIDTH DIGIT ZERO}"], "0"),
        ([1, 1.0, "1", "1.00", "+1", "1e0", "\u200b1", "1\N{NO-BREAK SPACE}"], "1"),
        ([-1, -1.0, "-1", "-1.0", "\N{MINUS SIGN}1"], "-1"),
        ([1.5, "1.50", "+1.5", Decimal("1.5")], "1.5"),
        ([True, "true", "True", " TRUE"], "true"),
        ([False, "false", "FALSE"], "false"),
        (["pos", " pos ", "pos\n", "\ufeffpos", "p\u00ados", "pos\u200d"], "pos"),
        (["n\u00e9g", "ne\u0301g"], "n\u00e9g"),
        (["very  good", "very\tgood"], "very good"),
        (["", "  ", "\u200b", None, float("nan"), Decimal("nan")], None),
        (["007"], "007"),
        (["[POS]"], "[POS]"),
        (["(good)"], "(good)"),
        (["b"], "b"),
    ],
)
def test_one_spelling_a_label(values: list[Any], label: str | None) -> None:
    assert [canonical_label(value) for value in values] == [label] * len(values)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([0], "a list"),
        ((), "a list"),
        ({"a": 1}, "a structure with fields"),
        (b"pos", "bytes"),
        (object(), "a value of type object"),
        (float("inf"), "not a finite number"),
        ("[0, 1]", "a list, written as text"),
        ("[0 1]", "a list, written as text"),
        ("['a']", "a list, written as text"),
        ("{'a': 1}", "a structure with fields, written as text"),
        ("b'pos'", "bytes, written as text"),
    ],
)
def test_what_is_no_label_says_what_it_is(value: object, kind: str) -> None:
    with pytest.raises(NotALabelError, match=rf"^{kind}$"):
        canonical_label(value)


@given(st.text(max_size=30))
def test_a_label_keeps_its_meaning_in_every_case_and_form(text: str) -> None:
    try:
        label = canonical_label(text)
    except NotALabelError:
        return
    if label is None:
        return
    assert canonical_label(label) == label
    assert meaning(meaning(label)) == meaning(label)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert meaning(unicodedata.normalize(form, label)) == meaning(label)
    assert meaning(f" \u200b{label}\n") == meaning(label)


@given(st.decimals(-1_000_000, 1_000_000, places=3))
def test_a_number_is_one_label_however_it_is_written(number: Decimal) -> None:
    label = canonical_label(number)
    assert label is not None and Decimal(label) == number
    for spelled in (f"{number}000", f" {number:f}", f"{float(number)}", f"{number:e}"):
        assert canonical_label(spelled) == label, spelled


def test_names_are_found_in_order() -> None:
    assert discover_names(["10", "2", "-1", None, "2"]) == ["2", "10"]
    assert discover_names(["1", "-0.5", "0"]) == ["-0.5", "0", "1"]
    assert discover_names(["-1", "1"], unlabelled=None) == ["-1", "1"]
    assert discover_names(["b", "a"]) == ["a", "b"]
    with pytest.raises(ValidationError, match=r"300 different values.*label_column"):
        discover_names(str(i) for i in range(300))


def test_of_several_spellings_the_most_frequent_is_the_name() -> None:
    assert discover_names(["pos", "Pos", "neg", "Pos", "NEG", "\uff2e\uff25\uff27"]) == [
        "NEG",
        "Pos",
    ]
    assert discover_names(["01", "1", "1"]) == ["1"]


def test_booleans_beside_their_numbers_are_named() -> None:
    with pytest.raises(
        ValidationError, match=r"labels true and 1 both occur.*label-map=true=1,false=0"
    ):
        discover_names(["1", "0", "true", "false"])


def test_a_number_stands_for_an_id_only_where_names_are_words() -> None:
    words = LabelIds(["NEGATIVE", "POSITIVE"])
    for label, index in {"0": 0, "1": 1, "NEGATIVE": 0, "POSITIVE": 1, "Positive": 1}.items():
        assert words.get(label) == index
    assert words.get("2") is None and list(words) == ["0", "1", "NEGATIVE", "POSITIVE"]
    numbers = LabelIds(["1", "2"])
    assert (numbers.get("1"), numbers.get("2"), numbers.get("0")) == (0, 1, None)
    assert LabelIds(["us", "US"]).get("US") == 1, "the exact spelling wins"


def test_labels_of_two_models_are_compared_by_meaning() -> None:
    assert same_labels(["0.0", "True", "Neg"], ["0", "true", "NEG"])
    assert not same_labels(["0", "1"], ["1", "0"]) and not same_labels(["0"], ["0", "1"])
    assert index_of("positive", ["NEGATIVE", "POSITIVE"]) == 1
    assert index_of("0", ["NEGATIVE", "POSITIVE"]) is None


@pytest.mark.parametrize(
    ("names", "scale"),
    [
        (["1", "2", "3", "4", "5"], [1, 2, 3, 4, 5]),
        (["1 star", "2 stars", "4 stars"], [1, 2, 4]),
        (["-1", "0", "0.5"], [-1, 0, 0.5]),
        (["0", "1"], None),
        (["1", "2", "other"], None),
        (["NEGATIVE", "POSITIVE", "NEUTRAL"], None),
    ],
)
def test_a_scale_is_three_numbers_or_more(names: list[str], scale: list[float] | None) -> None:
    assert scale_of(names) == scale


@pytest.mark.parametrize(
    "text",
    [
        "1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5=POSITIVE, 3=-",
        "{1: NEGATIVE, 2: NEGATIVE, 4: POSITIVE, 5: POSITIVE, 3: -}",
        '{"1": "NEGATIVE", "2": "NEGATIVE", "4": "POSITIVE", "5": "POSITIVE", "3": "-"}',
        "1: NEGATIVE\n2: NEGATIVE\n4: POSITIVE\n5: POSITIVE\n3: -\n",
    ],
)
def test_pairs_as_people_type_them(text: str) -> None:
    pairs = {"1": "NEGATIVE", "2": "NEGATIVE", "4": "POSITIVE", "5": "POSITIVE", "3": "-"}
    assert parse_pairs(text) == pairs and parse_pairs(pairs_text(pairs)) == pairs


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=5))
def test_pairs_survive_their_text(pairs: dict[str, str]) -> None:
    assert parse_pairs(pairs_text(pairs)) == pairs


@pytest.mark.parametrize("text", ["1", "1=", "=1", "1=A, 2", "1=A, 1=B"])
def test_pairs_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write pairs such as|appears twice"):
        parse_pairs(text)


def test_a_map_reads_labels_by_meaning() -> None:
    stars = LabelMap("1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5.0=POSITIVE, 3=-")
    assert stars.read("1.0") == ("NEGATIVE", "") and stars.read("5") == ("POSITIVE", "")
    assert stars.read("3") == ("3", "left out")
    assert stars.read("6") == ("6", "unmapped label")
    assert stars.read("positive") == ("positive", ""), "a class may be there already"
    assert LabelMap("3=-").read("4") == ("4", "")
    assert stars.unused({"1", "2", "3", "4"}) == ["5.0"]
    assert LabelMap("bad=NEG, ok=-").names(["good", "bad", "ok", "NEG"]) == ["NEG"]
    with pytest.raises(ValueError, match="two spellings with different values"):
        LabelMap("1=A, 1.0=B")
