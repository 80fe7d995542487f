"""What docs/security.md says of changing keys: an old one opens nothing, and the data stay."""

from pathlib import Path

import pytest

from tasks.connectors.servers.local_servers import LocalObjectStore
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import StoreError


def test_an_old_key_of_the_store_opens_nothing_once_it_was_changed(tmp_path: Path) -> None:
    first = LocalObjectStore(tmp_path)
    first.store().make_bucket("kept")
    first.store().write_bytes(b"here", "s3://kept/x")
    first.stop()
    (tmp_path / "credentials.json").unlink()
    second = LocalObjectStore(tmp_path)
    try:
        assert second.store().read_bytes("s3://kept/x") == b"here"
        old = ObjectStore(second.endpoint_url, first.access_key, first.secret_key)
        with pytest.raises(StoreError, match="InvalidAccessKeyId"):
            old.read_bytes("s3://kept/x")
    finally:
        second.stop()
