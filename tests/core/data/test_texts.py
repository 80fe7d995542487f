"""What is done to every text: linear in its length whatever it holds, and nothing that it holds is an error."""

import random
import re
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.data.texts import encodable, is_blank, matching_form, normalized, without_markup
from tasks.core.evaluation.behaviour.perturbations import PERTURBATIONS, swapping
from tasks.core.models.linear import tfidf
from tasks.core.quality.near_duplicates import words_of

_CHARACTERS = 200_000
_UNITS = [
    ".", "…", " ", "\n", "<", "<a", "&", "&#", "&#1", "&lt;", "a", "is ", "isn't ", " .", "\u0301",
    "\u0301\u0316", "\uff9e\u0301", "\u0f73", "e\u0301\u0316", "\ufdfa", "\x00", "\u00a0", "😀",
]  # fmt: skip
_WORK: dict[str, Callable[[str], object]] = {
    **{name: lambda t, p=p: p(t, random.Random(0)) for name, p in PERTURBATIONS.items()},
    "swapping": lambda t: swapping([["actor", "actress"]])(t, random.Random(0)),
    "is_blank": is_blank,
    "matching_form": matching_form,
    "words_of": words_of,
    "encodable": encodable,
    "baseline": lambda t: tfidf.counter().fit_transform([t, "a film"]),
}


@pytest.mark.parametrize("name", _WORK)
def test_no_text_takes_long(name: str) -> None:
    for unit in _UNITS:
        repeated = (unit * _CHARACTERS)[:_CHARACTERS]
        for text in (repeated, f"{repeated}a", f"a {repeated} a"):
            started = time.process_time()
            _WORK[name](text)
            assert time.process_time() - started < 10, unit  # 0.1; minutes where it is quadratic


_MARKS = "".join(
    chr(c)
    for c in range(0x110000)
    if unicodedata.combining(unicodedata.normalize("NFKD", chr(c))[0])
)


@given(st.text(st.sampled_from(_MARKS + "aé中カ\u1100\u1161ﷺ½ "), max_size=200))
@settings(deadline=None)
def test_normalized_text_is_nfkc(text: str) -> None:
    many = text + "é" + "\u0301\u0316\uff9e\u0344\u0f73" * 20 + text
    assert normalized(many) == unicodedata.normalize("NFKC", many)
    assert normalized(text) == unicodedata.normalize("NFKC", text)


@given(st.text(st.sampled_from(".!?… a\n\x1c\u2003"), max_size=12))
@settings(deadline=None)
def test_full_stops_are_found_as_by_plain_patterns(text: str) -> None:
    bare = re.sub(r"[.!?…]+\s*\Z", "", text)
    expected = bare if bare != text and not is_blank(bare) else f"{text.rstrip()}."
    assert PERTURBATIONS["punctuation"](text, random.Random(0)) == expected
    ends = [m.end() for m in re.finditer(r"[.!?]+(?=\s)", text)]
    at = random.Random(7).choice([*ends, len(text.rstrip())])
    marked = PERTURBATIONS["markup"](text, random.Random(7))
    assert marked == f"{text[:at]}<br /><br />{text[at:]}"


def test_a_character_with_a_number_of_thousands_of_digits_is_no_error() -> None:
    assert without_markup("a&#" + "1" * 5000 + ";b") == "a\ufffdb"
    assert without_markup("a&#" + "0" * 5000 + "65;b") == "aAb"
    assert not is_blank("&#" + "9" * 20_000)
