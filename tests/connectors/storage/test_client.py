"""boto3's own settings win; a store that refuses checksums gets none, one that insists on them gets them.

The refusals are those of a server between boto3 and a real store, which looks at the headers of each write.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.connectors.servers.local_servers import LocalObjectStore
from tasks.connectors.storage import client, conditional_writes
from tasks.connectors.storage.conditional_reads import FINGERPRINT
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import SettingsError, StoreError
from tests.connectors.storage.checksum_servers import Answer, Between, insists, refuses


@pytest.fixture
def between(
    s3: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Answer], Between]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    monkeypatch.setattr(client, "_refusing", set())
    monkeypatch.setattr(conditional_writes, "_ONE_REQUEST_BYTES", 1 << 20)
    monkeypatch.setattr(conditional_writes, "_PART_BYTES", 5 << 20)
    started: list[Between] = []

    def start(answer: Answer) -> Between:
        started.append(Between(s3, answer))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def write_in_every_way(endpoint_url: str, prefix: str, folder: Path) -> ObjectStore:
    """Small and large, whole and in parts."""
    store = ObjectStore(endpoint_url)
    objects = ExactObjects(store)
    large = folder / "large"
    large.write_bytes(b"0123456789" * 1_200_000)
    store.write_bytes(b"small", f"{prefix}/small")
    store.upload(large, f"{prefix}/large")
    marked = {FINGERPRINT: "f"}
    assert objects.write(b"exact", f"{prefix}/exact", marked, None)
    assert objects.write(large, f"{prefix}/parts", marked, None)
    store.probe(prefix)
    for name, content in (
        ("small", b"small"),
        ("exact", b"exact"),
        ("large", None),
        ("parts", None),
    ):
        assert store.read_bytes(f"{prefix}/{name}") == (content or large.read_bytes())
    return store


def test_checksums_are_sent_as_boto3_does(
    between: Callable[[Answer], Between], prefix: str, tmp_path: Path
) -> None:
    """So that a bucket with Object Lock takes every write."""
    server = between(insists)
    write_in_every_way(server.endpoint_url, prefix, tmp_path)
    assert server.refused == 0


def test_a_store_that_refuses_checksums_gets_none_from_then_on(
    between: Callable[[Answer], Between], prefix: str, tmp_path: Path
) -> None:
    server = between(refuses)
    write_in_every_way(server.endpoint_url, prefix, tmp_path)
    assert server.refused == 1, "it is remembered"
    ObjectStore(server.endpoint_url).write_bytes(b"more", f"{prefix}/more")
    assert server.refused == 1, "by this process, not by one client"


@pytest.mark.parametrize("by", ["variable", "file"])
def test_what_people_say_of_checksums_holds(
    between: Callable[[Answer], Between],
    prefix: str,
    by: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strict, old = between(insists), between(refuses)

    def say(value: str) -> None:
        if by == "variable":
            monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", value)
        else:
            (tmp_path / "config").write_text(f"[default]\nrequest_checksum_calculation = {value}\n")
            monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    say("when_required")
    write_in_every_way(old.endpoint_url, prefix, tmp_path)
    assert old.refused == 0
    with pytest.raises(StoreError, match=r"InvalidRequest.*unset AWS_REQUEST_CHECKSUM_CALCULATION"):
        ObjectStore(strict.endpoint_url).write_bytes(b"x", f"{prefix}/x")
    say("when_supported")
    with pytest.raises(StoreError, match="NotImplemented"):
        ObjectStore(old.endpoint_url).write_bytes(b"x", f"{prefix}/x")


def test_a_refusal_for_another_reason_is_told_as_it_is(
    between: Callable[[Answer], Between], prefix: str
) -> None:
    def full(method: str, _headers: dict[str, str]) -> tuple[int, str, str] | None:
        return (400, "QuotaExceeded", "full") if method == "PUT" else None

    server = between(full)
    with pytest.raises(StoreError, match=r"QuotaExceeded.*ask for a larger quota"):
        ObjectStore(server.endpoint_url).write_bytes(b"x", f"{prefix}/x")
    assert str(server.endpoint_url) not in client._refusing


def test_boto3s_other_settings_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    usual: Any = ObjectStore("http://store:9").client.meta.config
    assert usual.retries == {"mode": "standard", "total_max_attempts": 8}
    assert usual.s3 == {"addressing_style": "path"} and usual.region_name == "us-east-1"
    assert usual.request_checksum_calculation == "when_supported"
    (tmp_path / "config").write_text(
        "[default]\nretry_mode = adaptive\nregion = eu-west-1\ns3 =\n    addressing_style = virtual\n"
        "[profile other]\nmax_attempts = 3\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    chosen: Any = ObjectStore("http://store:9").client.meta.config
    assert chosen.retries["mode"] == "adaptive" and chosen.region_name == "eu-west-1"
    assert chosen.s3["addressing_style"] == "virtual"
    assert chosen.response_checksum_validation == "when_required"
    monkeypatch.setenv("AWS_PROFILE", "other")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    other: Any = ObjectStore("http://store:9").client.meta.config
    assert other.retries["total_max_attempts"] == 2, "a variable before a file"
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    other = ObjectStore("http://store:9").client.meta.config
    assert other.retries["total_max_attempts"] == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_MAX_ATTEMPTS", "many"),
        ("AWS_PROFILE", "of-nobody"),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "always"),
        ("AWS_CONFIG_FILE", "garbled"),
    ],
)
def test_settings_that_boto3_refuses_are_a_sentence(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable == "AWS_CONFIG_FILE":
        (tmp_path / "garbled").write_text("no section\n")
        value = str(tmp_path / "garbled")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match="boto3 refuses its settings"):
        ObjectStore("http://store:9")


def test_a_server_of_our_own_has_nothing_to_do_with_profiles(
    s3: LocalObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of-nobody")
    s3.store().probe(prefix)
