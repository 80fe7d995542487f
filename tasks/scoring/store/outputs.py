"""Output files of one input object: predictions and rejects."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from tasks.core.blame import as_data_error, is_object_error
from tasks.core.errors import DataError, UnreadableDataError, ValidationError
from tasks.core.formats import writing
from tasks.core.formats.base import OUR_FAULT
from tasks.core.formats.detection.text_encodings import advice_for
from tasks.core.formats.parquet.arrow_types import type_at
from tasks.core.scoring.columns import Scored, output_columns, output_row, output_types
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.predict import Broken, End, Prediction, Result, Review
from tasks.core.scoring.results import Counts
from tasks.core.scoring.sharding import Entry


class Output:
    """Predictions and rejects of one object (or part), on disk until they are uploaded."""

    def __init__(self, run: ScoringRun, entry: Entry, path: Path, label_names: list[str]) -> None:
        self.entry, self.path, self.rejected_path = entry, path, path.with_suffix(".rejected")
        self.error: DataError | None = None
        self._run, self._label_names = run, label_names
        self._types = dict[str, Any]()  # types of the prediction columns
        self._types_of_file: Any = None
        self._labels: dict[str, int] = {}
        self._reasons: dict[str, int] = {}

    @property
    def counts(self) -> Counts:
        """Row counts so far."""
        out, rejected = sum(self._labels.values()), sum(self._reasons.values())
        return Counts(
            rows_in=out + rejected,
            rows_out=out,
            rows_rejected=rejected,
            labels=self._labels,
            reasons=self._reasons,
        )

    def encode(self, results: Iterator[Result]) -> None:
        """Consume results up to the object's end, even after an error, so that the next object starts at its own.

        Raises:
            BaseException: errors that the object did not cause.
        """
        columns = output_columns(self._label_names, self._run.columns.keep)
        self._types = output_types(self._label_names)
        name = self._run.output_uri(self.entry.key)
        own = _UntilEnd(results)
        with self.path.open("wb") as stream, self.rejected_path.open("wb") as rejected:
            try:
                rows, first = self._rows(own, rejected), self.entry.part == 0
                guard = self._run.csv_formula_guard
                writing.encode(name, rows, columns, stream, first, guard, self._types)
            except BaseException as error:
                if own.broke or not is_object_error(error):
                    raise
                self.fail(error)
        for result in own:
            if isinstance(result, Broken):
                self.fail(result.error)
        if own.error is not None:
            self.fail(own.error)
        if own.rows is not None and own.rows != self.counts.rows_in:
            self.fail(self._rows_are_lost(own.rows))

    def _rows_are_lost(self, rows: int) -> DataError:
        return UnreadableDataError(
            f"{rows:,} rows were read, and {self.counts.rows_in:,} scored or rejected",
            self._run.input_uri(self.entry.key),
            OUR_FAULT,
        )

    def fail(self, error: BaseException) -> None:
        """Record why the object cannot be scored; the first reason counts."""
        if self.error is not None:
            return
        self.error = as_data_error(error, self._run.input_uri(self.entry.key))

    def _rows(self, results: Iterator[Result], rejected: IO[bytes]) -> Iterator[dict[str, Any]]:
        uri = self._run.input_uri(self.entry.key)
        for result in results:
            if isinstance(result, Broken):
                self.fail(result.error)
            elif isinstance(result, Review):
                self._reasons[result.problem] = self._reasons.get(result.problem, 0) + 1
                rejected.write(_rejected_line(uri, result))
            elif isinstance(result, Prediction):
                yield self._row(uri, result)

    def _row(self, uri: str, result: Prediction) -> dict[str, Any]:
        self._labels[result.label] = self._labels.get(result.label, 0) + 1
        if (types := result.review.types) is not self._types_of_file:
            self._learn_types(types or {})
        scored = Scored(result, uri, self._run.model)
        return output_row(scored, self._label_names, self._run.columns.keep)

    def _learn_types(self, of_file: Mapping[str, Any]) -> None:
        """Give the kept columns the types that the file declares, if it does."""
        self._types_of_file = of_file
        types = {name: type_at(of_file, name) for name in self._run.columns.keep}
        self._types |= {name: kind for name, kind in types.items() if kind is not None}

    def too_many_rejects(self) -> ValidationError | None:
        """Return an error if too many rows of an object are rejected. A part is never judged by itself."""
        counts = self.counts
        if self.entry.parts > 1:
            return None
        return too_many_rejects(self._run, self.entry.key, counts)

    def discard(self) -> None:
        """Remove the files."""
        self.path.unlink(missing_ok=True)
        self.rejected_path.unlink(missing_ok=True)


class _UntilEnd:
    """Iterator over the results of one object. It records how they ended, and whether their producer failed."""

    def __init__(self, results: Iterator[Result]) -> None:
        self._results = results
        self._ended = self.broke = False
        self.error: BaseException | None = None
        self.rows: int | None = None

    def __iter__(self) -> "_UntilEnd":
        return self

    def __next__(self) -> Result:
        if self._ended:
            raise StopIteration
        try:
            result = next(self._results)
        except BaseException:
            self._ended = self.broke = True
            raise
        if isinstance(result, End):
            self._ended, self.error, self.rows = True, result.error, result.rows
            raise StopIteration
        return result


def too_many_rejects(run: ScoringRun, key: str, counts: Counts) -> ValidationError | None:
    """Return an error if a larger fraction of an object's rows is rejected than the form allows."""
    if counts.rows_rejected <= run.max_rejected_share * counts.rows_in:
        return None
    # For a part that was scored before, the reasons may have been too long for its metadata.
    top_reason = max(counts.reasons.items(), key=lambda item: item[1], default=None)
    detail = (
        f"; the most frequent reason ({top_reason[1]:,}): {top_reason[0]}" if top_reason else ""
    )
    return ValidationError(
        f"{counts.rows_rejected:,} of {counts.rows_in:,} rows cannot be scored, more than max_rejected_fraction allows"
        + detail,
        run.input_uri(key),
        advice_for(
            top_reason[0] if top_reason else "",
            "check that it is the right file and the right text column; nothing was written for it",
        ),
    )


def _rejected_line(uri: str, review: Review) -> bytes:
    line = {
        "input": uri,
        "row": review.row,
        "offset": review.offset,
        "id": review.id,
        "reason": review.problem,
        "raw": review.raw.decode("utf-8", "backslashreplace"),
    }
    return json.dumps(line, ensure_ascii=True).encode() + b"\n"
