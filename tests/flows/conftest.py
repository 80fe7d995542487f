"""A night of reviews in all formats, and the four object stores on which scoring keeps its promises."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks.faults import worker
from benchmarks.faults.delivered import Delivered
from tasks.connectors.storage.object_store import ObjectStore
from tasks.scoring.verification import verify_run
from tests import stores
from tests.stores import OtherStore


class Night(Delivered):
    """Reviews, and questions that tests ask of their predictions."""

    def check(self, done: bool = True, failed: bool = False) -> None:
        """Nothing lost, doubled or mixed."""
        verdict = self.verdict(done, failed)
        assert not verdict.counts, verdict.first

    def rows(self, name: str) -> list[dict[str, Any]] | None:
        """Predictions of an object of JSON lines; None where there are none."""
        content = self.store.read_bytes(f"{self.root}/{name}")
        return None if content is None else [json.loads(line) for line in content.splitlines()]

    def rejects(self, name: str) -> list[dict[str, Any]] | None:
        """Rejected rows that belong to the predictions that are there."""
        bucket, _, root = self.root.removeprefix("s3://").partition("/")
        head = self.store.client.head_object(Bucket=bucket, Key=f"{root}/{name}")
        return self.rows(f"_rejected/{name}.{head['Metadata']['fingerprint'][:12]}.jsonl")

    def verified(self, run: str, **changed: Any) -> bool:
        """What `verify` says of a run."""
        return verify_run.fn(self.draft(run, **changed).place).complete

    def etags(self) -> dict[str, str]:
        found = self.store.scan(self.root)
        return {o.uri.removeprefix(self.root + "/"): o.etag for o in found if "/_" not in o.uri}


#: What these show on SeaweedFS, moto shows again in `make test-all`; the others of `test_success` have both.
_ON_ONE_STORE = (
    "test_exactly_once.py",
    "test_overlaps.py",
    "test_success.py::test_held_before_any_request_of_its_end",
    "test_success.py::test_a_race_of_make_races",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if f"{item.path.name}::{item.name}".startswith(_ON_ONE_STORE) and "[moto" in item.name:
            item.add_marker(pytest.mark.slow)


_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("ceph", "swift")]


@pytest.fixture(scope="session")
def other_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], OtherStore]]:
    """Servers of Debian's packages, started when they are first asked for."""
    started: dict[str, OtherStore] = {}

    def server(name: str) -> OtherStore:
        if packages := stores.missing(name):
            pytest.skip(f"apt-get install --no-install-recommends {packages}")
        if name not in started:
            started[name] = stores.start(name, tmp_path_factory.mktemp(name))
        return started[name]

    yield server
    for one in started.values():
        one.stop()


@pytest.fixture(params=["seaweedfs", "moto", *_SLOW])
def object_store(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    other_stores: Callable[[str], OtherStore],
) -> Iterator[ObjectStore]:
    """The same promises on four servers; moto keeps all in memory, and conditions it keeps to the letter."""
    if request.param == "seaweedfs":
        yield request.getfixturevalue("configured")
    elif request.param == "moto":
        with _moto() as endpoint_url:
            yield _configured(monkeypatch, endpoint_url, "any", "any")
    else:
        server = other_stores(request.param)
        yield _configured(monkeypatch, server.endpoint_url, server.access_key, server.secret_key)


@contextlib.contextmanager
def _moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def _configured(
    monkeypatch: pytest.MonkeyPatch, endpoint_url: str, access_key: str, secret_key: str
) -> ObjectStore:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
    store = ObjectStore(endpoint_url, access_key, secret_key)
    store.make_bucket("nightshift")
    return store


@pytest.fixture
def empty_night(object_store: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Night:
    for module, names in ((worker.sharding, ("SHARD_BYTES", "SHARD_OBJECTS", "BUNDLE_BYTES")),):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(worker.planning, "SHARD_BYTES", 0)
    monkeypatch.setattr(worker.shards, "_loaded", None)
    worker.small_shards()
    worker.use_text_model()
    return Night(object_store, prefix, seed=5)


@pytest.fixture
def night(empty_night: Night) -> Night:
    """Small objects and large ones, of all formats."""
    made = empty_night
    for number in range(9):
        made.deliver(f"{number:02}.{('jsonl', 'csv', 'parquet')[number % 3]}", 20)
    made.deliver("large.jsonl", 400)
    made.deliver("large.csv", 400)
    made.deliver("large.parquet", 4000)
    return made
