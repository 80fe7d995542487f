"""A file of checks is read only as far as such a file may be long."""

from pathlib import Path

import pytest

from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import SettingsError, StoreError
from tasks.core.evaluation.behaviour.files import MAX_BYTES, load_checks
from tasks.core.evaluation.behaviour.params import BehaviourParams
from tasks.evaluation import behavioural_tests


def test_the_wrong_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # it takes no room on the disk
    content = behavioural_tests.read_checks(BehaviourParams(checks=str(path)))
    assert content and len(content) == MAX_BYTES + 1
    with pytest.raises(SettingsError, match="larger than 1,000,000 bytes"):
        load_checks(content, "checks.yaml")


def test_the_wrong_object_is_not_read(
    store: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behavioural_tests, "object_store", lambda: store)
    params = BehaviourParams(checks=f"{prefix}/checks.yaml")
    store.write_bytes(b"checks: []", params.checks)
    assert behavioural_tests.read_checks(params) == b"checks: []"
    store.write_bytes(b" " * (MAX_BYTES + 1), params.checks)
    with pytest.raises(StoreError, match=r"has 1,000,001 bytes; at most 1,000,000 .*checks\.yaml"):
        behavioural_tests.read_checks(params)
