"""Token rows as Parquet files, in which they are stored between steps."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset


def write_tokens(
    path: Path, input_ids: Sequence[Sequence[int]], labels: Sequence[int] | None = None
) -> None:
    """Write rows in order: input_ids, length, and labels if there are any."""
    columns = {
        "input_ids": pa.array(input_ids, pa.list_(pa.int32())),
        "length": pa.array([len(ids) for ids in input_ids], pa.int32()),
    }
    if labels is not None:
        columns["labels"] = pa.array(labels, pa.int64())
    pq.write_table(pa.table(columns), path, compression="zstd")


def read_tokens(folder: Path, parts: Sequence[str], cache: Path | None = None) -> list[Dataset]:
    """Read the rows of `<folder>/<part>.parquet` into memory.

    Args:
        folder: folder of the files.
        parts: such as train and validation.
        cache: cache folder of `datasets`; each process needs its own. None: a folder beside the files.
    """
    return [
        Dataset.from_parquet(  # type: ignore[misc]
            str(folder / f"{part}.parquet"),
            cache_dir=str(cache or folder / "cache"),
            keep_in_memory=True,
        )
        for part in parts
    ]
