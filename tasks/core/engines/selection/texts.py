"""The texts on which a model's engines are compared. Agreement with fp32 needs no labels."""

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ids = Sequence[Sequence[int]]
Ints = NDArray[np.int64]
SCORED, VALIDATION, TRAINING = "scored before", "of validation", "of training"
_UNKNOWN = -1
_LABELLED_SHARE = 5  # one text in five is reserved for validation reviews, the only labelled ones


@dataclass(frozen=True)
class TokenRows:
    """Token rows and their class ids, shape (rows,)."""

    input_ids: Ids
    labels: Ints

    def drawn(self, most: int) -> "TokenRows":
        """Return at most `most` rows, drawn uniformly at random with a fixed seed."""
        indices = np.random.default_rng(0).permutation(len(self.input_ids))[:most]
        return self.at(indices)

    def drawn_last(self, most: int) -> "TokenRows":
        """Return at most `most` rows in the reverse order of `drawn`, so that int8's calibration rows come last."""
        return self.at(np.random.default_rng(0).permutation(len(self.input_ids))[::-1][:most])

    def at(self, indices: Ints) -> "TokenRows":
        """Return the rows at these indices."""
        return TokenRows([self.input_ids[i] for i in indices.tolist()], self.labels[indices])

    def first(self, most: int) -> "TokenRows":
        """Return the first rows, at most `most`."""
        return TokenRows(self.input_ids[:most], self.labels[:most])

    def distinct(self, others: frozenset[bytes] = frozenset()) -> "TokenRows":
        """Return the rows without duplicates, in their order, and without those whose key is in `others`."""
        first = {key: index for index, key in reversed(list(enumerate(map(_key, self.input_ids))))}
        indices = sorted(index for key, index in first.items() if key not in others)
        return self.at(np.array(indices, dtype=np.int64))

    @property
    def keys(self) -> frozenset[bytes]:
        """The keys that identify the rows."""
        return frozenset(map(_key, self.input_ids))

    def __len__(self) -> int:
        return len(self.input_ids)


def _key(row: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", row).tobytes(), digest_size=16).digest()


@dataclass(frozen=True)
class JudgedTexts:
    """Texts of several origins, concatenated. Only validation texts have labels that count."""

    rows: TokenRows
    counts: Mapping[str, int]

    @classmethod
    def gathered(
        cls, scored: Ids, validation: TokenRows, train: TokenRows, most: int, labelled_first: bool
    ) -> "JudgedTexts":
        """Gather at most `most` distinct texts: reviews scored before, then validation and training reviews.

        Agreement is shown on independent texts, so none may count twice. A scored review that is also a training or
        validation review counts as the latter.

        Args:
            scored: token rows of reviews that were scored.
            validation, train: rows of the model.
            most: the most texts. A fifth of them is reserved for validation reviews.
            labelled_first: put validation reviews first, for promises that need labels.
        """
        unlabelled = TokenRows(scored, np.full(len(scored), _UNKNOWN, dtype=np.int64))
        labelled = validation.drawn(len(validation)).distinct()
        trained = unlabelled.keys.intersection(map(_key, train.input_ids))
        arrived = unlabelled.drawn(len(scored)).distinct(labelled.keys | trained)
        reserved = min(len(labelled), most if labelled_first else most // _LABELLED_SHARE)
        arrived = arrived.first(most - reserved)
        labelled = labelled.first(most - len(arrived))
        room = most - len(arrived) - len(labelled)
        training = train.drawn_last(len(train)).distinct(labelled.keys).first(room)
        parts = {SCORED: arrived, VALIDATION: labelled, TRAINING: training}
        if labelled_first:
            parts = {VALIDATION: labelled, SCORED: arrived, TRAINING: training}
        ids = [row for part in parts.values() for row in part.input_ids]
        labels = np.concatenate(
            [
                part.labels if name == VALIDATION else np.full(len(part), _UNKNOWN)
                for name, part in parts.items()
            ]
        )
        return cls(TokenRows(ids, labels), {name: len(part) for name, part in parts.items()})

    @cached_property
    def _origins(self) -> NDArray[np.str_]:
        return np.repeat(list(self.counts), list(self.counts.values()))

    @cached_property
    def validation(self) -> Ints:
        """Indices of texts that have a label and were not trained on."""
        return np.flatnonzero(self._origins == VALIDATION)

    @cached_property
    def untrained(self) -> Ints:
        """Indices of texts that were not trained on. A linear model overfits the others."""
        return np.flatnonzero(self._origins != TRAINING)

    @cached_property
    def all(self) -> Ints:
        """All indices."""
        return np.arange(len(self.rows.input_ids))

    def __len__(self) -> int:
        return len(self.rows.input_ids)

    def __str__(self) -> str:
        listed = ", ".join(f"{count:,} {name}" for name, count in self.counts.items() if count)
        return f"{len(self):,} texts ({listed})"
