"""Reviews as Parquet files, in which rows are stored between steps."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.data.texts import encodable
from tasks.core.data.usable_rows import LabelledReview, RawReview

_EXTRAS = ("extras", pa.list_(pa.string()))
_RAW = pa.schema([("text", pa.string()), ("label", pa.string()), ("row", pa.string()), _EXTRAS])
_LABELLED = pa.schema([("text", pa.string()), ("label", pa.int64()), ("row", pa.string()), _EXTRAS])


def write_reviews(
    path: Path, rows: Sequence[RawReview] | Sequence[LabelledReview], raw: bool = False
) -> None:
    """Write rows in order. Lone surrogates, which UTF-8 cannot encode, become '?'."""
    texts = [None if r.text is None else encodable(r.text) for r in rows]
    columns = [
        texts,
        [r.label for r in rows],
        [r.where for r in rows],
        [[encodable(value) for value in r.extras] for r in rows],
    ]
    schema = _RAW if raw else _LABELLED
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")


def read_raw(path: Path) -> list[RawReview]:
    """Read rows that `write_reviews(raw=True)` wrote."""
    columns = [c.to_pylist() for c in pq.read_table(path, schema=_RAW).columns]
    return [RawReview(t, label, row, tuple(e)) for t, label, row, e in zip(*columns, strict=True)]


def read_labelled(path: Path) -> list[LabelledReview]:
    """Read rows that `write_reviews` wrote."""
    columns = [c.to_pylist() for c in pq.read_table(path, schema=_LABELLED).columns]
    return [
        LabelledReview(t, label, row, tuple(e)) for t, label, row, e in zip(*columns, strict=True)
    ]
