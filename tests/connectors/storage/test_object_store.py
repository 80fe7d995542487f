"""The object store on a real S3 server: round trips, listings, and what each refusal says."""

import os
from pathlib import Path

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from tasks.connectors.servers.local_servers import LocalObjectStore
from tasks.connectors.storage.artifacts import PreparedStore
from tasks.connectors.storage.object_store import ObjectStore, parse_uri
from tasks.core.errors import (
    MissingDataError,
    OverwrittenError,
    SettingsError,
    StoreError,
    StoreUnavailableError,
)
from tasks.core.training.records import BaseModelSummary

SUMMARY = BaseModelSummary(name="n", revision="r", architecture="bert", parameters=1)


def test_what_is_written_is_read(store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(9_000_000))  # more than one part
    store.upload(tmp_path / "a", f"{prefix}/deep/ä b.bin")
    store.download(f"{prefix}/deep/ä b.bin", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    store.write_bytes(b"small", f"{prefix}/small")
    (found,) = [i for i in store.list(prefix) if i.size == 5]
    with store.open(found) as stream:
        assert stream.read() == b"small"
    store.delete(found.uri)
    store.delete(found.uri)  # once more does no harm
    assert store.read_bytes(found.uri) is None


def test_listings_are_sorted_and_do_not_take_in_neighbours(store: ObjectStore, prefix: str) -> None:
    for key in ("day/b", "day/B", "day/a/1", "day-old/x", "day/"):
        store.write_bytes(b"" if key.endswith("/") else b"1", f"{prefix}/{key}")
    names = [i.uri.removeprefix(f"{prefix}/") for i in store.list(f"{prefix}/day")]
    assert names == ["day/B", "day/a/1", "day/b"]


def test_an_object_overwritten_after_listing_is_refused(store: ObjectStore, prefix: str) -> None:
    store.write_bytes(b"one", f"{prefix}/a")
    (item,) = store.list(prefix)
    store.write_bytes(b"two", f"{prefix}/a")
    with pytest.raises(OverwrittenError, match="overwritten"), store.open(item):
        pass


def test_nothing_there(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(
        MissingDataError, match=r"No object there \[s3://nightshift/.*check the prefix"
    ):
        store.list(f"{prefix}/none")


def test_no_such_bucket(store: ObjectStore) -> None:
    for call in (store.list, store.probe):
        with pytest.raises(
            MissingDataError, match=r"No such bucket \[s3://not-made/.*create the bucket 'not-made'"
        ):
            call("s3://not-made/x")


def test_wrong_credentials(s3: LocalObjectStore) -> None:
    for pair in ((s3.access_key, "wrong"), ("wrong", s3.secret_key)):
        with pytest.raises(StoreError, match=r"refused.*AWS_SECRET_ACCESS_KEY") as caught:
            ObjectStore(s3.endpoint_url, *pair).list("s3://nightshift/x")
        assert s3.secret_key not in str(caught.value)


def test_no_credentials(s3: LocalObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match=r"NoCredentialsError.*AWS_ACCESS_KEY_ID"):
        ObjectStore(s3.endpoint_url).list("s3://nightshift/x")


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="http://127.0.0.1:9"),
        ConnectTimeoutError(endpoint_url="http://127.0.0.1:9"),
        ReadTimeoutError(endpoint_url="http://127.0.0.1:9"),
        ConnectionClosedError(endpoint_url="http://127.0.0.1:9"),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_store_that_does_not_answer_is_away(store: ObjectStore, error: Exception) -> None:
    """And what is away is tried again."""
    with (
        pytest.raises(StoreUnavailableError, match="is reachable"),
        store.translate_errors("reading", "s3://b/x"),
    ):
        raise error


@pytest.mark.slow  # eight attempts with pauses
def test_nobody_there() -> None:
    with pytest.raises(StoreUnavailableError, match=r"check that http://127.0.0.1:9 is reachable"):
        ObjectStore("http://127.0.0.1:9", "a", "b").list("s3://nightshift/x")


@pytest.mark.parametrize("uri", ["nightshift/x", "s3:/x", "s3://", "http://bucket/x"])
def test_not_an_s3_uri(uri: str) -> None:
    with pytest.raises(SettingsError, match="s3://bucket/prefix"):
        parse_uri(uri, "input")


@pytest.fixture
def prepared(store: ObjectStore) -> PreparedStore:
    return PreparedStore(store, "nightshift")


def made(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    return folder


def test_a_prepared_folder_is_found_by_its_inputs(prepared: PreparedStore, tmp_path: Path) -> None:
    inputs = {"test": "found", "n": 1}
    assert prepared.find("thing", inputs) is None
    manifest = prepared.commit("thing", inputs, made(tmp_path / "in"), SUMMARY)
    assert (
        prepared.find("thing", inputs) == manifest
        and prepared.find("thing", inputs | {"n": 2}) is None
    )
    prepared.fetch(prepared.uri("thing", manifest.digest), tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "b.txt").read_text() == "b"
    prepared.fetch(prepared.uri("thing", manifest.digest), tmp_path / "one", "a.txt")
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["a.txt"]


def test_changed_content_is_noticed(prepared: PreparedStore, tmp_path: Path) -> None:
    manifest = prepared.commit("thing", {"test": "changed"}, made(tmp_path / "in"), SUMMARY)
    uri = prepared.uri("thing", manifest.digest)
    prepared.store.write_bytes(b"tampered", f"{uri}/{manifest.attempt}/a.txt")
    with pytest.raises(StoreError, match=r"differs from its manifest.*delete"):
        prepared.fetch(uri, tmp_path / "out")
    assert not (tmp_path / "out" / "a.txt").exists()
    prepared.store.delete(f"{uri}/{manifest.attempt}/a.txt")
    with pytest.raises(StoreError, match=r"is gone.*delete"):
        prepared.fetch(uri, tmp_path / "out")


def test_two_workers_may_make_the_same_folder(prepared: PreparedStore, tmp_path: Path) -> None:
    """The first manifest holds: what a reference pins is not replaced by another's attempt."""
    folder = made(tmp_path / "in")
    first = prepared.commit("twice", {"test": "twice"}, folder, SUMMARY)
    (folder / "a.txt").write_text("other bytes")  # training on another processor, say
    assert prepared.commit("twice", {"test": "twice"}, folder, SUMMARY) == first
    uri = prepared.uri("twice", first.digest)
    prepared.fetch(uri, tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_text() == "a"
    assert len(prepared.store.list(uri)) == 3  # of the second attempt nothing is left
    other = prepared.commit("twice", {"test": "twice"}, folder, SUMMARY, replace=True)
    assert other.attempt != first.attempt and prepared.read(uri) == other


def test_a_failed_commit_leaves_nothing(
    prepared: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = prepared.store.upload

    def failing(path: Path, uri: str) -> None:
        if path.name == "b.txt":
            raise StoreError("the store is full", uri)
        upload(path, uri)

    monkeypatch.setattr(prepared.store, "upload", failing)
    with pytest.raises(StoreError, match="full"):
        prepared.commit("broken", {"test": "failed"}, made(tmp_path / "in"), SUMMARY)
    with pytest.raises(MissingDataError):
        prepared.store.list("s3://nightshift/prepared/broken")


def test_gone_or_foreign(prepared: PreparedStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="gone"):
        prepared.fetch(prepared.uri("thing", "0" * 32), tmp_path)
    odd = prepared.uri("thing", "1" * 32)
    prepared.store.write_bytes(b'{"kind": 1}', f"{odd}/manifest.json")
    with pytest.raises(StoreError, match="The manifest has another format"):
        prepared.read(odd)


def test_a_prepared_folder_that_lost_a_file_is_made_again(
    prepared: PreparedStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has removed an object by hand: the manifest alone is not the folder."""
    inputs = {"of": "a folder that lost a file"}
    first = prepared.commit("lost", inputs, made(tmp_path / "in"), SUMMARY)
    uri = prepared.uri("lost", first.digest)
    assert prepared.find("lost", inputs) == first
    prepared.store.delete(f"{uri}/{first.attempt}/a.txt")
    assert prepared.find("lost", inputs) is None and f"{first.attempt}/a.txt" in caplog.text
    with pytest.raises(MissingDataError, match="No complete prepared folder"):
        prepared.reference(uri, type(SUMMARY))
    second = prepared.commit("lost", inputs, tmp_path / "in", SUMMARY)
    assert prepared.find("lost", inputs) == second != first
    prepared.fetch(uri, tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_text() == "a"
    prepared.store.write_bytes(b"torn off", f"{uri}/{second.attempt}/a.txt")
    assert prepared.find("lost", inputs) is None
