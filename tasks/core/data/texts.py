"""Preprocessing of review texts, the same in training and in scoring."""

import html
import itertools
import re
import unicodedata

_TAG = re.compile(r"<[a-zA-Z/!][^<>]{0,200}>")
_SPACE = re.compile(r"\s+")
_LONG_NUMBER = re.compile(r"(?<=&#)[0-9]{9,}")
_MARKS = re.compile(r"[^\w\s\x00-\x7f]{32,}")
_HALF_WIDTH_MARKS = ("\uff9e", "\u3099"), ("\uff9f", "\u309a")  # letters in `re`, marks in Unicode


def without_markup(text: str) -> str:
    """Return `text` with HTML tags turned into spaces and entities into characters; the rest stays as it is.

    Each `<br />` of IMDb costs four tokens and carries no opinion.
    """
    if "<" not in text and "&" not in text:
        return text
    text = _TAG.sub(" ", text)
    if "&#" in text:  # html.unescape raises ValueError for a number of 5,000 digits
        text = _LONG_NUMBER.sub(lambda digits: digits.group().lstrip("0")[:8] or "0", text)
    return html.unescape(text)


def encodable(text: str) -> str:
    """Return `text` with lone surrogates (half an emoji) replaced by ?: tokenizers and Parquet do not accept them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def is_blank(text: str) -> bool:
    """True if a text has only white space, markup and invisible characters."""
    return not any(unicodedata.category(c)[0] not in "CZ" for c in without_markup(text))


def matching_form(text: str) -> str:
    """Return the form by which reviews are compared: Unicode NFKC, no markup, case and white space folded."""
    folded = normalized(without_markup(text)).casefold()
    return _SPACE.sub(" ", folded).strip()


def normalized(text: str) -> str:
    """Return `text` in Unicode NFKC, in linear time: Python takes minutes for 100,000 unsorted combining marks."""
    if unicodedata.is_normalized("NFKC", text):
        return text
    for letter, mark in _HALF_WIDTH_MARKS:
        text = text.replace(letter, mark)
    return unicodedata.normalize("NFKC", _MARKS.sub(_with_sorted_marks, text))


def _with_sorted_marks(run: re.Match[str]) -> str:
    """Return the marks decomposed and in canonical order, as normalization would sort them."""
    parts = {mark: unicodedata.normalize("NFKD", mark) for mark in set(run.group())}
    marks = "".join(map(parts.__getitem__, run.group()))
    order = {mark: unicodedata.combining(mark) for mark in set(marks)}
    groups = itertools.groupby(marks, key=lambda mark: order[mark] > 0)
    return "".join(
        "".join(sorted(group, key=order.__getitem__) if combining else group)
        for combining, group in groups
    )


def both_ends(text: str, most: int) -> str:
    """Return `text`; if it is longer than `most` characters, only its ends of `most` // 2 characters each."""
    return text if len(text) <= most else f"{text[: most // 2]} {text[-(most // 2) :]}"
