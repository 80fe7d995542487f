"""The column is written, and outputs without it do not count."""

from pathlib import Path

import pyarrow.parquet as pq

from tasks.core.scoring.predict import End, Prediction, Review
from tasks.core.scoring.sharding import Entry
from tasks.scoring.store.outputs import Output
from tests.core.scoring.scoring_runs import scoring_run


def test_the_column_is_written_and_old_outputs_do_not_count(tmp_path: Path) -> None:
    run = scoring_run(output_format="parquet")
    entry = Entry(key="a.jsonl", size=1, etag="e")
    review = Review(1, "a", "Lovely.")
    results = iter([Prediction(review, "POSITIVE", 0.9, [0.1, 0.9]), End(rows=1)])
    output = Output(run, entry, tmp_path / "out", ["NEGATIVE", "POSITIVE"])
    output.encode(results)
    table = pq.read_table(tmp_path / "out")
    assert (
        table["letters"].to_pylist() == [7] and str(table.schema.field("letters").type) == "int64"
    )
    assert "letters" in str(run._made_from())
