"""Behavioural checks: what files may say, what cases are made of them, and which of them a model fails."""

import contextlib
import itertools
import random
import re
from collections import Counter

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.data.texts import is_blank
from tasks.core.errors import SettingsError
from tasks.core.evaluation.behaviour.checks import (
    Cases,
    all_checks,
    judge_cases,
    label_roles,
    make_cases,
)
from tasks.core.evaluation.behaviour.files import built_in_checks, load_checks
from tasks.core.evaluation.behaviour.kinds import KINDS, Check
from tasks.core.evaluation.behaviour.params import BehaviourParams
from tasks.core.evaluation.behaviour.perturbations import PERTURBATIONS, swapping
from tasks.core.evaluation.behaviour.results import BehaviourResult
from tasks.core.evaluation.behaviour.templates import count, expand, sentence, slots
from tasks.core.models.linear import tfidf
from tasks.core.parsing.bounded_yaml import load_yaml
from tests.paths import ROOT
from tests.reviews import reviews

DOCS = (ROOT / "docs" / "behaviour.md").read_text(encoding="utf-8")
NAMES = ["NEGATIVE", "POSITIVE"]
PARAMS = BehaviourParams()
TEXTS = [text for text, _ in reviews(60, seed=5)]
WORDS = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=4, unique=True)
PROSE = st.text(max_size=60).filter(lambda text: not is_blank(text))
ONE_OF_EACH = """
lexicons: {thing: [film, book]}
checks:
  - {name: m, kind: MFT, label: positive, templates: ["good {thing}", "a fine {thing}"]}
  - {name: i, kind: INV, perturbations: [upper_case], templates: ["a {thing}"]}
  - {name: d, kind: DIR, label: negative, must_not: fall, tolerance: 0.1, templates: ["the {thing}"], append: [Bad.]}
"""


def cases_of(text: str, names: list[str] = NAMES, **params: object) -> Cases:
    return make_cases(
        load_checks(text, "my.yaml"), TEXTS, names, BehaviourParams.model_validate(params)
    )


# Templates


@given(WORDS, WORDS, WORDS, st.integers(0, 99))
def test_all_sentences_are_made_where_they_are_few(
    a: list[str], b: list[str], c: list[str], seed: int
) -> None:
    lexicons = {"a": a, "b": b, "c": c}
    templates = ["<{a}> [{b}] <{a}>", "({b}) {{{c}}}", "no slot"]
    wanted = [f"<{x}> [{y}] <{x}>" for x, y in itertools.product(a, b)]
    wanted += [f"({y}) {{{z}}}" for y, z in itertools.product(b, c)] + ["no slot"]
    assert expand(templates, lexicons, len(wanted), seed) == wanted
    assert [count(t, lexicons) for t in templates] == [len(a) * len(b), len(b) * len(c), 1]


@given(st.integers(1, 30), st.integers(0, 99))
def test_a_sample_has_no_doubles_and_takes_evenly_from_the_templates(limit: int, seed: int) -> None:
    lexicons = {name: [f"{name}{n}" for n in range(10)] for name in "abcdefghijkl"}
    templates = [
        "".join(f"{{{name}}}" for name in lexicons),
        "x {a}",
        "y {a} {b}",
    ]  # 10**12, 10, 100
    made = expand(templates, lexicons, limit, seed)
    assert len(set(made)) == len(made) == limit
    assert made == expand(templates, lexicons, limit, seed)
    shares = Counter(text[0] for text in made)
    assert max(shares.values()) - min(shares[k] for k in "axy") <= 1


def test_another_seed_is_another_sample() -> None:
    lexicons = {"n": [str(n) for n in range(1000)]}
    assert expand(["{n}"], lexicons, 20, 1) != expand(["{n}"], lexicons, 20, 2)


def test_more_sentences_than_a_machine_can_number() -> None:
    lexicons = {name: [f"{name}{n}" for n in range(1000)] for name in "abcdefgh"}
    template = " ".join(f"{{{name}}}" for name in lexicons)
    made = expand([template], lexicons, limit=50, seed=1)
    assert len(set(made)) == 50 and made == expand([template], lexicons, limit=50, seed=1)


def test_a_slot_is_filled_with_the_word_as_it_is() -> None:
    assert sentence("{a}{b}", {"a": ["{b}"], "b": ["{a.__class__}"]}, 0) == "{b}{a.__class__}"
    assert slots("{b} {a} {b} {{c}}") == ["b", "a"]


# Perturbations


@pytest.mark.parametrize("name", PERTURBATIONS)
@given(text=PROSE, seed=st.integers(0, 999))
def test_a_perturbation_is_deterministic_and_empties_no_text(
    name: str, text: str, seed: int
) -> None:
    once, again = (PERTURBATIONS[name](text, random.Random(seed)) for _ in range(2))
    assert once == again and not is_blank(once)


@given(text=PROSE, seed=st.integers(0, 999))
def test_typos_move_letters_of_three_words_at_most(text: str, seed: int) -> None:
    changed = PERTURBATIONS["typos"](text, random.Random(seed))
    assert Counter(changed) == Counter(text) and len(changed) == len(text)
    assert sum(a != b for a, b in zip(text, changed, strict=True)) <= 6
    letters = re.findall(r"[^\W\d_]{4,}", text)
    assert (changed == text) == all(len(set(w[1:])) == 1 for w in letters)


@pytest.mark.parametrize(
    ("name", "text", "changed"),
    [
        ("contractions", "It isn't bad, I DON'T regret it.", "It is not bad, I DO NOT regret it."),
        ("contractions", "Do not go. I cannot say why.", "Don't go. I can't say why."),
        ("contractions", "Isn't it good? It doesn't drag.", "Isn't it good? It does not drag."),
        ("contractions", "The canisters do nothing.", "The canisters do nothing."),
        ("punctuation", "Good. Very good!!", "Good. Very good"),
        ("punctuation", "Good", "Good."),
        ("punctuation", "!!!", "!!!."),
        ("lower_case", "Very GOOD", "very good"),
        ("upper_case", "Very good", "VERY GOOD"),
        ("markup", "Good", "Good<br /><br />"),
    ],
)
def test_what_a_perturbation_does(name: str, text: str, changed: str) -> None:
    assert PERTURBATIONS[name](text, random.Random(0)) == changed


@given(seed=st.integers(0, 99))
def test_names_are_swapped_whole_within_their_list_and_stay_distinct(seed: int) -> None:
    women, men = ["Ann", "Anna", "Mary Ann"], ["Bob", "Rob"]
    text = "Ann, Anna and Mary Ann met Bob. Bobby saw Ann's annex."
    changed = swapping([women, men])(text, random.Random(seed))
    found = re.fullmatch(r"(.+), (.+) and (.+) met Rob\. Bobby saw (.+)'s annex\.", changed)
    assert found
    first, second, third, again = found.groups()
    assert first == again and {first, second, third} == set(women)
    assert all(new != old for new, old in zip((first, second, third), women, strict=True))


# Files


def test_aliases_may_share_words() -> None:
    check = "{name: a, kind: MFT, label: b, templates: ['{thing} {x}'], lexicons: {x: *t}}"
    text = f"lexicons: {{thing: &t [film, book]}}\nchecks:\n- {check}"
    (loaded,) = load_checks(text, "my.yaml")
    assert loaded.lexicons["x"] == ["film", "book"]


def test_a_mapping_that_merges_another_may_be_merged_again() -> None:
    shared = "all: &all {kind: MFT, label: a}\nfirst: {is: &first {<<: *all, label: b}}"
    assert load_yaml(f"{shared}\nsecond: {{<<: *first}}")["second"] == {"kind": "MFT", "label": "b"}
    with pytest.raises(yaml.YAMLError, match="the key 'label' appears 2 times"):
        load_yaml("{label: a, label: b}")


def _bomb(first: str, level: str) -> str:
    """Nine levels, each nine times the one before, in less than 500 bytes."""
    lines = [f"a0: &a0 {first}"]
    for number in range(1, 9):
        before = ", ".join([f"*a{number - 1}"] * 9)
        lines.append(f"a{number}: &a{number} {level % before}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("checks: [", r"Not YAML: .* \[my.yaml, line 1\]"),
        (b"\xff\xfe\x00", "Not YAML: the file is not UTF-8"),
        ("checks: [" + "[" * 20_000, "Not YAML: nested too deeply"),
        ("a: 2024-99-99", "Not YAML: it contains an invalid value"),
        ("x: !!python/object/apply:os.system [ls]", "Not YAML: could not determine a constructor"),
        (_bomb("{x: 1, y: 2}", "{<<: [%s]}"), "Not YAML: .*repeat more than 20,000"),
        (_bomb("[1, 2]", "[%s]"), "Not YAML: .*repeat more than 20,000"),
        ("checks: &a [*a]", "Not YAML: an alias refers to a value that contains it"),
        ("checks: [{name: a, kind: INV, name: b}]", "Not YAML: the key 'name' appears 2 times"),
        ("x" * 1_000_001, "larger than 1,000,000 bytes"),
        ("", "must be fields with values"),
        ("- a", "must be fields with values"),
        ("lexicons: {a: [b]}", "checks: is missing; add it"),
        ("checks: []", "checks: must have at least 1 item \\["),
        ("checks: [plain praise]", "checks, number 1: must be fields with values"),
        ("check: []", r"check: is not a field; the fields are lexicons, checks"),
        (
            "{lexicons: {a b: [c]}, checks: [{name: a, kind: INV}]}",
            "lexicon name 'a b' cannot be the name of a slot",
        ),
        ("{lexicons: {a: []}, checks: [{name: a, kind: INV}]}", "the lexicon a is empty; list"),
        (
            "{lexicons: {a: [b, b]}, checks: [{name: a, kind: INV}]}",
            "the lexicon a lists a word twice",
        ),
        (
            "{lexicons: {a: [no]}, checks: [{name: a, kind: INV}]}",
            "YAML reads this as False.* quotes",
        ),
        ("{lexicons: {a: word}, checks: [{name: a, kind: INV}]}", r"lexicons, a: must be a list"),
    ],
)
def test_a_file_that_is_none_is_a_sentence(content: str | bytes, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        load_checks(content, "my.yaml")
    assert "my.yaml" in caught.value.where and caught.value.fix


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("kind: ABC", "kind: 'ABC' is not a kind; write one of MFT, INV, DIR"),
        ("label: a", "kind: is missing or not a kind"),
        ("kind: MFT\n    label: a", "templates: is missing; add it .*slots"),
        ("kind: MFT\n    templates: [a]", "label: is missing; add it"),
        ("kind: MFT\n    label: 1\n    templates: [a]", "label: YAML reads this as 1"),
        ("kind: MFT\n    label: a\n    templates: ['{x}']", r"templates, number 1: no lexicon for the slot {x}"),
        ("kind: MFT\n    label: a\n    templates: ['a', 'a {']", "templates, number 2: not a template"),
        ("kind: MFT\n    label: a\n    templates: ['{t.x}']", "templates, number 1: not a template"),
        ("kind: MFT\n    label: a\n    templates: [b, b]", "templates: two are the same"),
        ("kind: MFT\n    label: a\n    templates: [b]\n    lexicons: {w: []}", "the lexicon w is empty"),
        ("kind: MFT\n    label: a\n    templates: [b]\n    swap: [t]", "swap: is not a field"),
        ("kind: INV", "perturbations: none is named; name one, or lexicons to swap"),
        ("kind: INV\n    perturbations: [tpyos]", "no perturbation is called 'tpyos'; choose from contr"),
        ("kind: INV\n    perturbations: typos", "perturbations: must be a list"),
        ("kind: INV\n    swap: [cities]", "swap: 'cities' is not a lexicon of two or more words"),
        ("kind: INV\n    swap: [t, u]", "swap: two of the lexicons share a word"),
        ("kind: INV\n    perturbations: [typos]\n    max_words: 1", "max_words: must be greater than or"),
        ("kind: DIR\n    label: a\n    append: [b]", "must_not: is missing; add it"),
        ("kind: DIR\n    label: a\n    append: [b]\n    must_not: drop", "must_not: must be 'fall' or 'rise'"),
        ("kind: DIR\n    label: a\n    append: ['{x}']\n    must_not: fall", "append, number 1: no lexicon"),
        (
            "kind: DIR\n    label: a\n    append: [b]\n    must_not: fall\n    tolerance: 0.9",
            "tolerance: must be less than or equal to 0.5, not 0.9",
        ),
    ],
)  # fmt: skip
def test_a_check_that_cannot_be_is_a_sentence(fields: str, message: str) -> None:
    lexicons = "lexicons: {t: [a, b], u: [b, c]}"
    with pytest.raises(SettingsError, match=f"check 'my check': .*{message}"):
        load_checks(f"{lexicons}\nchecks:\n  - name: my check\n    {fields}\n", "my.yaml")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    text = """checks:
      - {name: a, kind: INV, perturbations: [markup]}
      - {name: a, kind: INV, perturbations: [markup]}
      - {kind: INV}
      - {name: "x\\ny", kind: DIR, tolerance: high}
    """
    with pytest.raises(SettingsError) as caught:
        load_checks(text, "my.yaml")
    for part in (
        "check 'a': 2 checks have this name; rename all but one",
        "check number 3: name: is missing",
        "name: contains a character that is not allowed",
        "tolerance: must be a valid number",
        "label: is missing",
    ):
        assert part in str(caught.value)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=5)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3)
)
RIGHT = {
    "name": st.sampled_from("abcdefgh"),
    "kind": st.sampled_from(["MFT", "inv", "DIR"]),
    "label": st.sampled_from(["positive", "NEGATIVE", "x"]),
    "templates": st.lists(st.sampled_from(["{t}", "{{{t} {u}", "a b"]), unique=True),
    "append": st.just(["c {u}", "d"]),
    "must_not": st.sampled_from(["fall", "rise"]),
    "tolerance": st.floats(0, 0.5),
    "perturbations": st.lists(st.sampled_from(list(PERTURBATIONS)), min_size=1),
    "swap": st.just(["t"]),
    "max_words": st.integers(3, 50),
}
OF_KIND = {kind: RIGHT.keys() & {"kind", *model.model_fields} for kind, model in KINDS.items()}


@st.composite
def almost_checks(draw: st.DrawFn) -> object:
    """A check as it should be, in which at most one thing is anything."""
    check = {field: draw(values) for field, values in RIGHT.items()}
    check = {field: check[field] for field in OF_KIND[check["kind"].upper()]}
    if draw(st.booleans()):
        check[draw(st.sampled_from([*RIGHT, "lexicons", "other"]))] = draw(ANYTHING)
    return check


@given(st.text(max_size=40) | st.binary(max_size=40))
def test_whatever_a_file_holds_it_is_read_or_refused(content: str | bytes) -> None:
    with contextlib.suppress(SettingsError):
        load_checks(content, "my.yaml")


@given(almost_checks() | ANYTHING, st.just({"t": ["a", "b"], "u": ["c"]}) | ANYTHING)
def test_whatever_a_check_holds_it_is_read_or_refused(check: object, lexicons: object) -> None:
    content = yaml.safe_dump({"checks": [check], "lexicons": lexicons}, allow_unicode=True)
    try:
        checks = load_checks(content, "my.yaml")
    except SettingsError:
        return
    cases = make_cases(checks, TEXTS, NAMES, PARAMS)
    assert len(cases.checks) + len(cases.skipped) == 1
    result = judge_cases(cases, np.full((len(cases.texts), 2), 0.5))
    assert all(0 < c.cases <= PARAMS.max_cases and c.failures <= c.cases for c in result.checks)


def test_messages_hold_no_texts_of_the_file() -> None:
    text = "checks: [{name: a, kind: MFT, label: [secret], templates: ['secret {slot', [secret]]}]"
    with pytest.raises(SettingsError) as caught:
        load_checks(text, "my.yaml")
    assert "secret" not in str(caught.value)


def test_a_checks_own_lexicon_goes_before_the_files() -> None:
    text = """
    lexicons: {thing: [film], other: [b]}
    checks: [{name: a, kind: MFT, label: positive, templates: ["{thing}"], lexicons: {thing: [book]}}]
    """
    assert cases_of(text).texts == ["book"]


# Cases


def test_the_cases_of_a_small_file() -> None:
    cases = cases_of(ONE_OF_EACH)
    m, i, d = cases.checks
    assert [cases.texts[k] for k in m.after] == ["good film", "good book", "a fine film", "a fine book"]  # fmt: skip
    assert (m.before == m.after).all() and m.label == 1 and i.label is None and d.label == 0
    assert [cases.texts[k] for k in i.before] == ["a film", "a book"]
    assert [cases.texts[k] for k in i.after] == ["A FILM", "A BOOK"]
    assert [cases.texts[k] for k in d.after] == ["the film. Bad.", "the book. Bad."]


def test_judging_by_hand() -> None:
    cases = cases_of(ONE_OF_EACH)
    p = {text: 0.9 for text in cases.texts}  # of POSITIVE
    p |= {"good book": 0.4, "A FILM": 0.45, "the film": 0.8, "the film. Bad.": 0.89}
    p |= {"the book": 0.8, "the book. Bad.": 0.91}
    positive = np.array([p[text] for text in cases.texts])
    result = judge_cases(cases, np.stack([1 - positive, positive], axis=1))
    assert [c.failed_cases for c in result.checks] == [[1], [0], [1]]
    assert [c.failures for c in result.checks] == [1, 1, 1] and result.checks[0].share == 0.25
    assert result.checks[0].failed.tolist() == [False, True, False, False]
    assert cases.examples(result.checks[1]) == [("a film", "A FILM")]
    assert str(result.checks[1]) == "INV i: 1 of 2 failed (50.0%)"
    assert BehaviourResult.model_validate_json(result.model_dump_json()) == result


def test_class_costs_change_labels_and_not_what_a_direction_observes() -> None:
    cases = cases_of(ONE_OF_EACH)
    positive = np.full(len(cases.texts), 0.6)
    positive[cases.checks[2].after] = 0.75  # NEGATIVE, which must not fall, falls by 0.15
    both = np.stack([1 - positive, positive], axis=1)
    plain, costly = judge_cases(cases, both), judge_cases(cases, both, [100.0, 1.0])
    assert plain.checks[0].failures == 0 and costly.checks[0].failures == costly.checks[0].cases
    assert costly.checks[2].failed_cases == plain.checks[2].failed_cases == [0, 1]


@pytest.mark.parametrize(("must_not", "change"), [("fall", -1), ("rise", 1)])
def test_what_a_direction_tolerates(must_not: str, change: int) -> None:
    text = f"""checks: [{{name: d, kind: DIR, label: positive, must_not: {must_not}, tolerance: 0.05,
      templates: [a, b, c], append: [d]}}]"""
    cases = cases_of(text)
    group = cases.checks[0]
    positive = np.full(len(cases.texts), 0.5)
    positive[group.after] += change * np.array([0.05, 0.051, -0.4])
    result = judge_cases(cases, np.stack([1 - positive, positive], axis=1))
    assert result.checks[0].failed_cases == [1]


def test_what_is_no_result_is_refused() -> None:
    cases = cases_of(ONE_OF_EACH)
    with pytest.raises(ValueError, match="shape"):
        judge_cases(cases, np.full((len(cases.texts), 3), 1 / 3))
    with pytest.raises(ValueError, match="not finite numbers"):
        judge_cases(cases, np.full((len(cases.texts), 2), np.nan))


def test_cases_are_the_same_each_time_and_named_by_what_they_are() -> None:
    first, again = (make_cases(built_in_checks(), TEXTS, NAMES, PARAMS) for _ in range(2))
    assert first.texts == again.texts and first.digest() == again.digest()
    others = [
        make_cases(built_in_checks(), TEXTS[1:], NAMES, PARAMS),
        make_cases(built_in_checks()[1:], TEXTS, NAMES, PARAMS),
        make_cases(built_in_checks(), TEXTS, NAMES[::-1], PARAMS),
        make_cases(built_in_checks(), TEXTS, NAMES, BehaviourParams(seed=1)),
        make_cases(built_in_checks(), TEXTS, NAMES, BehaviourParams(max_cases=99)),
        make_cases(load_checks(ONE_OF_EACH, ""), TEXTS, NAMES, PARAMS),
        make_cases(load_checks(ONE_OF_EACH.replace("0.1", "0.2"), ""), TEXTS, NAMES, PARAMS),
    ]
    assert len({cases.digest() for cases in [first, *others]}) == 1 + len(others)


def test_one_check_more_leaves_the_cases_of_the_others() -> None:
    both = cases_of(ONE_OF_EACH)
    alone = make_cases(load_checks(ONE_OF_EACH, "")[1:], TEXTS, NAMES, PARAMS)
    for one, two in zip(both.checks[1:], alone.checks, strict=True):
        assert [both.texts[k] for k in one.after] == [alone.texts[k] for k in two.after]


def test_reviews_are_shared_and_bounded() -> None:
    text = """checks:
      - {name: a, kind: INV, perturbations: [typos, url]}
      - {name: b, kind: DIR, label: positive, must_not: fall, append: [Good., Fine.], max_words: 5}
    """
    texts = [f"review number {n} is here" for n in range(40)] + ["one of more words than five"] * 3
    params = BehaviourParams(max_cases=20)
    cases = make_cases(load_checks(text, ""), [*texts, " ", "<br />"], NAMES, params)
    a, b = cases.checks
    assert len(a.after) == len(b.after) == 20 and len(set(a.before.tolist())) == 20
    assert all(len(cases.texts[k].split()) <= 5 for k in b.before)
    assert sum("https://" in cases.texts[k] for k in a.after) == 10
    assert len(set(a.before) & set(b.before)) >= 18  # both begin at the same end of one order
    assert Counter(cases.texts[k].split()[-1] for k in b.after) == {"Good.": 10, "Fine.": 10}
    assert len(set(cases.texts)) == len(cases.texts)


def test_half_an_emoji_in_a_review_is_no_trouble() -> None:
    check = load_checks("checks: [{name: a, kind: INV, perturbations: [url]}]", "")
    cases = make_cases(check, ["good \ud83d"], NAMES, PARAMS)
    assert cases.texts[0] == "good ?" and len(cases.digest()) == 32


# Labels


@pytest.mark.parametrize(
    ("names", "given", "roles"),
    [
        (["NEGATIVE", "POSITIVE"], {}, {"negative": 0, "positive": 1}),
        (["pos", "neg"], {}, {"positive": 0, "negative": 1}),
        (["Bad", "Good"], {}, {"negative": 0, "positive": 1}),
        (["negative", "neutral", "positive"], {}, {"negative": 0, "positive": 2}),
        (["0", "1"], {}, {}),
        (["0", "1"], {"positive_label": "1"}, {"negative": 0, "positive": 1}),
        (["0", "1"], {"negative_label": "1"}, {"negative": 1, "positive": 0}),
        (["1", "2", "3"], {"positive_label": "3"}, {"positive": 2}),
        (["good", "positive", "bad"], {}, {"negative": 2}),
        (["good", "bad"], {"positive_label": "bad"}, {"positive": 1, "negative": 0}),
    ],
)
def test_roles(names: list[str], given: dict[str, str], roles: dict[str, int]) -> None:
    assert label_roles(names, BehaviourParams.model_validate(given)) == roles


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"positive_label": "great"}, "No label is called 'great'; the labels are 1, 2, bad"),
        ({"positive_label": "1", "negative_label": "1"}, "named both as positive and as negative"),
        ({"positive_label": "bad"}, "named both as positive and as negative"),
    ],
)
def test_roles_that_cannot_be(given: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        label_roles(["1", "2", "bad"], BehaviourParams.model_validate(given))


def test_a_check_of_labels_that_the_model_lacks_is_skipped_and_said_so() -> None:
    text = """checks:
      - {name: role, kind: MFT, label: positive, templates: [a]}
      - {name: own, kind: MFT, label: spam, templates: [a]}
      - {name: there, kind: MFT, label: "2", templates: [a]}
      - {name: nobody, kind: INV, swap: [n], lexicons: {n: [Ann, Eve]}}
    """
    cases = cases_of(text, names=["1", "2"])
    assert [(g.check.name, g.label) for g in cases.checks] == [("there", 1)]
    reasons = {skipped.name: skipped.reason for skipped in cases.skipped}
    assert (
        reasons["role"]
        == "the labels 1, 2 do not tell which is positive; set behaviour.positive_label"
    )
    assert reasons["own"] == "it names the label 'spam', and there are 1, 2"
    assert "no test review" in reasons["nobody"]
    result = judge_cases(cases, np.full((1, 2), 0.5))
    assert [s.name for s in result.skipped] == ["role", "own", "nobody"]


def test_labels_without_meaning_leave_the_invariances() -> None:
    cases = make_cases(built_in_checks(), TEXTS, ["a", "b", "c"], PARAMS)
    assert {g.check.kind for g in cases.checks} == {"INV"}
    assert Counter(s.kind for s in cases.skipped)["MFT"] == 16


# The built-in checks


def test_built_in_and_own_checks_together() -> None:
    own = BehaviourParams(checks="s3://b/my.yaml")
    assert [c.name for c in all_checks(own, ONE_OF_EACH)][-3:] == ["m", "i", "d"]
    alone = BehaviourParams(checks="s3://b/my.yaml", built_in=False)
    assert len(all_checks(alone, ONE_OF_EACH)) == 3
    assert all_checks(BehaviourParams(built_in=False)) == []
    with pytest.raises(SettingsError, match=r"built-in checks: typos \[s3://b/my.yaml\] -> rename"):
        all_checks(own, "checks: [{name: typos, kind: INV, perturbations: [typos]}]")


def test_no_checks_are_no_cases() -> None:
    cases = make_cases([], TEXTS, NAMES, PARAMS)
    assert judge_cases(cases, np.empty((0, 2))).checks == []


def check_named(name: str) -> Check:
    return next(c for c in built_in_checks() if c.name == name)


@pytest.mark.parametrize(
    "check", [c for c in built_in_checks() if c.kind == "MFT"], ids=lambda c: c.name
)
def test_built_in_sentences_are_many_and_read_well(check: Check) -> None:
    made = check.pairs([], 10**6, 0)
    assert len(made) >= 40 and len(check.pairs([], 100, 0)) >= 40 and check.description
    for text, _ in made:
        assert re.match(r"[A-Z].*[.!?]$", text) and "  " not in text
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]|\b(\w+) \1\b", text), text


def test_no_sentence_is_both_praise_and_blame() -> None:
    labels: dict[str, set[str | None]] = {}
    for check in built_in_checks():
        if check.kind == "MFT":
            for text, _ in check.pairs([], 10**6, 0):
                labels.setdefault(text, set()).add(check.named_label())
    assert all(len(found) == 1 for found in labels.values())


def test_no_name_is_also_a_word() -> None:
    lexicons = check_named("other names").lexicons
    names = [name for key in ("women", "men") for name in lexicons[key]]
    assert not {"Will", "Mark", "Grace", "Hope", "Rose", "Bill", "Joy"} & set(names)
    assert len(names) > 50


def test_a_model_that_reads_words_alone_is_found_out() -> None:
    """TF-IDF on tidy reviews knows plain praise, and takes "not good" for praise."""
    good = itertools.product(["great", "wonderful", "excellent"], ["loved", "enjoyed"])
    bad = itertools.product(["terrible", "awful", "horrible"], ["hated", "disliked"])
    texts = [f"It was {word}. I {verb} it." for word, verb in [*good, *bad]]
    text = """
    lexicons: {g: [great, wonderful, excellent]}
    checks:
      - {name: praise, kind: MFT, label: positive, templates: ["The film was {g}."]}
      - {name: negated, kind: MFT, label: negative, templates: ["The film was not {g}."]}
      - {name: capitals, kind: INV, perturbations: [upper_case]}
    """
    cases = make_cases(load_checks(text, ""), texts, NAMES, PARAMS)
    p = tfidf.predict(texts, np.repeat([1, 0], 6), cases.texts, 2)
    assert [c.share for c in judge_cases(cases, p).checks] == [0.0, 1.0, 0.0]


# The documentation


EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_of_the_docs_loads(number: int) -> None:
    checks = load_checks(EXAMPLES[number], "docs/behaviour.md")
    texts = [*TEXTS, "We stayed in Paris."]
    cases = make_cases(checks, texts, ["positive", "negative", "delivery"], PARAMS)
    assert not cases.skipped and len(cases.checks) == len(checks)


def test_the_docs_are_complete() -> None:
    assert len(EXAMPLES) >= 3
    for name, perturbation in PERTURBATIONS.items():
        assert f"| `{name}` | " in DOCS and perturbation.__doc__
    for check in built_in_checks():
        assert f"| {check.name} | {check.kind} |" in DOCS
    for kind, model in KINDS.items():
        assert f"| `{kind}`, " in DOCS
        for field in model.model_fields:
            kinds = re.search(rf"^\| `{field}` \| ([^|]+) \|", DOCS, re.MULTILINE)
            assert kinds and (kinds[1] == "all" or kind in kinds[1]), field
