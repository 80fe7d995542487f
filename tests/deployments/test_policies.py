"""The least-privilege policies, on a real S3 server: enough for the work of each worker, and for nothing else."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from flows.fine_tune import fine_tune
from flows.parameters import FineTuneParams, ScoreParams
from flows.retrain import retrain
from flows.score import score
from tasks.connectors.child_process import ChildProcess
from tasks.connectors.object_store import ObjectStore
from tasks.connectors.seaweedfs import SeaweedFS, free_ports
from tasks.core.errors import StoreError
from tests.flows.test_retrain_and_score import params
from tests.reviews import jsonl, reviews
from tests.service.stack import wait_for

pytestmark = pytest.mark.prefect

POLICIES = Path(__file__).parents[2] / "deployments" / "policies"
BUCKET = "nightshift"
ROOT = f"s3://{BUCKET}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A server whose identities can be managed, with reviews in it."""
    folder = tmp_path_factory.mktemp("s3")
    program = SeaweedFS(folder, free_ports(1)[0])
    command = [*program.command, "-s3.iam.readOnly=false"]
    child = ChildProcess("SeaweedFS", command, program.environment, folder / "log", True)
    wait_for(lambda: not program.problem(), 60, "the server")
    store = program.store()
    store.make_bucket(BUCKET)
    store.write_bytes(jsonl(reviews(200, 0)), f"{ROOT}/labelled/train.jsonl")
    store.write_bytes(jsonl(reviews(60, 1)), f"{ROOT}/labelled/test.jsonl")
    store.write_bytes(b'{"id": 1, "text": "The plot was dull."}\n', f"{ROOT}/incoming/x.jsonl")
    yield program
    child.stop()
    program.clean_up()


def keys_of(server: SeaweedFS, worker: str) -> tuple[str, str]:
    """A new identity that may do what a policy says, and no more."""
    iam = boto3.client(
        "iam",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    iam.create_user(UserName=worker)
    key = iam.create_access_key(UserName=worker)["AccessKey"]
    policy = (POLICIES / f"{worker}.json").read_text().replace("BUCKET", BUCKET)
    iam.put_user_policy(UserName=worker, PolicyName=worker, PolicyDocument=policy)
    store = ObjectStore(server.endpoint_url, key["AccessKeyId"], key["SecretAccessKey"])

    def known() -> bool:
        try:
            return bool(store.list(f"{ROOT}/labelled"))
        except StoreError:
            return False

    wait_for(known, 30, "the policy to hold")
    return key["AccessKeyId"], key["SecretAccessKey"]


def become(monkeypatch: pytest.MonkeyPatch, server: SeaweedFS, keys: tuple[str, str]) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])


def test_each_worker_can_do_its_work_and_nothing_else(
    server: SeaweedFS, services: ObjectStore, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = keys_of(server, "cpu-worker")
    become(monkeypatch, server, cpu)
    done = retrain(params(bert, f"{ROOT}/labelled", "policies"))
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
    base, tokens = ("/".join(prepared[kind].split("/")[:6]) for kind in ("base-model", "tokens"))
    gpu = keys_of(server, "gpu-worker")
    become(monkeypatch, server, gpu)
    monkeypatch.setenv("NIGHTSHIFT_CHECKPOINT_SECONDS", "0")
    given = params(bert, "unused", "policies", training__seed=5)
    trained = fine_tune(
        FineTuneParams(
            tokens=tokens,
            base_model=base,
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
