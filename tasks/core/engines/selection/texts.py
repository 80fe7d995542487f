"""The texts that engines of a model answer to be compared: agreement with fp32 needs no labels."""

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
_LABELLED_SHARE = 5  # one text in so many is kept for validation reviews, which alone have labels


@dataclass(frozen=True)
class TokenRows:
    """Token rows and their class ids, shape (rows,)."""

    input_ids: Ids
    labels: Ints

    def drawn(self, most: int) -> "TokenRows":
        """At most so many, drawn evenly; the same ones every time."""
        places = np.random.default_rng(0).permutation(len(self.input_ids))[:most]
        return self.at(places)

    def drawn_last(self, most: int) -> "TokenRows":
        """At most so many, and those that `drawn` would draw last: what int8 was fitted to comes last of all."""
        return self.at(np.random.default_rng(0).permutation(len(self.input_ids))[::-1][:most])

    def at(self, places: Ints) -> "TokenRows":
        """The rows at these places."""
        return TokenRows([self.input_ids[i] for i in places.tolist()], self.labels[places])

    def first(self, most: int) -> "TokenRows":
        """At most so many, in their order."""
        return TokenRows(self.input_ids[:most], self.labels[:most])

    def distinct(self, others: frozenset[bytes] = frozenset()) -> "TokenRows":
        """Each once, in their order, without those that have one of these keys."""
        first = {key: place for place, key in reversed(list(enumerate(map(_key, self.input_ids))))}
        places = sorted(place for key, place in first.items() if key not in others)
        return self.at(np.array(places, dtype=np.int64))

    @property
    def keys(self) -> frozenset[bytes]:
        """By which a row is known again."""
        return frozenset(map(_key, self.input_ids))

    def __len__(self) -> int:
        return len(self.input_ids)


def _key(row: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", row).tobytes(), digest_size=16).digest()


@dataclass(frozen=True)
class JudgedTexts:
    """Texts of several origins, one after the other; labels count where they are of validation."""

    rows: TokenRows
    counts: Mapping[str, int]

    @classmethod
    def gathered(
        cls, scored: Ids, validation: TokenRows, train: TokenRows, most: int, labelled_first: bool
    ) -> "JudgedTexts":
        """At most so many, each once: what was scored before, then validation and training reviews.

        What agreement is shown on are independent texts, so that none may count twice. What was scored and is a
        training or a validation review, too, counts as that.

        Args:
            scored: token rows of reviews that were scored.
            validation, train: of the model.
            most: texts. A fifth of them is kept for validation reviews.
            labelled_first: validation reviews come first, as what is promised can be said of labelled ones alone.
        """
        unlabelled = TokenRows(scored, np.full(len(scored), _UNKNOWN, dtype=np.int64))
        labelled = validation.drawn(len(validation)).distinct()
        trained = unlabelled.keys.intersection(map(_key, train.input_ids))
        arrived = unlabelled.drawn(len(scored)).distinct(labelled.keys | trained)
        reserved = min(len(labelled), most if labelled_first else most // _LABELLED_SHARE)
        arrived = arrived.first(most - reserved)
        labelled = labelled.first(most - len(arrived))
        room = most - len(arrived) - len(labelled)
        known = train.drawn_last(len(train)).distinct(labelled.keys).first(room)
        parts = {SCORED: arrived, VALIDATION: labelled, TRAINING: known}
        if labelled_first:
            parts = {VALIDATION: labelled, SCORED: arrived, TRAINING: known}
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
        """Places of those that have a label and were not trained on."""
        return np.flatnonzero(self._origins == VALIDATION)

    @cached_property
    def untrained(self) -> Ints:
        """Places of those that were not trained on: a linear model knows the others by heart."""
        return np.flatnonzero(self._origins != TRAINING)

    @cached_property
    def all(self) -> Ints:
        """All places."""
        return np.arange(len(self.rows.input_ids))

    def __len__(self) -> int:
        return len(self.rows.input_ids)

    def __str__(self) -> str:
        listed = ", ".join(f"{count:,} {name}" for name, count in self.counts.items() if count)
        return f"{len(self):,} texts ({listed})"
