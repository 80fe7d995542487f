"""Counts of uni- and bigrams of texts, or of rows of token ids: the features of the linear models.

Both kinds provide the counts of each gram of the vocabulary, and the vocabulary as an array that any machine can read.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tasks.core.models.linear import tfidf

Ints = NDArray[np.int64]
_BITS = 32  # a code holds the first token above these bits, the second one in them


class Grams(Protocol):
    """A vocabulary of grams that linear models count."""

    kind: str

    def counts(self, rows: Any) -> sparse.csr_matrix:
        """Return the counts of each gram of the vocabulary, shape (rows, grams), float32."""
        ...

    def content(self) -> NDArray[Any]:
        """Return the vocabulary as an array, for a file."""
        ...

    def __len__(self) -> int: ...


class WordGrams:
    """Words and word pairs of texts, as in the baseline: lower case, without markup.

    Args:
        vocabulary: in the order of the features.
    """

    kind = "words"

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._words = vocabulary
        self._counter = tfidf.counter()
        self._counter.vocabulary = {gram: index for index, gram in enumerate(vocabulary)}

    @classmethod
    def fitted(cls, texts: Sequence[str], least_rows: int) -> tuple["WordGrams", sparse.csr_matrix]:
        """Return the grams that at least `least_rows` texts have, and their counts in these texts."""
        counter = tfidf.counter(least_rows)
        counts = sparse.csr_matrix(counter.fit_transform(list(texts)), dtype=np.float32)
        return cls(counter.get_feature_names_out().tolist()), counts

    def counts(self, rows: Sequence[str]) -> sparse.csr_matrix:
        return sparse.csr_matrix(self._counter.transform(list(rows)), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._words)

    def content(self) -> NDArray[np.uint8]:
        text = "\n".join(self._words)  # no gram contains a line break
        return np.frombuffer(text.encode(), dtype=np.uint8)

    @classmethod
    def read(cls, content: NDArray[np.uint8]) -> "WordGrams":
        """Return the grams from an array that `content` returned."""
        return cls(content.tobytes().decode().split("\n") if len(content) else [])


class TokenGrams:
    """Token ids and pairs of adjacent tokens, looked up in a sorted array: several thousand rows per second.

    Args:
        codes: the codes of the grams, ascending, shape (grams,), int64.
    """

    kind = "tokens"

    def __init__(self, codes: Ints) -> None:
        self._codes = codes

    @classmethod
    def fitted(
        cls, rows: Sequence[Sequence[int]], least_rows: int
    ) -> tuple["TokenGrams", sparse.csr_matrix]:
        """Return the grams that at least `least_rows` rows have, and their counts in these rows."""
        codes, owners = _codes(rows)
        distinct, columns = np.unique(codes, return_inverse=True)
        counts = _matrix(owners, columns, (len(rows), len(distinct)))
        frequent = np.flatnonzero(
            np.bincount(counts.indices, minlength=len(distinct)) >= least_rows
        )
        return cls(distinct[frequent]), sparse.csr_matrix(counts[:, frequent])

    def counts(self, rows: Sequence[Sequence[int]]) -> sparse.csr_matrix:
        codes, owners = _codes(rows)
        columns = np.searchsorted(self._codes, codes)
        columns[columns == len(self._codes)] = 0
        in_vocabulary = (
            np.flatnonzero(self._codes[columns] == codes) if len(self._codes) else columns[:0]
        )
        return _matrix(owners[in_vocabulary], columns[in_vocabulary], (len(rows), len(self._codes)))

    def __len__(self) -> int:
        return len(self._codes)

    def content(self) -> Ints:
        return self._codes

    @classmethod
    def read(cls, content: Ints) -> "TokenGrams":
        """Return the grams from an array that `content` returned."""
        return cls(content)


def _codes(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Return the code of every gram of every row, and the index of its row."""
    tokens = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int64)
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    inside = np.flatnonzero(owners[1:] == owners[:-1])  # pairs stay within a row
    pairs = (tokens[inside] << _BITS) | (tokens[inside + 1] + 1)
    return np.concatenate([tokens << _BITS, pairs]), np.concatenate([owners, owners[inside]])


def _matrix(owners: Ints, columns: Ints, shape: tuple[int, int]) -> sparse.csr_matrix:
    # duplicate entries are summed
    return sparse.csr_matrix(
        (np.ones(len(owners), dtype=np.float32), (owners, columns)), shape=shape
    )
