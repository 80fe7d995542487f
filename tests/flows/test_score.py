"""The scoring flow on real servers, with a model trained there: every format, the proof, the way back, refusals."""

import json
from pathlib import Path

import pytest

from flows.forms.scoring import ScoreParams, TraceParams, VerifyParams
from flows.retrain import retrain
from flows.score import score
from flows.stages.results import Retrained
from flows.trace_prediction import trace
from flows.verify import verify
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import DataError, MissingDataError, ModelError, SettingsError
from tasks.runtime.clients import model_registry
from tests.retraining import deliver, params, read, write
from tests.reviews import reviews

pytestmark = pytest.mark.prefect

NAMES = ("one.jsonl", "two.csv.gz", "deep/three.parquet", "four.tsv.zst")


def test_predictions_in_every_format_and_the_way_back(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    retrain(params(bert, deliver(services, prefix, seed=20), "every-format"))
    (negative, _), (positive, _) = reviews(2, seed=99)
    inbox = [
        {"id": "a", "text": negative},
        {"id": "b", "text": " "},
        {"id": "=c", "text": positive},
    ]
    for name in NAMES:
        write(services, f"{prefix}/inbox/{name}", inbox)
    services.write_bytes(b'{"id": 1, "text": "fine"}\nnot json\n', f"{prefix}/inbox/five.jsonl")
    done = score(
        ScoreParams(input=f"{prefix}/inbox/", output=f"{prefix}/out/", model_name="every-format")
    )
    champion = model_registry().resolve("every-format", "champion")
    assert champion and done.version == champion.version
    counts = done.counts
    assert (counts.rows_in, counts.rows_out, counts.rows_rejected) == (14, 9, 5)
    out = f"{prefix}/out/model=every-format/version={champion.version}"
    assert done.root == out and done.scored == 5
    for name in NAMES:
        _check(services, prefix, out, name, champion.version)
    assert verify(VerifyParams(run=done.place)).complete
    for name in ("four.tsv.zst", "one.jsonl"):
        facts = trace(TraceParams(prediction=f"{out}/{name}", row=3)).facts
        assert (facts["id"], facts["label"]) == ("=c", "POSITIVE")
    assert facts["model"] == str(champion) and facts["base model"] == str(bert)
    assert facts["training data (digest of the split)"] and facts["MLflow run of the training"]
    with pytest.raises(MissingDataError, match="No prediction of row 2"):
        trace(TraceParams(prediction=f"{out}/one.jsonl", row=2))
    services.delete(f"{out}/two.csv.gz")
    with pytest.raises(DataError, match=r"1 of 5 objects.*two\.csv\.gz: there is no output"):
        verify(VerifyParams(run=done.place))
    written = json.loads(services.read_bytes(f"{done.place}/_SUCCESS") or b"")
    assert written["counts"]["rows_in"] == 14 and written == done.model_dump()


def _check(services: ObjectStore, prefix: str, out: str, name: str, version: str) -> None:
    """Two predictions and one reject, each with all that it should say."""
    rows = read(services, f"{out}/{name}")
    last = "'=c" if ".csv" in name or ".tsv" in name else "=c"  # no formula to a spreadsheet
    assert [r["id"] for r in rows] == ["a", last] and [int(r["row"]) for r in rows] == [1, 3]
    assert [r["label"] for r in rows] == ["NEGATIVE", "POSITIVE"]
    for row in rows:
        shares = [float(row["probability_NEGATIVE"]), float(row["probability_POSITIVE"])]
        assert sum(shares) == pytest.approx(1, abs=1e-5) and float(row["score"]) == max(shares)
        assert (row["model"], row["model_version"]) == ("every-format", version)
    assert {row["input"] for row in rows} == {f"{prefix}/inbox/{name}"}
    (found,) = [o.uri for o in services.scan(f"{out}/_rejected/") if f"/{name}." in o.uri]
    (rejected,) = read(services, found)
    assert (rejected["id"], rejected["row"], rejected["reason"]) == ("b", 2, "empty text")
    assert rejected["input"] == f"{prefix}/inbox/{name}" and rejected["raw"]


def test_scoring_refuses_what_cannot_work(services: ObjectStore, prefix: str, bert: Path) -> None:
    trained: Retrained = retrain(params(bert, deliver(services, prefix, seed=30), "refusals"))
    inbox, out = f"{prefix}/inbox", f"{prefix}/out"

    def run(**given: str) -> None:
        score(
            ScoreParams.model_validate(
                {"input": inbox, "output": out, "model_name": "refusals"} | given
            )
        )

    with pytest.raises(MissingDataError, match="No object there"):
        run()
    write(services, f"{inbox}/good.jsonl", [{"id": "a", "text": "Dull."}])
    services.write_bytes(b'{"review": "x"}\n', f"{inbox}/column.jsonl")
    services.write_bytes(b"\x1f\x8b\x08truncated", f"{inbox}/truncated.csv.gz")
    services.write_bytes(b"words", f"{inbox}/notes.txt")
    services.write_bytes(b"", f"{inbox}/deep/_SUCCESS")  # not read
    for given in ({"output": f"{inbox}/out"}, {"output": inbox}):
        with pytest.raises(SettingsError, match="could replace reviews"):
            run(**given)
    with pytest.raises(ModelError, match="no '99'"):
        run(model_version="99")
    version = trained.version.version
    with pytest.raises(DataError, match=r"3 of 4 objects were not scored"):
        run(model_version=version)
    root = f"{out}/model=refusals/version={version}"
    assert len(read(services, f"{root}/good.jsonl")) == 1  # the good one is scored all the same
    assert services.read_bytes(f"{root}/_SUCCESS") is None
    summary = json.loads(services.read_bytes(f"{root}/_INCOMPLETE") or b"")
    errors = {e.rpartition("]")[0].rpartition("/")[2]: e for e in summary["errors"]}
    assert "No column 'text'; the columns are: review" in errors["column.jsonl"]
    assert "truncated.csv.gz" in errors and "notes.txt" in errors
