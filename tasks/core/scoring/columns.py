"""The columns of predictions: the one list that decides what is written, with which type, and what is scored again.

To add a column, add it to `COLUMNS`. Objects that were scored without it are then scored again, because the names of
all columns that release 0.1 did not have are part of an object's digest.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.formats.parquet.arrow_types import NUMBER, TEXT, WHOLE_NUMBER
from tasks.core.records import ModelVersion

if TYPE_CHECKING:  # that module imports torch, which those who only read the plan do without
    from tasks.core.scoring.predict import Prediction

_DIGITS = 6  # of a probability
_PROBABILITY = "probability_"


@dataclass(frozen=True)
class Scored:
    """One prediction, and where it belongs."""

    prediction: "Prediction"
    input_uri: str
    model: ModelVersion


@dataclass(frozen=True)
class Column:
    """A column of predictions.

    Args:
        name: in the file.
        type: Arrow's type.
        value: of a row.
    """

    name: str
    type: Any
    value: Callable[[Scored], Any]


COLUMNS: tuple[Column, ...] = (
    Column("input", TEXT, lambda row: row.input_uri),
    Column("row", WHOLE_NUMBER, lambda row: row.prediction.review.row),
    Column("id", TEXT, lambda row: row.prediction.review.id),
    Column("label", TEXT, lambda row: row.prediction.label),
    Column("score", NUMBER, lambda row: round(row.prediction.score, _DIGITS)),
)
#: Behind the probabilities and the kept columns.
LAST_COLUMNS: tuple[Column, ...] = (
    Column("model", TEXT, lambda row: row.model.name),
    Column("model_version", TEXT, lambda row: row.model.version),
)
#: The columns of release 0.1, which digests do not name.
_FIRST = frozenset({"input", "row", "id", "label", "score", "model", "model_version"})


def added_columns() -> list[str]:
    """Return the names of the columns that were added since release 0.1, for the digest of predictions."""
    return [column.name for column in (*COLUMNS, *LAST_COLUMNS) if column.name not in _FIRST]


def is_reserved(name: str) -> bool:
    """True if predictions have a column of this name."""
    own = any(column.name == name for column in (*COLUMNS, *LAST_COLUMNS))
    return own or name.startswith(_PROBABILITY)


def output_columns(label_names: Sequence[str], keep: Sequence[str]) -> list[str]:
    """Return the names of all columns of a file of predictions, in order."""
    return [
        *(column.name for column in COLUMNS),
        *map(probability_column, label_names),
        *keep,
        *(column.name for column in LAST_COLUMNS),
    ]


def output_types(label_names: Sequence[str]) -> dict[str, Any]:
    """Return the Arrow types of all columns but the kept ones."""
    types = {column.name: column.type for column in (*COLUMNS, *LAST_COLUMNS)}
    return types | {probability_column(name): NUMBER for name in label_names}


def output_row(row: Scored, label_names: Sequence[str], keep: Sequence[str]) -> dict[str, Any]:
    """Return the values of a prediction by column, in order."""
    return dict(_values(row, label_names, keep))


def probability_column(label: str) -> str:
    """Return the name of the column with the probability of a label."""
    return f"{_PROBABILITY}{label}"


def _values(
    row: Scored, label_names: Sequence[str], keep: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    yield from ((column.name, column.value(row)) for column in COLUMNS)
    for label, probability in zip(label_names, row.prediction.probabilities, strict=True):
        yield probability_column(label), round(probability, _DIGITS)
    yield from zip(keep, row.prediction.review.kept, strict=True)
    yield from ((column.name, column.value(row)) for column in LAST_COLUMNS)
