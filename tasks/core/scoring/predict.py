"""The scoring hot path: reviews in, predictions out, in order, with bounded memory.

It does not depend on S3 or Prefect. Reviews are processed in windows, so that batches can be planned by length while
only a few windows are held. Reading, parsing and tokenizing run in a thread of their own, so the model does not wait
for them. A window may hold the reviews of many small inputs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.texts import is_blank
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.decision import predict_labels, without_costs
from tasks.core.engines.protocol import Engine, softmax
from tasks.core.errors import ModelError, ValidationError
from tasks.core.formats.base import LONGEST_RECORD, TOO_LONG, Row
from tasks.core.formats.columns import lookup
from tasks.core.formats.detection.text_encodings import advice_for
from tasks.core.formats.values import as_text, held_bytes, json_text
from tasks.core.scoring.isolation import each_or_error
from tasks.core.scoring.plan import Columns
from tasks.core.scoring.prefetch import prefetch

_WINDOWS_AHEAD = 2
_HARMLESS = "a film"  # a tokenizer or engine that fails on this is broken
# A window is also full at this size, with few long reviews or large kept columns.
_WINDOW_BYTES = 8 << 20
_MOST_KEPT_BYTES = 64 << 20  # of one row
_ROWS_TO_JUDGE = 100_000  # with fewer rows the rejected fraction may still change


@dataclass(slots=True, frozen=True)
class Review:
    """A review to score, or the reason why it cannot be scored."""

    row: int  # in its file, from 1
    id: str
    text: str
    problem: str = ""
    offset: int = 0  # where its record begins, in bytes after decompression
    raw: bytes = b""  # the record as it is in the file; for Parquet, its values as JSON
    kept: tuple[Any, ...] = ()  # values of the columns copied to the output
    kept_bytes: int = 0  # memory that they take
    types: Mapping[str, Any] | None = None  # types of the file's columns, if the format has them


@dataclass(slots=True, frozen=True)
class Prediction:
    """The model's answer to one review; `probabilities` has one entry per class, in the order of the label names."""

    review: Review
    label: str
    score: float
    probabilities: list[float]


@dataclass(slots=True, frozen=True)
class Broken:
    """Takes the place of a prediction if the tokenizer or the engine raises for this review. Its input fails."""

    error: BaseException


@dataclass(slots=True, frozen=True)
class End:
    """Marks the end of an input, after its last review."""

    error: BaseException | None = None  # why it could not be read to its end
    rows: int | None = None  # rows read, if it was read to its end


Result = Prediction | Review | Broken | End


@dataclass(slots=True)
class _Window:
    """Items in order, and the distinct token rows of the reviews that can be scored."""

    items: list[Review | End] = field(default_factory=list)
    # Approximate size. Every row counts, as one odd row may be a thousand times as large as the others.
    bytes: int = 0
    input_ids: Sequence[Sequence[int]] = ()  # distinct
    row_indices: Sequence[int] = ()  # for each tokenized review, its index in input_ids
    broken: Mapping[int, BaseException] = field(default_factory=dict[int, BaseException])
    """What the tokenizer raises, by the number of the review among those that can be scored."""

    def add(self, item: Review | End) -> None:
        self.items.append(item)
        if isinstance(item, Review):
            self.bytes += len(item.text) + len(item.raw) + len(item.id) + item.kept_bytes


def to_review(row: Row, columns: Columns) -> Review:
    """Convert a file's row to a review. Its id is the row number if the file has no id column or the field is empty.

    Each format limits the size of a row in its own way. This function also refuses a row whose text and id together
    exceed LONGEST_RECORD.
    """
    if row.values is None:
        return _refused(row, str(row.number), row.problem)
    raw_id: Any = lookup(row.values, columns.id)
    review_id = raw_id if isinstance(raw_id, str) else as_text(raw_id)
    review_id = review_id or str(row.number)
    text: Any = lookup(row.values, columns.text)
    if text is None:
        return _refused(row, review_id, f"no {columns.text!r}")
    if not isinstance(text, str):
        return _refused(
            row, review_id, f"{columns.text!r} is not a string but {type(text).__name__}"
        )
    if len(text) + len(review_id) > LONGEST_RECORD:
        return Review(row.number, str(row.number), "", TOO_LONG, row.offset, row.raw)
    if is_blank(text):
        return _refused(row, review_id, "empty text")
    kept_values = tuple(lookup(row.values, name) for name in columns.keep)
    kept_bytes = held_bytes(kept_values, _MOST_KEPT_BYTES) if kept_values else 0
    if kept_bytes > _MOST_KEPT_BYTES:
        problem = f"kept columns of more than {_MOST_KEPT_BYTES >> 20} MiB in memory"
        return _refused(row, review_id, problem)
    return Review(
        row.number, review_id, text, "", row.offset, b"", kept_values, kept_bytes, row.types
    )


def _refused(row: Row, review_id: str, problem: str) -> Review:
    raw = row.raw or (json_text(dict(row.values)).encode() if row.values is not None else b"")
    return Review(row.number, review_id, "", problem, row.offset, raw)


def within_fraction(
    reviews: Iterable[Review], max_rejected_fraction: float, where: str
) -> Iterator[Review]:
    """Pass on the reviews of an object until too many are rejected.

    Raises:
        ValidationError: after at least 100,000 rows, a larger fraction of them is rejected than allowed. This keeps the
            rejects of a wrong file from filling the disk.
    """
    rejected = 0
    for rows, review in enumerate(reviews, start=1):
        rejected += bool(review.problem)
        if rows >= _ROWS_TO_JUDGE and rejected > max_rejected_fraction * rows:
            raise ValidationError(
                f"{rejected:,} of its first {rows:,} rows cannot be scored, more than max_rejected_fraction allows; "
                f"the last reason: {review.problem}",
                where,
                advice_for(
                    review.problem,
                    "check that it is the right file and the right text column; nothing was written for it",
                ),
            )
        yield review


def score(
    bundles: Iterable[Iterable[Review | End]],
    encoder: Encoder,
    engine: Engine,
    window_reviews: int,
    class_costs: Sequence[float] = (),
) -> Iterator[Result]:
    """Yield predictions in the order of the reviews. Reviews with a problem and the end of each input pass unchanged.

    If the tokenizer or the engine raises for some reviews, only those are broken.

    Args:
        bundles: of reviews, each input's followed by its end; read lazily. No window crosses the end of a bundle, so
            the content of a bundle alone decides which reviews share a batch, and thus the last digits of the scores.
        encoder: the tokenization the model was trained with.
        engine: computes the logits.
        window_reviews: number of reviews planned together.
        class_costs: of the model; its probabilities are given without them.
    Raises:
        ModelError: the tokenizer or the engine fails even on a harmless text, so every input would fail.
    """
    for window in prefetch(_windows(bundles, encoder, window_reviews), _WINDOWS_AHEAD):
        answers = _answers(window, encoder, engine)
        for item in window.items:
            if isinstance(item, End) or item.problem:
                yield item
                continue
            p = next(answers)
            if isinstance(p, BaseException):
                yield Broken(p)
                continue
            if not np.isfinite(p).all():
                yield Broken(
                    ModelError("The model's probabilities for a review are NaN or infinite")
                )
                continue
            best = int(predict_labels(p[None])[0])
            p = without_costs(p[None], class_costs)[0]
            yield Prediction(item, engine.label_names[best], float(p[best]), p.tolist())


def _answers(
    window: _Window, encoder: Encoder, engine: Engine
) -> Iterator[NDArray[np.float64] | BaseException]:
    """Yield the probabilities, shape (classes,), or the error of each review that can be scored."""
    rows = _probabilities(window.input_ids, encoder, engine)
    row_indices = iter(window.row_indices)
    for number in range(len(window.row_indices) + len(window.broken)):
        yield window.broken[number] if number in window.broken else rows[next(row_indices)]


def _probabilities(
    input_ids: Sequence[Sequence[int]], encoder: Encoder, engine: Engine
) -> Sequence[NDArray[np.float64] | BaseException]:
    """Return the probabilities of each row, shape (classes,), or the error that the engine raises for it."""
    if not len(input_ids):
        return ()
    return each_or_error(
        lambda rows: list(softmax(engine.logits(rows))),
        input_ids,
        lambda: encoder.encode([_HARMLESS]).input_ids[0],
        "The engine",
    )


def _windows(
    bundles: Iterable[Iterable[Review | End]], encoder: Encoder, window_reviews: int
) -> Iterator[_Window]:
    for bundle in bundles:
        window = _Window()
        for item in bundle:
            window.add(item)
            if len(window.items) >= window_reviews or window.bytes >= _WINDOW_BYTES:
                yield _encoded(window, encoder)
                window = _Window()
        if window.items:
            yield _encoded(window, encoder)


def _encoded(window: _Window, encoder: Encoder) -> _Window:
    good = [i.text for i in window.items if isinstance(i, Review) and not i.problem]
    if good:
        rows = each_or_error(
            lambda texts: encoder.encode(texts).input_ids,
            good,
            lambda: _HARMLESS,
            "The tokenizer",
        )
        window.broken = {n: row for n, row in enumerate(rows) if isinstance(row, BaseException)}
        window.input_ids, window.row_indices = _deduplicate(
            [row for row in rows if not isinstance(row, BaseException)]
        )
    return window


def _deduplicate(rows: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[int]]:
    """Return the distinct rows in order of first appearance, and the index among them of each given row."""
    first: dict[tuple[int, ...], int] = {}
    indices = [first.setdefault(tuple(row), len(first)) for row in rows]
    return list(first), indices
