"""The step that leaves out the longest training reviews."""

import shutil
from pathlib import Path

from tasks.core.data import tables
from tasks.core.digests import digest_of, file_digest
from tasks.core.records import Reference, SplitSummary
from tasks.runtime.steps import fetched, reuse_or_make, step

_LETTERS = 2_000


class ShortenedSummary(SplitSummary):
    """A split without its longest training reviews."""

    left_out: int


@step
def leave_out_long(split: Reference[SplitSummary]) -> Reference[SplitSummary]:
    """Return the split without training reviews of more than 2,000 letters."""

    def make(folder: Path) -> ShortenedSummary:
        with fetched(split) as source:
            for path in source.glob("*.parquet"):
                shutil.copy(path, folder)
            rows = tables.read_labelled(source / "train.parquet")
        kept = [row for row in rows if len(row.text) <= _LETTERS]
        tables.write_reviews(folder / "train.parquet", kept)
        files = {n: file_digest(folder / f"{n}.parquet") for n in ("train", "validation")}
        facts = split.summary.model_dump() | {"train_digest": digest_of(files)}
        facts["rows"] = split.summary.rows | {"train": len(kept)}
        return ShortenedSummary(**facts, left_out=len(rows) - len(kept))

    inputs = {"version": 1, "split": split.digest, "letters": _LETTERS}
    return reuse_or_make("shortened", inputs, ShortenedSummary, make)
