"""The texts that engines of a model answer to be compared: agreement with fp32 needs no labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ids = Sequence[Sequence[int]]
Ints = NDArray[np.int64]
SCORED, VALIDATION, TRAINING = "scored before", "of validation", "of training"
_UNKNOWN = -1


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


@dataclass(frozen=True)
class JudgedTexts:
    """Texts of several origins, one after the other; labels count where they are of validation."""

    rows: TokenRows
    counts: Mapping[str, int]

    @classmethod
    def gathered(
        cls, scored: Ids, validation: TokenRows, train: TokenRows, most: int, labelled_first: bool
    ) -> "JudgedTexts":
        """At most so many: what was scored before, then validation and training reviews.

        Args:
            scored: token rows of reviews that were scored.
            validation, train: of the model.
            most: texts.
            labelled_first: validation reviews come first, as what is promised can be said of labelled ones alone.
        """
        unlabelled = TokenRows(scored, np.full(len(scored), _UNKNOWN, dtype=np.int64))
        origins = [(SCORED, unlabelled), (VALIDATION, validation)]
        parts: dict[str, TokenRows] = {}
        for name, rows in [*(origins[::-1] if labelled_first else origins), (TRAINING, train)]:
            room = most - sum(len(part.input_ids) for part in parts.values())
            parts[name] = rows.drawn_last(room) if name == TRAINING else rows.drawn(room)
        ids = [row for part in parts.values() for row in part.input_ids]
        labels = np.concatenate(
            [
                part.labels if name == VALIDATION else np.full(len(part.input_ids), _UNKNOWN)
                for name, part in parts.items()
            ]
        )
        counts = {name: len(part.input_ids) for name, part in parts.items()}
        return cls(TokenRows(ids, labels), counts)

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
