"""Which settings mean that S3 is somebody's own, and what a wrong one says."""

from pathlib import Path

import pytest

from tasks.core.errors import SettingsError
from tasks.score_summary import place_link
from tasks.settings import read_settings


def test_nothing_configured_means_embedded() -> None:
    assert read_settings().embeds_object_store


@pytest.mark.parametrize(
    "variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"]
)
def test_configured_s3_is_used(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://localhost:1")
    assert not read_settings().embeds_object_store
    monkeypatch.setenv("NIGHTSHIFT_OBJECT_STORE", "embedded")
    assert read_settings().embeds_object_store


def test_a_credentials_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("[default]\n", encoding="utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert not read_settings().embeds_object_store


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "")
    monkeypatch.setenv("PREFECT_API_URL", "")
    settings = read_settings()
    assert settings.embeds_object_store and settings.prefect_api_url is None


def test_pages_of_the_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary links to predictions where somebody can open them, and names them elsewhere."""
    assert place_link("s3://b/out") == "`s3://b/out/`", "embedded: there is no page"
    monkeypatch.setenv("AWS_PROFILE", "any")
    assert "https://s3.console.aws.amazon.com/s3/buckets/b?prefix=a%20b/" in place_link(
        "s3://b/a b"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:1")
    assert place_link("s3://b/out") == "`s3://b/out/`"
    monkeypatch.setenv("NIGHTSHIFT_STORE_PAGE", "https://minio/browser/{bucket}/{prefix}")
    assert place_link("s3://b/out") == "[s3://b/out/](<https://minio/browser/b/out/>)"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NIGHTSHIFT_STORE_PAGE", "minio"),
        ("NIGHTSHIFT_S3_PORT", "99999"),
        ("NIGHTSHIFT_BUCKET", "My Bucket"),
        ("NIGHTSHIFT_OBJECT_STORE", "s3"),
    ],
)
def test_a_wrong_setting_is_named(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=rf"{value}.*\[{variable}\]"):
        read_settings()
