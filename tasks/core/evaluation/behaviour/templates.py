"""Sentences made of templates: `The {thing} was {good}.` and a list of words a slot.

The sentences of a template are the product of its slots' words; a slot that stands twice takes the same word twice.
Products grow fast, so sentences are numbered and made one by one, and a bounded number of them is drawn without
replacement, the templates taking even shares.
"""

import math
import random
import string
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from tasks.core.data.splits.sampling import quotas

Lexicons = Mapping[str, Sequence[str]]
_COUNTED = (
    10**9
)  # sentences of one template beyond which it makes no difference to the shares how many there are


def slots(template: str) -> list[str]:
    """The distinct slots of a template, in the order in which they appear.

    Raises:
        ValueError: a brace without its other half, or a slot that is not a name.
    """
    names: dict[str, None] = {}
    for _, name, formatting, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or formatting or conversion:
            raise ValueError("a slot is not a plain name such as {thing}")
        names[name] = None
    return list(names)


def count(template: str, lexicons: Lexicons) -> int:
    """How many sentences a template makes."""
    return math.prod(len(lexicons[slot]) for slot in slots(template))


def sentence(template: str, lexicons: Lexicons, number: int) -> str:
    """The sentence of a template with this number, from 0; the last slot turns fastest."""
    chosen: dict[str, str] = {}
    for slot in reversed(slots(template)):
        number, word = divmod(number, len(lexicons[slot]))
        chosen[slot] = lexicons[slot][word]
    parts = string.Formatter().parse(template)
    return "".join(literal + (chosen[slot] if slot else "") for literal, slot, _, _ in parts)


def expand(templates: Sequence[str], lexicons: Lexicons, limit: int, seed: int | str) -> list[str]:
    """Distinct sentences: all of them where there are at most `limit`, else a seeded sample of that many.

    Args:
        templates: with slots that all have their words in `lexicons`.
        lexicons: words a slot, each at least one.
        limit: most sentences.
        seed: of the sample.
    """
    totals = [count(template, lexicons) for template in templates]
    capped = np.array([min(total, _COUNTED) for total in totals], dtype=np.int64)
    shares = quotas(capped, limit, np.ones(len(totals), dtype=np.int64))
    generator = random.Random(f"{seed}")
    made: dict[str, None] = {}
    for template, total, share in zip(templates, totals, shares, strict=True):
        whole = int(share) == total
        numbers = range(total) if whole else _drawn(generator, total, int(share))
        made |= dict.fromkeys(sentence(template, lexicons, number) for number in numbers)
    return list(made)


def _drawn(generator: random.Random, total: int, wanted: int) -> list[int]:
    """Distinct numbers below `total`, which may be larger than any range that can be sampled from."""
    if total <= sys.maxsize:
        return generator.sample(range(total), wanted)
    numbers: dict[int, None] = {}
    while len(numbers) < wanted:
        numbers[generator.randrange(total)] = None
    return list(numbers)
