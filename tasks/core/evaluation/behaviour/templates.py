"""Sentences generated from templates such as `The {thing} was {good}.` and a list of words per slot.

The sentences of a template are the product of its slots' words; a repeated slot takes the same word each time. Products
grow fast, so sentences are numbered and generated one by one, and a bounded number is drawn without replacement, in
even shares per template.
"""

import math
import random
import string
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from tasks.core.data.splits.sampling import quotas

Lexicons = Mapping[str, Sequence[str]]
# Larger products are capped at this number: their exact size makes no difference to the shares.
_COUNTED = 10**9


def slots(template: str) -> list[str]:
    """Return the distinct slots of a template, in order of appearance.

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
    """Return the number of sentences that a template generates."""
    return math.prod(len(lexicons[slot]) for slot in slots(template))


def sentence(template: str, lexicons: Lexicons, number: int) -> str:
    """Return the sentence of a template with this number, from 0; the last slot varies fastest."""
    chosen: dict[str, str] = {}
    for slot in reversed(slots(template)):
        number, word = divmod(number, len(lexicons[slot]))
        chosen[slot] = lexicons[slot][word]
    parts = string.Formatter().parse(template)
    return "".join(literal + (chosen[slot] if slot else "") for literal, slot, _, _ in parts)


def expand(templates: Sequence[str], lexicons: Lexicons, limit: int, seed: int | str) -> list[str]:
    """Return distinct sentences: all of them if there are at most `limit`, else a seeded sample of that many.

    Args:
        templates: with slots that all have their words in `lexicons`.
        lexicons: words per slot, each at least one.
        limit: maximum number of sentences.
        seed: of the sample.
    """
    totals = [count(template, lexicons) for template in templates]
    capped = np.array([min(total, _COUNTED) for total in totals], dtype=np.int64)
    shares = quotas(capped, limit, np.ones(len(totals), dtype=np.int64))
    generator = random.Random(f"{seed}")
    distinct: dict[str, None] = {}
    for template, total, share in zip(templates, totals, shares, strict=True):
        whole = int(share) == total
        numbers = range(total) if whole else _drawn(generator, total, int(share))
        distinct |= dict.fromkeys(sentence(template, lexicons, number) for number in numbers)
    return list(distinct)


def _drawn(generator: random.Random, total: int, size: int) -> list[int]:
    """Draw distinct numbers below `total`, which may be too large for `random.sample` on a range."""
    if total <= sys.maxsize:
        return generator.sample(range(total), size)
    numbers: dict[int, None] = {}
    while len(numbers) < size:
        numbers[generator.randrange(total)] = None
    return list(numbers)
