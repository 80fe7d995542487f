"""The output of one input object, predictions and rejects, as files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tasks.core import formats
from tasks.core.errors import DataError, UnwritableDataError, ValidationError
from tasks.core.score_results import Counts
from tasks.core.scoring import End, Prediction, Review
from tasks.core.scoring_plan import Entry, ScoringRun


class Output:
    """Predictions and rejects of one object (or part), on disk until they are uploaded."""

    def __init__(self, run: ScoringRun, entry: Entry, path: Path, label_names: list[str]) -> None:
        self.entry, self.path, self.rejected_path = entry, path, path.with_suffix(".rejected")
        self.error: DataError | None = None
        self._run, self._label_names = run, label_names
        self._labels: dict[str, int] = {}
        self._reasons: dict[str, int] = {}

    @property
    def counts(self) -> Counts:
        """Rows so far."""
        out, rejected = sum(self._labels.values()), sum(self._reasons.values())
        return Counts(
            rows_in=out + rejected,
            rows_out=out,
            rows_rejected=rejected,
            labels=self._labels,
            reasons=self._reasons,
        )

    def encode(self, results: Iterator[Prediction | Review | End]) -> None:
        """Take results up to the object's end."""
        made = ["input", "row", "id", "label", "score"]
        made += [f"probability_{name}" for name in self._label_names]
        columns = [*made, *self._run.columns.keep, "model", "model_version"]
        name = self._run.output_uri(self.entry.key)
        with self.path.open("wb") as stream, self.rejected_path.open("wb") as rejected:
            rows = self._rows(results, rejected)
            try:
                first = self.entry.part == 0
                guard = self._run.csv_formula_guard
                formats.encode(name, rows, columns, stream, header=first, guard=guard)
            except UnwritableDataError as error:
                for (
                    _
                ) in rows:  # what is left of this object, so that the next one begins with its own
                    pass
                self.error = self.error or error

    def _rows(
        self, results: Iterator[Prediction | Review | End], rejected: IO[bytes]
    ) -> Iterator[dict[str, Any]]:
        uri = self._run.input_uri(self.entry.key)
        for result in results:
            if isinstance(result, End):
                self.error = result.error
                return
            if isinstance(result, Review):
                self._reasons[result.problem] = self._reasons.get(result.problem, 0) + 1
                rejected.write(_rejected_line(uri, result))
                continue
            self._labels[result.label] = self._labels.get(result.label, 0) + 1
            shares = zip(self._label_names, result.probabilities, strict=True)
            yield {
                "input": uri,
                "row": result.review.row,
                "id": result.review.id,
                "label": result.label,
                "score": round(result.score, 6),
                **{f"probability_{name}": round(p, 6) for name, p in shares},
                **dict(zip(self._run.columns.keep, result.review.kept, strict=True)),
                "model": self._run.model.name,
                "model_version": self._run.model.version,
            }

    def too_many_rejects(self) -> ValidationError | None:
        """What is wrong with an object of which too much cannot be scored; of a part nothing can be said."""
        counts = self.counts
        if self.entry.parts > 1:
            return None
        return too_many_rejects(self._run, self.entry.key, counts)

    def discard(self) -> None:
        """Remove the files."""
        self.path.unlink(missing_ok=True)
        self.rejected_path.unlink(missing_ok=True)


def too_many_rejects(run: ScoringRun, key: str, counts: Counts) -> ValidationError | None:
    """What is wrong with an object of which a larger share cannot be scored than the form allows."""
    if counts.rows_rejected <= run.max_rejected_share * counts.rows_in:
        return None
    # of a part that was scored before, the reasons may have been too long for its metadata
    known = max(counts.reasons.items(), key=lambda item: item[1], default=None)
    most = f"; the most frequent reason ({known[1]:,}): {known[0]}" if known else ""
    return ValidationError(
        f"{counts.rows_rejected:,} of {counts.rows_in:,} rows cannot be scored, more than max_rejected_share allows"
        + most,
        run.input_uri(key),
        "check that it is the right file and the right text column; nothing of it was written",
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
