"""Conversion of labels (names, numbers, booleans) to class ids.

Labels are compared by `meaning`: 1, 1.0, "1" and "+1.00" are one label, and so are true and True, or texts that differ
only in case, Unicode form, invisible characters or white space. This applies to every source, to label names that
people type, and between a champion and data. A label is one text, number or boolean; anything else
is an error.
"""

import ast
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache

from tasks.core.data.texts import normalized
from tasks.core.errors import ValidationError

UNLABELLED = "-1"  # IMDb's mark of an unlabelled review
MAX_CLASSES = 200
MISSING_IN_WORDS = frozenset({"nan", "null", "none", "<na>", "na", "n/a", "#n/a", "nil", "nat"})

_LONGEST = 1_000  # characters; a longer text is no label and is only stripped
_SPACE = re.compile(r"\s+")
_NUMBER = re.compile(r"([+-]?)(\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:e([+-]?\d{1,2}))?")
_MINUS = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-"})
_PRINTED_ARRAY = re.compile(r"\[[\d\s.+-]+\]")  # as numpy prints it
_JOINERS = "\u200c\u200d"  # invisible, but part of words in Persian and of some emoji
_INVISIBLE = frozenset(
    map(chr, [0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0])
) | frozenset(chr(c) for r in ((0x180B, 0x1810), (0xFE00, 0xFE10)) for c in range(*r))


class NotALabelError(ValueError):
    """A value that cannot be a label; the message names its kind, such as "a list"."""


def canonical_label(value: object) -> str | None:
    """Return the canonical spelling of a label; None for a missing one (None, NaN, nothing visible).

    Raises:
        NotALabelError: it is not a text, number or boolean, or it is a list or bytes written as text.
    """
    if value is None or (isinstance(value, float | Decimal) and value != value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _label_of_text(value) if len(value) <= _LONGEST else value.strip() or None
    if isinstance(value, int | float | Decimal):
        number = _number(str(value).lower())
        if number is None:
            raise NotALabelError(
                "not a finite number" if str(value).lstrip("+-")[:1] in "iIsS" else "a huge number"
            )
        return number
    raise NotALabelError(_kind_of(value))


def _kind_of(value: object) -> str:
    kinds: list[tuple[type | tuple[type, ...], str]] = [
        ((list, tuple, set, frozenset), "a list"),
        (dict, "a structure with fields"),
        ((bytes, bytearray, memoryview), "bytes"),
    ]
    description = next((description for kind, description in kinds if isinstance(value, kind)), "")
    return description or f"a value of type {type(value).__name__}"


@lru_cache(maxsize=4_096)
def _label_of_text(text: str) -> str | None:
    clean = _without_invisible(unicodedata.normalize("NFC", text), keep_joiners=True)
    if not clean:
        return None
    _refuse_written_values(clean)
    if clean.casefold() in ("true", "false"):
        return clean.casefold()
    is_code = re.match(r"[+-]?0\d", clean)  # such as 007
    return meaning(clean) if is_number(clean) and not is_code else clean


def _refuse_written_values(text: str) -> None:
    """Raise NotALabelError for lists, structures and bytes that another program has written as text."""
    if text[0] not in "[{(b":
        return
    if _PRINTED_ARRAY.fullmatch(text):
        raise NotALabelError("a list, written as text")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return
    if not isinstance(value, str | int | float):
        raise NotALabelError(f"{_kind_of(value)}, written as text")


def _without_invisible(text: str, keep_joiners: bool = False) -> str:
    """Return text without invisible characters, and with single spaces."""
    spaced = _SPACE.sub(" ", text).strip()
    if spaced.isascii() and spaced.isprintable():
        return spaced
    characters = [
        c
        for index, c in enumerate(spaced)
        if (unicodedata.category(c)[0] != "C" and c not in _INVISIBLE)
        or (keep_joiners and c in _JOINERS and _joins(spaced, index))
    ]
    return _SPACE.sub(" ", "".join(characters)).strip()


def _joins(text: str, index: int) -> bool:
    """True if a joiner is between two non-ASCII characters; elsewhere it has no effect."""
    around = text[index - 1 : index] + text[index + 1 : index + 2]
    return len(around) == 2 and not any(map(str.isascii, around))


@lru_cache(maxsize=4_096)
def meaning(label: str) -> str:
    """Return a label's meaning as a text for comparison: labels with the same meaning are one label."""
    if len(label) > _LONGEST:
        return label.strip()
    text = _without_invisible(normalized(label)).casefold()
    text = _without_invisible(normalized(text))
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> str | None:
    """Return a number in its shortest exact spelling; None if the text is not a number."""
    match = _NUMBER.fullmatch(text.translate(_MINUS))
    if not match:
        return None
    sign, digits, power = match.groups()
    plain = format(Decimal(f"{digits}e{power or 0}"), "f")
    plain = (plain.rstrip("0").rstrip(".") if "." in plain else plain).lstrip("0") or "0"
    plain = f"0{plain}" if plain.startswith(".") else plain
    return f"-{plain}" if sign == "-" and plain != "0" else plain


def is_number(label: str) -> bool:
    """True if a label means a number."""
    return _number(meaning(label)) is not None


def discover_names(
    labels: Iterable[str | None], unlabelled: str | None = UNLABELLED, most: int = MAX_CLASSES
) -> list[str]:
    """Return the label names of data that does not define them: the distinct labels, in the order of `in_order`.

    The name of a label is its most frequent spelling. `unlabelled` is not a class.

    Raises:
        ValidationError: there are more distinct labels than a classifier of reviews can have (it is the wrong column),
            or booleans beside 0 and 1.
    """
    counts = Counter(label for label in labels if label is not None)
    named: dict[str, str] = {}
    for label in sorted(counts, key=lambda name: (-counts[name], name)):
        if (key := meaning(label)) != unlabelled:
            named.setdefault(key, label)
    if len(named) > most:
        raise ValidationError(
            f"The label column holds {len(named):,} different values; the limit is {most}",
            "data.source.label_column",
            "name the column that holds the class: --data.source.label-column NAME",
        )
    for boolean, digit in (("true", "1"), ("false", "0")):
        if boolean in named and digit in named:
            raise ValidationError(
                f"The labels {named[boolean]} and {named[digit]} both occur and may mean the same class",
                "data.source.label_map",
                "map one pair to the other: --data.source.label-map=true=1,false=0",
            )
    return in_order(named.values())


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names: by value if all are numbers, else alphabetically."""
    names = list(names)
    if all(map(is_number, names)):
        return sorted(names, key=lambda name: Decimal(meaning(name)))
    return sorted(names)


class LabelIds:
    """A map from label to class id, by meaning; an exactly spelled name wins.

    If no name is itself a number, the id stands for the name as well: IMDb's files use 0 and 1.
    """

    def __init__(self, label_names: Sequence[str]) -> None:
        self.names = list(label_names)
        self.ids_stand_for_names = not any(map(is_number, self.names))
        self._exact = {name: index for index, name in enumerate(self.names)}
        of_ids = {str(index): index for index in range(len(self.names))}
        self._by_meaning = of_ids if self.ids_stand_for_names else {}
        for index, name in reversed(list(enumerate(self.names))):
            self._by_meaning[meaning(name)] = index

    def get(self, label: str) -> int | None:
        """Return the class id; None for an unknown label."""
        exact = self._exact.get(label)
        return self._by_meaning.get(meaning(label)) if exact is None else exact

    def __contains__(self, label: str) -> bool:
        return self.get(label) is not None

    def __iter__(self) -> Iterator[str]:
        """Iterate over everything that stands for a class, for messages."""
        if self.ids_stand_for_names:
            yield from map(str, range(len(self.names)))
        yield from self.names


def index_of(name: str, label_names: Sequence[str]) -> int | None:
    """Return the index of the label that a name means, or None. Ids do not stand for names here."""
    if name in label_names:
        return list(label_names).index(name)
    key = meaning(name)
    return next((i for i, other in enumerate(label_names) if meaning(other) == key), None)


def same_labels(names: Sequence[str], others: Sequence[str]) -> bool:
    """True if two lists name the same labels in the same order."""
    return list(map(meaning, names)) == list(map(meaning, others))


def scale_of(label_names: Sequence[str]) -> list[float] | None:
    """Return the value of each label if the labels are a scale such as stars: three or more numbers ("4", "4 stars").

    None if they are not: the names are words, or there are only two.
    """
    numbers = [_number(re.sub(r"\s*(stars?|points?|\*+|★+)$", "", meaning(n))) for n in label_names]
    values = [float(digits) for digits in numbers if digits is not None]
    if len(values) < max(3, len(label_names)) or len(set(values)) < len(values):
        return None
    return values
