"""Manifests and references that somebody hostile has written: nothing is read or written where it should not be."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tasks.connectors.local_paths import path_below, require_names
from tasks.connectors.storage.artifacts import PreparedStore
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.digests import digest_of
from tasks.core.errors import StoreError
from tasks.core.records import Manifest, Reference
from tests.conftest import BUCKET


class Facts(BaseModel):
    rows: int = 1


LEAVING = [
    "/etc/passwd",
    "../escaped",
    "a/../../escaped",
    "a/./b",
    "",
    "a//b",
    "a/",
    "a\\..\\b",
    "line\nbreak",
    "\x1b[31mred",
    "right\u202eto-left",
    "nul\0",
    "x" * 300,
    "/".join(["deep"] * 400),
]


@pytest.fixture
def prepared(store: ObjectStore) -> PreparedStore:
    return PreparedStore(store, BUCKET)


@pytest.fixture
def manifest(prepared: PreparedStore, tmp_path: Path, request: pytest.FixtureRequest) -> Manifest:
    """Of a good folder with one file, which each test spoils in its own way."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    return prepared.commit("trust", {"test": request.node.name}, folder, Facts())


def spoil(prepared: PreparedStore, manifest: Manifest, **changed: Any) -> str:
    """Write a changed manifest in place of a good one; returns the folder's URI."""
    uri = prepared.uri(manifest.kind, manifest.digest)
    content = json.dumps(manifest.model_dump() | changed).encode()
    prepared.store.write_bytes(content, f"{uri}/manifest.json")
    return uri


@pytest.mark.parametrize("name", LEAVING)
def test_a_name_that_leaves_the_folder_is_refused(
    name: str, prepared: PreparedStore, manifest: Manifest, tmp_path: Path
) -> None:
    target = tmp_path / "deep" / "target"
    uri = spoil(prepared, manifest, files={name: manifest.files["a.txt"].model_dump()})
    with contextlib.suppress(StoreError):  # this store refuses some of these keys; others hold them
        prepared.store.write_bytes(b"a", f"{uri}/{manifest.attempt}/{name}")
    with pytest.raises(StoreError, match="file name"):
        prepared.fetch(uri, target)
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")}
    assert written == {"made", "made/a.txt"}
    with pytest.raises(StoreError, match="file name"):
        path_below(target, name, "here")


@pytest.mark.parametrize(
    "names", [["a.txt", "A.TXT"], ["a", "a/b"], ["caf\u00e9", "cafe\u0301"]], ids=str
)
def test_names_that_hide_each_other_are_refused(names: list[str]) -> None:
    with pytest.raises(StoreError):
        require_names(names, "here")


def test_names_of_the_world_are_good(tmp_path: Path) -> None:
    for name in ("sub/ä b.bin", "評論.parquet", "a..b", "...", ".hidden", "Vocab (1).txt"):
        assert path_below(tmp_path, name, "here") == tmp_path / name


def test_a_name_that_is_there_twice_is_refused(prepared: PreparedStore, manifest: Manifest) -> None:
    uri = prepared.uri(manifest.kind, manifest.digest)
    text = json.dumps(manifest.model_dump())
    file = json.dumps(manifest.files["a.txt"].model_dump())
    twice = text.replace('"a.txt":', f'"a.txt": {file}, "a.txt":')
    prepared.store.write_bytes(twice.encode(), f"{uri}/manifest.json")
    with pytest.raises(StoreError, match="Not a manifest"):
        prepared.read(uri)


def test_links_in_the_target_are_not_followed(
    prepared: PreparedStore, manifest: Manifest, tmp_path: Path
) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "target"
    elsewhere.mkdir()
    target.mkdir()
    uri = prepared.uri(manifest.kind, manifest.digest)
    (target / "a.txt").symlink_to(elsewhere / "a.txt")
    with pytest.raises(StoreError, match="Not a regular file"):
        prepared.fetch(uri, target)
    (target / "sub").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="A link"):
        path_below(target, "sub/b.txt", "here")
    assert not any(elsewhere.iterdir())


@pytest.mark.parametrize(
    "changed",
    [
        {"digest": "0" * 32},
        {"kind": "other"},
        {"inputs": {"test": "others"}},
        {"attempt": "../../tokens/x"},
        {"attempt": ""},
        {"inputs": {"test": float("nan")}},
        {"files": {"a.txt": {"bytes": -1, "sha256": "0" * 64}}},
        {"files": {"a.txt": {"bytes": 1, "sha256": "short"}}},
    ],
    ids=str,
)
def test_a_manifest_counts_only_at_its_own_address(
    changed: dict[str, Any], prepared: PreparedStore, manifest: Manifest, tmp_path: Path
) -> None:
    uri = spoil(prepared, manifest, **changed)
    with pytest.raises(StoreError, match=r"delete the folder"):
        prepared.read(uri)
    with pytest.raises(StoreError):
        prepared.fetch(uri, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "uri",
    [
        "s3://elsewhere/prepared/trust/" + "0" * 32,
        f"s3://{BUCKET}/incoming/trust/" + "0" * 32,
        f"s3://{BUCKET}/prepared/trust/../../incoming",
        f"s3://{BUCKET}/prepared/trust/" + "0" * 32 + "/deeper",
        f"s3://{BUCKET}/prepared/" + "0" * 32,
        "/etc",
        "",
    ],
)
def test_an_address_leads_only_to_the_own_bucket(
    uri: str, prepared: PreparedStore, tmp_path: Path
) -> None:
    for use in (prepared.read, lambda u: prepared.fetch(u, tmp_path)):
        with pytest.raises(StoreError, match=r"Not a prepared folder.*NIGHTSHIFT_BUCKET"):
            use(uri)
    made = Reference[Facts](
        kind="trust", uri=uri, digest="0" * 32, content="0" * 32, summary=Facts(), reused=True
    )
    with pytest.raises(StoreError, match="does not match its digest"):
        prepared.fetch(made, tmp_path)


def test_a_reference_pins_the_files(
    prepared: PreparedStore, manifest: Manifest, tmp_path: Path
) -> None:
    """Whoever may write the folder cannot replace what was judged before it is used."""
    made = prepared.refer(manifest, Facts, reused=False)
    prepared.fetch(made, tmp_path / "before")
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("b")
    prepared.commit(manifest.kind, manifest.inputs, other, Facts(), replace=True)
    with pytest.raises(StoreError, match="files of the prepared folder have changed"):
        prepared.fetch(made, tmp_path / "after")
    assert not (tmp_path / "after").exists()


def test_a_file_larger_than_its_manifest_says_is_not_fetched(
    prepared: PreparedStore, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = prepared.uri(manifest.kind, manifest.digest)
    prepared.store.write_bytes(b"a" * 1000, f"{uri}/{manifest.attempt}/a.txt")
    monkeypatch.setattr(ObjectStore, "download", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(StoreError, match="differs from its manifest"):
        prepared.fetch(uri, tmp_path / "out")


def test_a_huge_manifest_is_not_read(
    prepared: PreparedStore, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.connectors.storage.artifacts._LONGEST_MANIFEST", 100)
    with pytest.raises(StoreError, match="at most 100 are read"):
        prepared.read(prepared.uri(manifest.kind, manifest.digest))


def test_a_deep_manifest_is_refused(prepared: PreparedStore, manifest: Manifest) -> None:
    uri = prepared.uri(manifest.kind, manifest.digest)
    prepared.store.write_bytes(b"[" * 200_000, f"{uri}/manifest.json")
    with pytest.raises(StoreError, match="Not a manifest"):
        prepared.read(uri)


def test_foreign_objects_beside_the_folders_are_passed_over(
    prepared: PreparedStore, manifest: Manifest
) -> None:
    prepared.store.write_bytes(b"?", f"s3://{BUCKET}/prepared/trust/odd/manifest.json")
    assert manifest in prepared.all("trust")


def test_the_digest_of_inputs_survives_the_store(prepared: PreparedStore, tmp_path: Path) -> None:
    """Numbers, texts and order come back as they were, or no folder would be found again."""
    inputs = {"b": [1, 1.0, 1e-05, 1e22, -0.0, 0.1], "a": {"ä": None, "€\n": True}, "big": 2**70}
    tmp_path.joinpath("x").write_text("x")
    made = prepared.commit("trust", inputs, tmp_path, Facts())
    assert made.digest == digest_of(inputs)
    assert prepared.find("trust", inputs) == made
