"""Detection of near-duplicate reviews within a split and across splits: they make a test easier than real data.

Two reviews are near-duplicates if the Jaccard similarity of their sets of word triples reaches a threshold. MinHash
and its index (datasketch; Broder, 1997; Leskovec et al., "Mining of Massive Datasets", chapter 3) propose pairs, and
the exact similarity decides: no pair is a guess. Bands are so narrow that a pair just at the threshold is proposed with
a probability of at least 0.99; more similar pairs are hardly ever missed.

Two measures keep the search from becoming quadratic. Reviews with the same words in the same order are one member of
the index, and their pairs are counted by multiplication. A review that has 500 similar ones in the index is compared
with the nearest 500 and not indexed itself; `cut_short` counts such reviews, and if there are any, counts of pairs are
lower bounds.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, combinations, combinations_with_replacement, islice, product

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from tasks.core.data.texts import both_ends, matching_form
from tasks.core.data.usable_rows import LabelledReview

MOST_LISTED = 20_000  # pairs listed for two splits; all pairs are counted
_SHINGLE_WORDS = 3
_PERMUTATIONS = 128
_RECALL_AT_THRESHOLD = 0.99
_MOST_ALIKE = 500
_MOST_CHARACTERS = 200_000  # of a longer text, only both ends are compared
# A word, or one character of a script without spaces between words (Thai, kana, Han).
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_MULTIPLIERS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64
)

Words = tuple[str, ...]
Shingles = frozenset[Words]
Splits = Mapping[str, Sequence[LabelledReview]]
Rows = dict[str, list[int]]  # split -> row numbers


@dataclass(slots=True, frozen=True)
class NearDuplicate:
    """Two reviews that are nearly the same, by split and row number (from 0)."""

    split: str
    row: int
    other_split: str
    other_row: int
    similarity: float
    same_label: bool


@dataclass(slots=True)
class PairCount:
    """Pairs between two splits, or within one."""

    pairs: int = 0
    identical: int = 0  # the same words in the same order
    other_label: int = 0


@dataclass
class NearDuplicates:
    """Near-duplicates found. Keys of `counts` and `listed` are (split, the same or a later split)."""

    counts: dict[tuple[str, str], PairCount]
    listed: dict[tuple[str, str], list[NearDuplicate]]
    overlapping_rows: dict[str, int]  # split -> its reviews that are near one of an earlier split
    cut_short: int = 0

    def pairs(self) -> list[NearDuplicate]:
        """Return all listed pairs: pairs across splits first, then by descending similarity."""
        everything = chain.from_iterable(self.listed.values())
        return sorted(everything, key=lambda p: (p.split == p.other_split, -p.similarity))


@dataclass(slots=True)
class _Group:
    """All reviews with the same words in the same order."""

    text: str
    rows: Rows = field(default_factory=dict[str, list[int]])
    near: set[str] = field(default_factory=set[str])  # splits that hold a near-duplicate of it


def words_of(text: str) -> Words:
    """Return the words of a review in its matching form, without punctuation; the form itself if it has no word."""
    form = matching_form(text)
    return tuple(_WORD.findall(form)) or (form,)


def shingles_of(words: Words) -> Shingles:
    """Return the distinct word triples of a text; a shorter text is one shingle."""
    runs = zip(*(words[start:] for start in range(_SHINGLE_WORDS)), strict=False)
    return frozenset(runs) or frozenset([words])


def jaccard(first: Shingles, second: Shingles) -> float:
    """Return the Jaccard similarity: shared shingles over all shingles, 0 to 1."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def find_near_duplicates(splits: Splits, threshold: float, seed: int) -> NearDuplicates:
    """Find all pairs of near-duplicates within and across the splits. Deterministic.

    Args:
        splits: order matters: a pair is of a split and the same or a later one.
        threshold: least Jaccard similarity of a pair, over 0, at most 1.
        seed: of the permutations.
    """
    order = list(splits)
    groups = _grouped(splits)
    keys = list(combinations_with_replacement(order, 2))
    duplicates = NearDuplicates({key: PairCount() for key in keys}, {key: [] for key in keys}, {})
    for group in groups:
        group.near.update(group.rows)
        _add(duplicates, splits, _pairings(group.rows, None, keys), 1.0, identical=True)
    for first, second, similarity in _near(groups, threshold, seed, duplicates):
        first.near.update(second.rows)
        second.near.update(first.rows)
        _add(
            duplicates,
            splits,
            _pairings(first.rows, second.rows, keys),
            similarity,
            identical=False,
        )
    for position, split in enumerate(order):
        earlier = set(order[:position])
        duplicates.overlapping_rows[split] = sum(
            len(group.rows.get(split, ())) for group in groups if group.near & earlier
        )
    return duplicates


def _grouped(splits: Splits) -> list[_Group]:
    """Group reviews by their words, in order of first appearance."""
    groups: dict[bytes, _Group] = {}
    for split, reviews in splits.items():
        for row, review in enumerate(reviews):
            words = "\n".join(words_of(review.text)).encode("utf-8", "surrogatepass")
            key = hashlib.blake2b(words, digest_size=16).digest()
            group = groups.setdefault(key, _Group(review.text))
            group.rows.setdefault(split, []).append(row)
    return list(groups.values())


def _near(
    groups: Sequence[_Group], threshold: float, seed: int, duplicates: NearDuplicates
) -> Iterator[tuple[_Group, _Group, float]]:
    """Yield pairs of groups at or above the threshold, with their exact similarity."""
    index = MinHashLSH(num_perm=_PERMUTATIONS, params=_bands(threshold))
    signatures = np.empty((len(groups), _PERMUTATIONS), dtype=np.uint32)

    @lru_cache(maxsize=10_000)
    def shingles(number: int) -> Shingles:
        return shingles_of(words_of(both_ends(groups[number].text, _MOST_CHARACTERS)))

    hashed = _hashed_shingles(group.text for group in groups)
    sketches = MinHash.generator(hashed, num_perm=_PERMUTATIONS, seed=seed, hashfunc=int)
    for number, sketch in enumerate(sketches):
        signatures[number] = sketch.hashvalues
        candidates = np.array(sorted(index.query(sketch)), dtype=np.int64)  # type: ignore[type-var]
        if len(candidates) < _MOST_ALIKE:
            index.insert(number, sketch, check_duplication=False)
        else:
            duplicates.cut_short += 1
            estimates = (signatures[candidates] == signatures[number]).sum(axis=1)
            candidates = candidates[np.argsort(-estimates, kind="stable")[:_MOST_ALIKE]]
        for other in map(int, candidates):
            similarity = jaccard(shingles(other), shingles(number))
            if similarity >= threshold:
                yield groups[other], groups[number], similarity


def _bands(threshold: float) -> tuple[int, int]:
    """Return the number of bands and their rows: the longest bands that propose enough pairs at the threshold.

    datasketch's own choice weighs misses against needless comparisons, and misses up to half of these pairs.
    """
    for rows in range(_PERMUTATIONS // 2, 1, -1):
        bands = _PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= _RECALL_AT_THRESHOLD:
            return bands, rows
    return _PERMUTATIONS, 1


class _WordHashes(dict[str, int]):
    """64-bit hashes of words, the same on every machine."""

    def __missing__(self, word: str) -> int:
        content = word.encode("utf-8", "surrogatepass")
        value = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        self[word] = value
        return value


def _hashed_shingles(texts: Iterable[str]) -> Iterator[list[int]]:
    """Yield 32-bit hashes of each text's shingles: each word is hashed once, and shingles combine the word hashes."""
    hashes = _WordHashes()
    for text in texts:
        compared = words_of(both_ends(text, _MOST_CHARACTERS))
        words = np.array([hashes[word] for word in compared], dtype=np.uint64)
        length = min(_SHINGLE_WORDS, len(words))
        runs = np.lib.stride_tricks.sliding_window_view(words, length) * _MULTIPLIERS[:length]
        mixed: NDArray[np.uint64] = runs.sum(axis=1, dtype=np.uint64)
        yield (mixed >> np.uint64(32)).tolist()


Pairing = tuple[tuple[str, str], list[int], list[int] | None]


def _pairings(
    first: Rows, second: Rows | None, keys: Iterable[tuple[str, str]]
) -> Iterator[Pairing]:
    """Yield the rows that form pairs, for every two splits; if `second` is None, rows of `first` among themselves."""
    for split, other in keys:
        if second is None:
            yield (
                (split, other),
                first.get(split, []),
                None if split == other else first.get(other, []),
            )
            continue
        yield (split, other), first.get(split, []), second.get(other, [])
        if split != other:
            yield (split, other), second.get(split, []), first.get(other, [])


def _add(
    duplicates: NearDuplicates,
    splits: Splits,
    pairings: Iterable[Pairing],
    similarity: float,
    identical: bool,
) -> None:
    """Count all pairs of rows, and list up to `MOST_LISTED` of them."""
    for (split, other), rows, other_rows in pairings:
        if not rows or other_rows == [] or (other_rows is None and len(rows) < 2):
            continue
        labels = Counter(splits[split][row].label for row in rows)
        if other_rows is None:
            pairs = len(rows) * (len(rows) - 1) // 2
            same = sum(count * (count - 1) // 2 for count in labels.values())
            drawn = combinations(rows, 2)
        else:
            other_labels = Counter(splits[other][row].label for row in other_rows)
            pairs = len(rows) * len(other_rows)
            same = sum(count * other_labels[label] for label, count in labels.items())
            drawn = product(rows, other_rows)
        count, listed = duplicates.counts[split, other], duplicates.listed[split, other]
        count.pairs += pairs
        count.identical += pairs if identical else 0
        count.other_label += pairs - same
        for row, other_row in islice(drawn, max(0, MOST_LISTED - len(listed))):
            if split == other and row > other_row:
                row, other_row = other_row, row
            same_label = splits[split][row].label == splits[other][other_row].label
            listed.append(
                NearDuplicate(split, row, other, other_row, round(similarity, 4), same_label)
            )
