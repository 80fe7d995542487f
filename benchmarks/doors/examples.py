"""The code of the changes in `changes.py`, and the tests that show that it works."""

FORMAT = '''"""Arrow's file format, whole in memory."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

import pyarrow as pa

from tasks.core.formats.base import Row, Span


class Arrow:
    """Arrow IPC files."""

    by_bytes = False

    def decode(
        self, stream: IO[bytes], span: Span | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[Row]:
        table = pa.ipc.open_file(io.BytesIO(stream.read())).read_all()
        for number, values in enumerate(table.to_pylist(), 1):
            yield Row(number, values, "", number - 1, b"", len(table), tuple(table.column_names))

    def encode(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[str],
        stream: IO[bytes],
        header: bool = True,
        types: Mapping[str, Any] | None = None,
    ) -> None:
        listed = list(rows)
        table = pa.table({c: pa.array([r[c] for r in listed], pa.string()) for c in columns})
        with pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)

    def cut(self, stream: IO[bytes], part_bytes: int, whole: Span) -> Iterator[Span]:
        yield replace(whole, rows=sum(1 for _ in self.decode(stream)))

    def join(self, parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
        tables = [pa.ipc.open_file(io.BytesIO(part.read())).read_all() for part in parts]
        with pa.ipc.new_file(stream, tables[0].schema) as writer:
            writer.write_table(pa.concat_tables(tables))


ARROW = Arrow()
'''

FORMAT_TEST = """from flows.cli.arguments import parse


def test_the_form_offers_arrow() -> None:
    assert parse("score", ["--output-format", "arrow"]).output_format == "arrow"
"""

SOURCE = '''"""A table of an SQLite database as a source of labelled reviews: sqlite:///path?table."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from tasks.connectors.sources.base import SourceColumns, Unreadable, label_of
from tasks.core.data.usable_rows import RawReview
from tasks.core.records import SourceFile


class SqliteTable:
    """All rows are for training."""

    def __init__(self, location: str, columns: SourceColumns) -> None:
        self.name = location
        self._path, _, self._table = location.removeprefix("sqlite:///").partition("?")
        self._columns = columns

    def identity(self) -> dict[str, Any]:
        with sqlite3.connect(self._path) as database:
            return {"sqlite": self.name, "changes": database.execute("PRAGMA data_version").fetchall()}

    def splits(self) -> list[str]:
        return ["train"]

    def files(self) -> list[SourceFile]:
        return [SourceFile(name=self.name, split="train", why="all rows of a table are")]

    def rows(self, split: str) -> Iterator[RawReview | Unreadable]:
        query = f"SELECT {self._columns.text}, {self._columns.label} FROM {self._table}"
        with sqlite3.connect(self._path) as database:
            for number, (text, label) in enumerate(database.execute(query), 1):
                where = f"{self.name} row {number}"
                yield RawReview(text, label_of(label, self._columns.label, where), where)

    def label_names(self) -> list[str] | None:
        return None
'''

SOURCE_TEST = """import sqlite3
from pathlib import Path

from tasks.connectors.sources.params import SourceParams
from tasks.connectors.sources.registry import open_source


def test_reviews_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE reviews (text, label)")
        database.execute("INSERT INTO reviews VALUES ('Lovely.', 'POSITIVE'), ('Dull.', 'NEGATIVE')")
    params = SourceParams(location=f"sqlite:///{path}?reviews")
    source = open_source(params, "location", None)
    rows = list(source.rows("train"))
    assert [(row.text, row.label) for row in rows] == [("Lovely.", "POSITIVE"), ("Dull.", "NEGATIVE")]
"""

ENGINE = '''"""An engine that computes every answer twice, and takes the second."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models.classifier import Classifier


class TwiceEngine:
    def __init__(self, classifier: Classifier, options: EngineOptions) -> None:
        self.label_names = classifier.label_names
        self._torch = TorchEngine(classifier, "cpu", "fp32", options.batch_tokens)

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self._torch.logits(input_ids)
        return self._torch.logits(input_ids)


class _Twice:
    name = "twice"
    packages: tuple[str, ...] = ()
    extra = ""

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        return ""

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Do nothing."""

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        return TwiceEngine(classifier, options)


KIND = _Twice()
'''

FAMILY_TEST = """from pathlib import Path

import pytest
import torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models import classifier as modeling
from tasks.core.models import folders
from tasks.core.models.batching import neighbours
from tasks.core.models.classifier import Classifier


def test_a_family_that_no_file_names(bert: Path, tmp_path: Path) -> None:
    tokenizer = folders.load_tokenizer(bert)
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id,
        relative_attention=True, position_buckets=16, pos_att_type=["p2c", "c2p"],
    )
    model = DebertaV2ForSequenceClassification(config)
    made = Classifier(model, Encoder(tokenizer, TokenizationParams()), ["NEGATIVE", "POSITIVE"])
    modeling.save(neighbours.with_batch_rule(made), tmp_path)
    engine = TorchEngine(modeling.load(tmp_path), "cpu", "fp32")
    logits = engine.logits([[5, 6, 7], [8, 9]])
    assert logits.shape == (2, 2)
    assert logits[[1]] == pytest.approx(engine.logits([[8, 9]]), abs=1e-4)
"""

POOL_TEST = """import pytest

from deployments import apply


def test_apply_offers_the_pool(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        apply.main(["--help"])
    assert "ecs" in capsys.readouterr().out
    assert apply.pool_template("ecs", "cpu") == {"job_configuration": {}, "variables": {}}
"""

COLUMN_TEST = """import io
from pathlib import Path
from typing import Any

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
    assert table["letters"].to_pylist() == [7] and str(table.schema.field("letters").type) == "int64"
    assert "letters" in str(run._made_from())
"""

DECISION_TEST = """import numpy as np

from benchmarks.faults.parts import CharacterEncoder
from tasks.core.engines.cascade import bands
from tasks.core.evaluation import metrics
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.scoring import predict
from tasks.core.scoring.predict import End, Review
from tests.core.release.gate.test_decision import evidence

PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
LABELS = np.array([0, 1, 1])


class Engine:
    label_names = ["NEGATIVE", "POSITIVE"]

    def logits(self, input_ids):
        return np.tile(np.float32([2.0, -2.0]), (len(input_ids), 1))


def test_scoring_gives_the_new_label() -> None:
    reviews = [Review(1, "a", "Dull."), End(rows=1)]
    prediction = next(predict.score([reviews], CharacterEncoder(), Engine(), 10))
    assert prediction.label == "POSITIVE" and prediction.score < 0.1


def test_metrics_and_gate_judge_the_new_label() -> None:
    measured = metrics.evaluate(LABELS, PROBABILITIES, EvaluationParams(resamples=100)).overall
    assert measured["accuracy"].value == 2 / 3
    candidate = evidence(rows=100, wrong=0)
    assert candidate.candidate_right.tolist() == (candidate.labels == 1).tolist()


def test_engines_agree_where_the_new_label_is_the_same() -> None:
    logits = PROBABILITIES.astype(np.float32)
    assert not bands.disagree(logits, logits[:, ::-1]).any()
"""

STEP = '''"""The step that leaves out the longest training reviews."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.data import tables
from tasks.core.digests import digest_of, file_digest
from tasks.core.records import DescribedSummary, Reference, SplitSummary
from tasks.runtime.steps import fetched, reuse_or_make, step

_LETTERS = 2_000


class ShortenedSummary(SplitSummary, DescribedSummary):
    """A split without its longest training reviews."""

    left_out: int

    def facts(self, inputs: Mapping[str, Any]) -> dict[str, str]:
        return {"left out": f"{self.left_out} reviews of more than {inputs['letters']} letters"}


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
'''

STEP_TEST = """import json
from pathlib import Path

import pytest

from flows.forms.scoring import TraceParams
from flows.retrain import retrain
from flows.trace_prediction import trace
from tasks.connectors.storage.object_store import ObjectStore
from tests.retraining import deliver, params, tags

pytestmark = pytest.mark.prefect


def test_a_retraining_takes_the_step(services: ObjectStore, prefix: str, bert: Path) -> None:
    given = params(bert, deliver(services, prefix), "shortened")
    first = retrain(given)
    lineage = json.loads(tags("shortened", first.version.version)["nightshift.lineage"])
    assert "/prepared/shortened/" in lineage["shortened"]
    assert "shortened" in retrain(given).steps_reused
    traced = trace(TraceParams(start=lineage["shortened"]))
    assert traced.facts["shortened: left out"] == "0 reviews of more than 2000 letters"
    assert any("version shortened/1" in line for line in traced.downstream)
"""
