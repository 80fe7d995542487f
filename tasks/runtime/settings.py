"""Settings of the installation. Only this module reads them from the environment. Parameters of a run are not here.

| variable                       | default      | meaning |
|--------------------------------|--------------|---|
| NIGHTSHIFT_HOME                | .nightshift  | where the embedded servers keep their data |
| NIGHTSHIFT_BUCKET              | nightshift   | bucket for prepared data (and the demo's reviews) |
| NIGHTSHIFT_OBJECT_STORE        | auto         | embedded, external, or auto: external when S3 is configured below |
| NIGHTSHIFT_S3_PORT             | any free one | of the embedded S3 server |
| NIGHTSHIFT_PREFECT_PORT        | any free one | of the embedded Prefect server and its UI |
| NIGHTSHIFT_MLFLOW_PORT         | any free one | of the MLflow server that `make up` starts, and its UI |
| NIGHTSHIFT_EXPERIMENT          | nightshift   | MLflow experiment |
| NIGHTSHIFT_TRAINING_DEPLOYMENT |              | deployment that trains, on its own pool; empty: in this process |
| NIGHTSHIFT_TRAINING_NODES      | 1            | machines that train one model together; their TMPDIR is shared |
| NIGHTSHIFT_TRAINING_RENDEZVOUS |              | host:port of one of them, where they meet (torchrun) |
| NIGHTSHIFT_CHECKPOINT_SECONDS  | 300          | how often a training keeps a checkpoint in the object store |
| NIGHTSHIFT_GPU_WORKER_ON_CPU   | false        | a worker of the gpu pool may start on a machine without a GPU |
| NIGHTSHIFT_NOTIFICATION_BLOCK  |              | Prefect block told of failures, such as slack-webhook/on-call |
| NIGHTSHIFT_SCORING_DEPLOYMENT  |              | deployment whose runs share a scoring run with several workers |
| NIGHTSHIFT_STUDY_DATABASE      |              | SQLAlchemy URL of the sweeps; empty: a file in NIGHTSHIFT_HOME |
| NIGHTSHIFT_TASK_RUNNER         | none         | ray or dask: share it there instead (extras of the same names) |
| NIGHTSHIFT_TASK_RUNNER_ADDRESS |              | of a Ray or Dask cluster; empty: one on this machine |
| NIGHTSHIFT_STORE_PAGE          |              | page of your store with {bucket} and {prefix} in it; AWS has one |
| NIGHTSHIFT_TRUSTED_NETWORK     | false        | servers beyond this machine may be used without a password |
| AWS_ENDPOINT_URL_S3            |              | an S3 server of yours; all else as boto3 finds it |
| MLFLOW_TRACKING_URI            |              | an MLflow server of yours |
| PREFECT_API_URL                |              | a Prefect server of yours |
"""

import difflib
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, ValidationInfo, field_validator
from pydantic import ValidationError as PydanticError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core.errors import SettingsError
from tasks.core.parsing.patterns import (
    BLOCK,
    BUCKET_NAME,
    DEPLOYMENT,
    NOT_OF_SHAPE,
    RENDEZVOUS,
    STORE_PAGE,
)

# Variables that show that boto3 will find credentials. Instance roles are not checked, which would need the network.
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)

_PREFIX = "NIGHTSHIFT_"
# Kubernetes sets such service variables in every pod: a service nightshift-mlflow gives NIGHTSHIFT_MLFLOW_PORT.
_OF_A_SERVICE = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$")
_URL_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://")

_ADDRESSES = {
    "s3_endpoint_url": (
        "AWS_ENDPOINT_URL_S3",
        "an S3 server",
        "write http://host:port or https://host",
    ),
    "mlflow_tracking_uri": (
        "MLFLOW_TRACKING_URI",
        "an MLflow server",
        "write http://host:port, https://host or sqlite:////folder/mlflow.db",
    ),
    "prefect_api_url": (
        "PREFECT_API_URL",
        "a Prefect server",
        "write http://host:port/api or https://host/api",
    ),
}
_OTHER_TRACKING = re.compile(r"databricks|(?!https?:)[a-z][a-z0-9+.-]*://")

# For every process that computes. By default the OpenMP threads of torch spin while they wait for work, so two runs on
# one machine take the cores from each other. OpenMP reads the variable once, when it is loaded.
SLEEPING_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
QUIET_LIBRARIES = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def quiet_libraries() -> None:
    """Set the environment so that libraries that are imported later show no progress bars and log errors only."""
    for name, value in QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)


def go_past_proxies_to_loopback() -> None:
    """Exclude this machine from the proxy, if one is set.

    A proxy is another machine with another loopback. The variables apply to this process and its children: boto3,
    requests (MLflow), httpx (Prefect) and urllib read them. If no proxy is set they stay unchanged, as on macOS any of
    them would override the system's proxies.
    """
    if not any(name.lower() in _PROXIES and value for name, value in os.environ.items()):
        return
    listed = f"{os.environ.get('no_proxy', '')},{os.environ.get('NO_PROXY', '')}"
    names = list(dict.fromkeys(filter(None, map(str.strip, listed.split(",")))))
    if "*" not in names:
        joined = ",".join(dict.fromkeys([*names, *_LOOPBACK]))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = joined


class Settings(BaseSettings):
    """The settings in the table of this module's docstring."""

    model_config = SettingsConfigDict(
        env_prefix="NIGHTSHIFT_", populate_by_name=True, env_ignore_empty=True, frozen=True
    )

    home: Path = Path(".nightshift")
    bucket: Annotated[str, BUCKET_NAME] = "nightshift"
    object_store: Literal["auto", "embedded", "external"] = "auto"
    s3_port: int | None = Field(default=None, ge=1, le=65535)
    prefect_port: int | None = Field(default=None, ge=1, le=65535)
    mlflow_port: int | None = Field(default=None, ge=1, le=65535)
    experiment: str = Field(default="nightshift", min_length=1)
    training_deployment: Annotated[str, DEPLOYMENT] = ""
    training_nodes: int = Field(default=1, ge=1, le=1000)
    training_rendezvous: Annotated[str, RENDEZVOUS] = ""
    checkpoint_seconds: float = Field(default=300.0, ge=0)
    gpu_worker_on_cpu: bool = False
    notification_block: Annotated[str, BLOCK] = ""
    scoring_deployment: Annotated[str, DEPLOYMENT] = ""
    study_database: str = ""
    task_runner: Literal["none", "ray", "dask"] = "none"
    task_runner_address: str = ""
    store_page: Annotated[str, STORE_PAGE] = ""
    trusted_network: bool = False
    s3_endpoint_url: str | None = Field(
        default=None, validation_alias=AliasChoices("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    )
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    prefect_api_url: str | None = Field(default=None, validation_alias="PREFECT_API_URL")

    @field_validator("home")
    @classmethod
    def _is_a_folder(cls, home: Path) -> Path:
        """Check the folder and make its path absolute, as flows may run in other folders."""
        variable = f"{_PREFIX}HOME"
        try:
            home = home.expanduser().absolute()
        except RuntimeError:
            raise SettingsError(
                f"There is no home folder to replace the ~ in {str(home)!r}",
                variable,
                "set HOME, or write the whole path",
            ) from None
        if "?" in str(home):
            raise SettingsError(
                f"{str(home)!r} contains a ?, which would end the URL of a database",
                variable,
                "name a folder without one",
            )
        for path in (home, *home.parents):
            if _is_no_folder(path):
                raise SettingsError(
                    f"{str(path)!r} is a file, not a folder", variable, "name another"
                )
        return home

    @field_validator("s3_endpoint_url", "prefect_api_url", "mlflow_tracking_uri")
    @classmethod
    def _is_an_address(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None and not (info.field_name == "prefect_api_url" and "@" in url):
            _require_address(url, str(info.field_name))  # an @ is reported elsewhere
        return url

    @property
    def study_database_url(self) -> str:
        """The SQLAlchemy URL of the database of sweeps. It may hold a password."""
        return self.study_database or f"sqlite:///{self.home / 'studies.db'}"

    @property
    def visible_gpus(self) -> str:
        """The GPUs that this process may see, in the order in which CUDA numbers them; '' for all."""
        return os.environ.get("CUDA_VISIBLE_DEVICES", "")

    @property
    def environment_without_keys(self) -> dict[str, str]:
        """This process's environment for a child that needs no server."""
        servers = ("AWS_", "MLFLOW_", "PREFECT_", "NIGHTSHIFT_")
        variables = {k: v for k, v in os.environ.items() if not k.startswith(servers)}
        return SLEEPING_THREADS | variables

    @property
    def aws_variables(self) -> tuple[tuple[str, str], ...]:
        """The variables that boto3 reads, by which two configurations are told apart. They hold keys."""
        return tuple(sorted(i for i in os.environ.items() if i[0].startswith("AWS_")))

    @property
    def store_pages(self) -> str:
        """The URL template of the page that shows a prefix of the object store; '' if none is known."""
        if self.store_page or self.s3_endpoint_url or self.embeds_object_store:
            return self.store_page
        return "https://s3.console.aws.amazon.com/s3/buckets/{bucket}?prefix={prefix}"

    @property
    def keeps_objects_here(self) -> bool:
        """True if the object store is on this machine, started by a command or by `make up`."""
        return self.embeds_object_store or is_of_this_machine(self.s3_endpoint_url)

    @property
    def embeds_object_store(self) -> bool:
        """True if the embedded object store is used, by default when the user has configured no S3."""
        if self.object_store != "auto":
            return self.object_store == "embedded"
        configured = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
        has_file = Path(os.path.expanduser(configured)).is_file()  # Path.expanduser may raise
        return not (self.s3_endpoint_url or has_file or any(map(os.environ.get, _CREDENTIALS)))


def is_of_this_machine(url: str | None) -> bool:
    """True for the URL of a server that only this machine can reach."""
    host = str(urlsplit(url or "").hostname)
    return host in ("localhost", "::1") or host.startswith("127.")


def read_settings() -> Settings:
    """Read the settings from the present environment. Raises SettingsError that names the wrong variable."""
    return _settings_of(frozenset(os.environ.items()))


# A run reads them hundreds of times, and each time takes milliseconds.
@functools.lru_cache(maxsize=4)
def _settings_of(_environment: frozenset[tuple[str, str]]) -> Settings:
    """Return the settings of an environment, which is the present one."""
    _require_known(os.environ)
    try:
        return Settings()  # pyright: ignore[reportCallIssue] - the environment gives the fields
    except PydanticError as error:
        first = error.errors()[0]
        name, value, message = str(first["loc"][0]), first["input"], first["msg"]
        variable = name if name.isupper() else f"{_PREFIX}{name.upper()}"
        if _URL_OF_A_SERVICE.match(str(value)):
            raise SettingsError(
                f"The value is {value!r}, which Kubernetes sets for a service of that name",
                variable,
                "set enableServiceLinks: false in the pod, or rename the service",
            ) from None
        of_shape = first["type"] == NOT_OF_SHAPE
        what = f"{value!r} {message}" if of_shape else f"{message}, not {value!r}"
        raise SettingsError(what, variable) from error


def _require_known(environment: Mapping[str, str]) -> None:
    """Raise SettingsError if a variable looks like a setting but is not: it would be ignored silently."""
    names = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields}
    for variable in sorted(environment):
        name = variable.upper()
        unknown = name.startswith(_PREFIX) and name not in names
        if (
            not unknown
            or _OF_A_SERVICE.search(name)
            or _URL_OF_A_SERVICE.match(environment[variable])
        ):
            continue
        near = difflib.get_close_matches(name, names, 1)
        meant = f"did you mean {near[0]}? If not, unset it" if near else "unset it"
        raise SettingsError(
            "There is no such setting", variable, f"{meant}; the README lists all settings"
        )


def _require_address(url: str, field: str) -> None:
    """Raise SettingsError if a URL cannot be a server's. The error does not quote it, as it may hold a password."""
    variable, what, form = _ADDRESSES[field]
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port raises it, too
        fits = False
    if not fits and not (field == "mlflow_tracking_uri" and _OTHER_TRACKING.match(url)):
        raise SettingsError(f"Not the address of {what}", variable, form)


def _is_no_folder(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except OSError:  # no permission to look; reported when the folder is made
        return False
