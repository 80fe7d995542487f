"""What is done to a review's text before anything else looks at it, in training and in scoring alike."""

import html
import re
import unicodedata

_TAG = re.compile(r"<[a-zA-Z/!][^<>]{0,200}>")
_SPACE = re.compile(r"\s+")


def without_markup(text: str) -> str:
    """`text` with HTML tags turned into spaces and entities into characters; other text is left as it is.

    IMDb's `<br />` costs four tokens each time and carries no opinion.
    """
    return html.unescape(_TAG.sub(" ", text)) if "<" in text or "&" in text else text


def encodable(text: str) -> str:
    """`text` with lone surrogates (half of an emoji) replaced by ?: neither tokenizers nor Parquet files take them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def is_blank(text: str) -> bool:
    """True when nothing readable is left: only white space, markup and invisible characters."""
    return not any(unicodedata.category(c)[0] not in "CZ" for c in without_markup(text))


def matching_form(text: str) -> str:
    """The form in which two reviews count as the same: Unicode NFKC, no markup, case folded, white space folded."""
    folded = unicodedata.normalize("NFKC", without_markup(text)).casefold()
    return _SPACE.sub(" ", folded).strip()
