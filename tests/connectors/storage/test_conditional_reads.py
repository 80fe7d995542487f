"""Reading one version of an object piece by piece, on a real server: any reads give the bytes that plain ones give."""

import io
import random
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tasks.connectors.storage import conditional_reads
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectInfo, ObjectStore
from tasks.core.errors import (
    ForbiddenDataError,
    OverwrittenError,
    StoreError,
    StoreUnavailableError,
)

SIZE = 300_000


@pytest.fixture
def item(store: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch) -> ObjectInfo:
    """An object of several chunks."""
    monkeypatch.setattr(conditional_reads, "_CHUNK_BYTES", 20_000)
    monkeypatch.setattr(conditional_reads, "_BUFFER_BYTES", 4_000)
    store.write_bytes(random.Random(0).randbytes(SIZE), f"{prefix}/large")
    return store.list(f"{prefix}/large")[0]


@pytest.mark.parametrize("bounds", [(0, None), (123, 250_001), (100, 130)])
@pytest.mark.parametrize("at_once", [True, False])
def test_any_reads(
    store: ObjectStore, item: ObjectInfo, bounds: tuple[int, int | None], at_once: bool
) -> None:
    content = (store.read_bytes(item.uri) or b"")[slice(*bounds)]
    rng, plain = random.Random(1), io.BytesIO(content)
    with ExactObjects(store).open(item, *bounds, small_at_once=at_once) as stream:
        for _ in range(150):
            if rng.random() < 0.3:
                to = rng.randrange(len(content) + 1)
                assert stream.seek(to) == plain.seek(to)
            size = rng.choice([1, 50, 5_000, 25_000])
            assert stream.read(size) == plain.read(size)
        assert stream.seek(-10, io.SEEK_END) == plain.seek(-10, io.SEEK_END)
        assert stream.read() == plain.read()


def test_few_requests(
    store: ObjectStore, item: ObjectInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small reads one after the other cost a request a chunk."""
    objects, asked = ExactObjects(store), list[int]()
    original = objects.range

    def counted(item: ObjectInfo, start: int, end: int) -> bytes:
        asked.append(end - start)
        return original(item, start, end)

    monkeypatch.setattr(objects, "range", counted)
    with objects.open(item) as stream:
        while stream.read(1_000):
            pass
    assert asked == [20_000] * (SIZE // 20_000)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "KMS.DisabledException", ForbiddenDataError),
        (400, "KMS.NotFoundException", ForbiddenDataError),
        (403, "AccessDenied", ForbiddenDataError),
        (403, "InvalidObjectState", ForbiddenDataError),
        (400, "ExpiredToken", StoreError),
        (403, "RequestTimeTooSkewed", StoreError),
        (403, "SignatureDoesNotMatch", StoreError),
        (429, "TooManyRequests", StoreError),
        (503, "SlowDown", StoreUnavailableError),
    ],
)
def test_a_refusal_of_one_object_is_told_from_one_of_all(
    store: ObjectStore,
    item: ObjectInfo,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    expected: type[Exception],
) -> None:
    said: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def refusing(**_: Any) -> Any:
        raise ClientError(said, "GetObject")

    monkeypatch.setattr(store.client, "get_object", refusing)
    with pytest.raises(expected) as raised:
        ExactObjects(store).range(item, 0, 10)
    assert raised.type is expected


def test_overwritten_between_two_reads(store: ObjectStore, item: ObjectInfo) -> None:
    with ExactObjects(store).open(item) as stream:
        assert stream.read(10)
        store.write_bytes(b"other" * SIZE, item.uri)
        with pytest.raises(OverwrittenError, match="after it had been listed"):
            stream.read()
