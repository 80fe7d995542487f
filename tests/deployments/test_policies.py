"""The least-privilege policies, on a real S3 server: enough for the work of each worker, and for nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.fine_tune import fine_tune
from flows.forms.pipelines import FineTuneParams
from flows.forms.scoring import ScoreParams
from flows.retrain import retrain
from flows.score import score
from tasks.connectors.servers.seaweedfs import SeaweedFS
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import StoreError
from tasks.core.training.pretraining.params import PretrainingParams
from tests.identities import Keys, identity, managed_server
from tests.paths import ROOT
from tests.retraining import params
from tests.reviews import jsonl, reviews

pytestmark = pytest.mark.prefect

POLICIES = ROOT / "deployments" / "policies"
BUCKET = "nightshift"
ROOT = f"s3://{BUCKET}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A server whose identities can be managed, with reviews in it."""
    with managed_server(tmp_path_factory.mktemp("s3")) as made:
        store = made.store()
        store.write_bytes(jsonl(reviews(200, 0)), f"{ROOT}/labelled/train.jsonl")
        store.write_bytes(jsonl(reviews(60, 1)), f"{ROOT}/labelled/test.jsonl")
        store.write_bytes(b'{"id": 1, "text": "The plot was dull."}\n', f"{ROOT}/incoming/x.jsonl")
        yield made


def keys_of(server: SeaweedFS, worker: str) -> Keys:
    """A new identity that may do what a policy says, and no more."""
    policy = (POLICIES / f"{worker}.json").read_text().replace("BUCKET", BUCKET)
    return identity(server, worker, policy, lambda store: store.list(f"{ROOT}/labelled"))


def become(monkeypatch: pytest.MonkeyPatch, server: SeaweedFS, keys: Keys) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])


@pytest.mark.slow
def test_each_worker_can_do_its_work_and_nothing_else(
    server: SeaweedFS, services: ObjectStore, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = keys_of(server, "cpu-worker")
    become(monkeypatch, server, cpu)
    done = retrain(params(bert, f"{ROOT}/labelled", "policies", pretraining__epochs=1))
    scored = score(
        ScoreParams(input=f"{ROOT}/incoming/", output=f"{ROOT}/predictions/", model_name="policies")
    )
    assert done.promoted and scored.counts.rows_out == 1
    store = ObjectStore(server.endpoint_url, *cpu)
    for key in ("labelled/train.jsonl", "incoming/x.jsonl"):
        with pytest.raises(StoreError, match="refused"):
            store.write_bytes(b"", f"{ROOT}/{key}")
        with pytest.raises(StoreError, match="refused"):
            store.delete(f"{ROOT}/{key}")

    prepared = {o.key.split("/")[1]: o.uri for o in server.store().list(f"{ROOT}/prepared/")}
    kinds = ("base-model", "tokens", "pretraining-tokens")
    base, tokens, texts = ("/".join(prepared[kind].split("/")[:6]) for kind in kinds)
    gpu = keys_of(server, "gpu-worker")
    become(monkeypatch, server, gpu)
    monkeypatch.setenv("NIGHTSHIFT_CHECKPOINT_SECONDS", "0")
    given = params(bert, "unused", "policies", training__seed=5)
    further = FineTuneParams(
        tokens=texts,
        base_model=base,
        training=given.training,
        pretraining=PretrainingParams(epochs=1, seed=5),
    )
    start = fine_tune(further)
    assert not start.reused
    trained = fine_tune(
        FineTuneParams(
            tokens=tokens,
            base_model=start.uri,
            tokenization=given.tokenization,
            training=given.training,
        )
    )
    assert not trained.reused

    store = ObjectStore(server.endpoint_url, *gpu)
    for key in ("labelled/train.jsonl", "incoming/x.jsonl", "predictions/x.jsonl"):
        with pytest.raises(StoreError, match="refused"):
            store.read_bytes(f"{ROOT}/{key}")
    for key in ("labelled/more.jsonl", "predictions/x.jsonl", "prepared/tokens/forged"):
        with pytest.raises(StoreError, match="refused"):
            store.write_bytes(b"", f"{ROOT}/{key}")
