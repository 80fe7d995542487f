"""The scoring hot path: reviews in, predictions out, in order, memory flat.

It knows neither S3 nor Prefect. Reviews are taken a window at a time, so that batches can be planned by length while no
more than a window is held.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from tasks.core.engine import Engine, softmax
from tasks.core.formats import Row, lookup
from tasks.core.forms import Form
from tasks.core.modeling import Device, Precision
from tasks.core.texts import is_blank
from tasks.core.tokenization import Encoder


class EngineParams(Form):
    """How the model is run."""

    device: Device = Field(
        default="auto", description="Where the model runs; auto takes a GPU where there is one."
    )
    precision: Precision = Field(
        default="auto",
        description="auto uses bf16 where the processor or GPU multiplies in it, else fp32.",
    )
    batch_tokens: int = Field(
        default=4096,
        ge=128,
        le=1_048_576,
        description="Tokens of a batch, padding included. More helps on a GPU.",
    )
    window_reviews: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description="Reviews among which batches of similar length are planned; the memory used grows with it.",
    )


@dataclass(slots=True, frozen=True)
class Review:
    """A review to be scored, or the reason why it cannot be."""

    row: int  # in its file, from 1
    id: str
    text: str
    problem: str = ""


@dataclass(slots=True, frozen=True)
class Prediction:
    """What the model says of one review; `probabilities` has one entry a class, in the order of the label names."""

    review: Review
    label: str
    score: float
    probabilities: list[float]


def to_review(row: Row, text_column: str, id_column: str) -> Review:
    """A file's row as a review. Its id is the row number where the file has no id column or the field is empty.

    Columns may be dotted paths into nested ones, as `formats.lookup` reads them.
    """
    if row.values is None:
        return Review(row.number, str(row.number), "", row.problem)
    given: Any = lookup(row.values, id_column)
    review_id = str(row.number) if given is None or given == "" else str(given)
    text = lookup(row.values, text_column)
    if text is None:
        return Review(row.number, review_id, "", f"no {text_column!r}")
    if not isinstance(text, str):
        return Review(
            row.number, review_id, "", f"{text_column!r} is not a text but {type(text).__name__}"
        )
    if is_blank(text):
        return Review(row.number, review_id, "", "empty text")
    return Review(row.number, review_id, text)


def score(
    reviews: Iterable[Review], encoder: Encoder, engine: Engine, window_reviews: int
) -> Iterator[Prediction | Review]:
    """Predictions in the order of the reviews; a review with a problem comes back as it is.

    Args:
        reviews: any number of them; taken lazily.
        encoder: the tokenization the model was trained with.
        engine: gives the logits.
        window_reviews: how many are held at a time.
    """
    source = iter(reviews)
    while window := list(itertools.islice(source, window_reviews)):
        good = [review for review in window if not review.problem]
        encoded = encoder.encode([review.text for review in good])
        probabilities = softmax(engine.logits(encoded.input_ids)) if good else ()
        predictions = iter(
            Prediction(review, engine.label_names[int(p.argmax())], float(p.max()), p.tolist())
            for review, p in zip(good, probabilities, strict=True)
        )
        for review in window:
            yield review if review.problem else next(predictions)
