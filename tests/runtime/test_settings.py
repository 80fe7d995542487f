"""Which settings mean that S3 is somebody's own, and what a wrong one says."""

from pathlib import Path

import pytest

from tasks.core.errors import SettingsError
from tasks.runtime.settings import read_settings
from tasks.scoring.summary import place_link


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


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("NIGHTSHIFT_BUKET", "b", r"no such setting .*did you mean NIGHTSHIFT_BUCKET\?"),
        ("nightshift_home_", "b", r"no such setting .*did you mean NIGHTSHIFT_HOME\?"),
        ("NIGHTSHIFT_XYZZY", "", r"no such setting .*README"),
        ("NIGHTSHIFT_BUCKET", "Reviews", "'Reviews' is not the name of a bucket"),
        ("NIGHTSHIFT_TRAINING_DEPLOYMENT", "fine-tune", "'fine-tune' is not of the form flow/dep"),
        ("NIGHTSHIFT_TRAINING_RENDEZVOUS", "host", "'host' is not of the form host:port"),
        ("NIGHTSHIFT_NOTIFICATION_BLOCK", "slack", "'slack' is not of the form type/name"),
        (
            "NIGHTSHIFT_MLFLOW_PORT",
            "tcp://10.0.0.1:5000",
            "Kubernetes sets for.*enableServiceLinks",
        ),
        ("NIGHTSHIFT_HOME", "/tmp/a?b", r"contains a \?"),
        ("AWS_ENDPOINT_URL_S3", "htp//x", "Not the address of an S3 server.*http://host:port"),
        ("AWS_ENDPOINT_URL_S3", "http://", "Not the address of an S3 server"),
        ("AWS_ENDPOINT_URL", "http://host:port", "Not the address of an S3 server"),
        ("MLFLOW_TRACKING_URI", "localhost:5000", "Not the address of an MLflow server"),
        ("MLFLOW_TRACKING_URI", "mlruns", "Not the address of an MLflow server"),
        ("MLFLOW_TRACKING_URI", "http:/x", "Not the address of an MLflow server"),
        ("PREFECT_API_URL", "localhost:4200/api", "Not the address of a Prefect server"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=message):
        read_settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NIGHTSHIFT_WORKER_SERVICE_HOST", "10.0.0.1"),
        ("NIGHTSHIFT_PREFECT_SERVER_PORT", "tcp://10.0.0.1:4200"),
        ("NIGHTSHIFT_PREFECT_SERVER_PORT_4200_TCP_ADDR", "10.0.0.1"),
        ("NIGHTSHIFT_S3_SERVICE_PORT_HTTP", "9000"),
        ("MLFLOW_TRACKING_URI", "postgresql://db/mlflow"),
        ("MLFLOW_TRACKING_URI", "databricks"),
        ("NIGHTSHIFT_BUCKET", "arn:aws:s3:eu-west-1:123456789012:accesspoint/reviews"),
        ("AWS_ENDPOINT_URL_S3", "http://[::1]:9000"),
    ],
)
def test_what_others_set_is_no_mistake(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    read_settings()


def test_a_home_that_is_a_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for below in ("file", "file/home"):
        monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path / below))
        with pytest.raises(SettingsError, match="file' is a file, not a folder"):
            read_settings()


def test_no_home_folder_is_no_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for an account of a container that the machine does not know."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    monkeypatch.setattr("pwd.getpwuid", _unknown)
    assert read_settings().embeds_object_store
    monkeypatch.setenv("NIGHTSHIFT_HOME", "~/nightshift")
    with pytest.raises(SettingsError, match="set HOME, or write the whole path"):
        read_settings()


def _unknown(_number: int) -> None:
    raise KeyError
