"""Changes to a text that keep its meaning, for invariance checks.

Each is a function from a text and a seeded generator to a text, with an entry in `PERTURBATIONS`. It may return the
text unchanged if it finds nothing to change; it never empties one. After CheckList (Ribeiro et al., 2020, "Beyond
Accuracy: Behavioral Testing of NLP Models with CheckList").
"""

import random
import re
from collections.abc import Callable, Sequence

from tasks.core.data.texts import is_blank

Perturbation = Callable[[str, random.Random], str]

_WORD = re.compile(r"[^\W\d_]{4,}")
# The possessive `++` scans each run of marks once.
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++(?=\s)")
_SPACE = re.compile(r"\s+")
_MOST_TYPOS = 3
_CONTRACTIONS = {
    "is not": "isn't",
    "are not": "aren't",
    "was not": "wasn't",
    "were not": "weren't",
    "do not": "don't",
    "does not": "doesn't",
    "did not": "didn't",
    "has not": "hasn't",
    "have not": "haven't",
    "had not": "hadn't",
    "could not": "couldn't",
    "should not": "shouldn't",
    "would not": "wouldn't",
    "will not": "won't",
    "cannot": "can't",
}
_EXPANSIONS = {short: long for long, short in _CONTRACTIONS.items()}
_LONG = re.compile(rf"\b(?:{'|'.join(_CONTRACTIONS)})\b", re.IGNORECASE)
# The lookahead excludes questions: "isn't it" and "don't you" would become broken English.
_SHORT = re.compile(
    rf"\b(?:{'|'.join(_EXPANSIONS)})\b(?!\s+(?:i|you|he|she|it|we|they|this|that|there)\b)",
    re.IGNORECASE,
)


def typos(text: str, generator: random.Random) -> str:
    """Swap two neighbouring letters inside one to three words of four letters or more."""
    words = [positions for word in _WORD.finditer(text) if (positions := _swappable(word))]
    letters = list(text)
    for positions in generator.sample(words, min(generator.randint(1, _MOST_TYPOS), len(words))):
        at = generator.choice(positions)
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def _swappable(word: re.Match[str]) -> list[int]:
    """Return the positions where a letter and its right neighbour differ; a word's first letter is never moved."""
    text = word.string
    return [at for at in range(word.start() + 1, word.end() - 1) if text[at] != text[at + 1]]


def lower_case(text: str, generator: random.Random) -> str:
    """Lower-case the text."""
    return text.lower()


def upper_case(text: str, generator: random.Random) -> str:
    """Upper-case the text."""
    return text.upper()


def markup(text: str, generator: random.Random) -> str:
    """Insert `<br /><br />`, as in IMDb, after one of the sentences or at the end."""
    ends = [end.end() for end in _SENTENCE_END.finditer(text)]
    at = generator.choice([*ends, len(text.rstrip())])
    return f"{text[:at]}<br /><br />{text[at:]}"


def white_space(text: str, generator: random.Random) -> str:
    """Double one space, and append white space."""
    gaps = [gap.start() for gap in _SPACE.finditer(text)]
    at = generator.choice(gaps or [len(text)])
    return f"{text[:at]} {text[at:]}{generator.choice([' ', '  ', chr(10), ' ' + chr(9)])}"


def punctuation(text: str, generator: random.Random) -> str:
    """Remove the full stops, exclamation and question marks at the end; if nothing is removed, add a full stop."""
    ended = text.rstrip()
    bare = ended.rstrip(".!?…")
    return bare if bare != ended and not is_blank(bare) else f"{ended}."


def url(text: str, generator: random.Random) -> str:
    """Append a web address."""
    return f"{text.rstrip()} https://www.example.com/{generator.getrandbits(32):08x}"


def handle(text: str, generator: random.Random) -> str:
    """Prepend a mention of another user."""
    return f"@reader{generator.randint(100, 9999)} {text}"


def contractions(text: str, generator: random.Random) -> str:
    """Expand contractions: "isn't" becomes "is not" and so on. In a text without any, do the reverse."""
    pattern, replacements = (_SHORT, _EXPANSIONS) if _SHORT.search(text) else (_LONG, _CONTRACTIONS)

    def change(match: re.Match[str]) -> str:
        new = replacements[match.group().lower()]
        return new.upper() if match.group().isupper() else match.group()[0] + new[1:]

    return pattern.sub(change, text)


PERTURBATIONS: dict[str, Perturbation] = {
    "contractions": contractions,
    "handle": handle,
    "lower_case": lower_case,
    "markup": markup,
    "punctuation": punctuation,
    "typos": typos,
    "upper_case": upper_case,
    "url": url,
    "white_space": white_space,
}


def swapping(lists: Sequence[Sequence[str]]) -> Perturbation:
    """Return the perturbation that replaces every listed word with another word of the same list.

    Only whole words in the same case match. Each list is rotated by one random step, so different words stay different,
    and a repeated word is always replaced by the same one.

    Args:
        lists: of at least two distinct words each, no word in two of them.
    """
    positions = {
        word: (index, at) for index, words in enumerate(lists) for at, word in enumerate(words)
    }
    longest_first = sorted(positions, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def swap(text: str, generator: random.Random) -> str:
        steps = [generator.randint(1, len(words) - 1) for words in lists]

        def other(match: re.Match[str]) -> str:
            index, at = positions[match.group()]
            return lists[index][(at + steps[index]) % len(lists[index])]

        return pattern.sub(other, text)

    return swap
