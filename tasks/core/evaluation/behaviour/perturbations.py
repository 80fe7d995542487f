"""Changes to a text that leave its meaning as it was: what an invariance check does to a review.

Each is one function from a text and a seeded generator to a text, and one entry in `PERTURBATIONS`. It may return the
text as it was where it finds nothing to change; it never empties one. After CheckList (Ribeiro et al., 2020, "Beyond
Accuracy: Behavioral Testing of NLP Models with CheckList").
"""

import random
import re
from collections.abc import Callable, Sequence

from tasks.core.data.texts import is_blank

Perturbation = Callable[[str, random.Random], str]

_WORD = re.compile(r"[^\W\d_]{4,}")
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++(?=\s)")  # each run is looked at once
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
# "isn't it" and "don't you" turn into no English.
_SHORT = re.compile(
    rf"\b(?:{'|'.join(_EXPANSIONS)})\b(?!\s+(?:i|you|he|she|it|we|they|this|that|there)\b)",
    re.IGNORECASE,
)


def typos(text: str, generator: random.Random) -> str:
    """Two neighbouring letters change places inside one to three words of four letters or more."""
    places = [places for word in _WORD.finditer(text) if (places := _swappable(word))]
    letters = list(text)
    for inside in generator.sample(places, min(generator.randint(1, _MOST_TYPOS), len(places))):
        at = generator.choice(inside)
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def _swappable(word: re.Match[str]) -> list[int]:
    """Places where a letter and its right neighbour differ; a word's first letter stays where it is."""
    text = word.string
    return [at for at in range(word.start() + 1, word.end() - 1) if text[at] != text[at + 1]]


def lower_case(text: str, generator: random.Random) -> str:
    """No capitals."""
    return text.lower()


def upper_case(text: str, generator: random.Random) -> str:
    """CAPITALS ONLY."""
    return text.upper()


def markup(text: str, generator: random.Random) -> str:
    """`<br /><br />` behind one of the sentences, or at the end, as IMDb has it."""
    ends = [end.end() for end in _SENTENCE_END.finditer(text)]
    at = generator.choice([*ends, len(text.rstrip())])
    return f"{text[:at]}<br /><br />{text[at:]}"


def white_space(text: str, generator: random.Random) -> str:
    """One space becomes two, and white space follows the end."""
    gaps = [gap.start() for gap in _SPACE.finditer(text)]
    at = generator.choice(gaps or [len(text)])
    return f"{text[:at]} {text[at:]}{generator.choice([' ', '  ', chr(10), ' ' + chr(9)])}"


def punctuation(text: str, generator: random.Random) -> str:
    """The last full stop or exclamation marks go; where there are none, a full stop comes."""
    ended = text.rstrip()
    bare = ended.rstrip(".!?…")
    return bare if bare != ended and not is_blank(bare) else f"{ended}."


def url(text: str, generator: random.Random) -> str:
    """A web address at the end."""
    return f"{text.rstrip()} https://www.example.com/{generator.getrandbits(32):08x}"


def handle(text: str, generator: random.Random) -> str:
    """Another user addressed at the beginning."""
    return f"@reader{generator.randint(100, 9999)} {text}"


def contractions(text: str, generator: random.Random) -> str:
    """ "isn't" becomes "is not" and so on; in a text that has none, the reverse."""
    found, other = (_SHORT, _EXPANSIONS) if _SHORT.search(text) else (_LONG, _CONTRACTIONS)

    def change(match: re.Match[str]) -> str:
        new = other[match.group().lower()]
        return new.upper() if match.group().isupper() else match.group()[0] + new[1:]

    return found.sub(change, text)


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
    """The perturbation that puts other words of the same list in the place of every listed word.

    Words are found whole and in the same case. Each list is turned round by one random step, so that different words
    stay different, and a word that stands twice is replaced by the same one.

    Args:
        lists: of at least two distinct words each, no word in two of them.
    """
    place = {
        word: (index, at) for index, words in enumerate(lists) for at, word in enumerate(words)
    }
    longest_first = sorted(place, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def swap(text: str, generator: random.Random) -> str:
        steps = [generator.randint(1, len(words) - 1) for words in lists]

        def other(match: re.Match[str]) -> str:
            index, at = place[match.group()]
            return lists[index][(at + steps[index]) % len(lists[index])]

        return pattern.sub(other, text)

    return swap
