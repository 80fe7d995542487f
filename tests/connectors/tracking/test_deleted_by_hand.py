"""What a person has deleted in MLflow is there and not usable: another takes its place, or a sentence says what to do.

On a database, and on a real server, where runs print their addresses.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks.connectors.servers.child_process import ChildProcess
from tasks.connectors.servers.local_servers import http_problem
from tasks.connectors.servers.seaweedfs import HOST, free_ports
from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.core.errors import RegistryError
from tasks.core.tags import MODEL_DIGEST_TAG
from tests.connectors.tracking.test_model_registry import folder

_SERVER_SECONDS = 180.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server."""
    place, port = tmp_path_factory.mktemp("mlflow-server"), free_ports(1)[0]
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--workers", "1"]
    command += ["--artifacts-destination", (place / "artifacts").as_uri()]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    child = ChildProcess("MLflow", command, environment, place / "server.log")
    try:
        deadline = time.monotonic() + _SERVER_SECONDS
        while problem := http_problem(f"http://{HOST}:{port}/health"):
            assert time.monotonic() < deadline, problem
            time.sleep(0.2)
        yield f"http://{HOST}:{port}"
    finally:
        child.stop()


@pytest.fixture(params=["database", pytest.param("server", marks=pytest.mark.slow)])
def uri(request: pytest.FixtureRequest, tracking_uri: str) -> str:
    return tracking_uri if request.param == "database" else request.getfixturevalue("server")


def test_a_deleted_run_is_replaced_once(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """A training that is reused names its run, which nothing can be added to any more."""
    registry, client = ModelRegistry(uri, "runs"), MlflowClient(uri)
    with registry.run("r", {}, {}) as run:
        pass
    client.delete_run(run.id)
    assert client.get_run(run.id).info.lifecycle_stage == "deleted", "it answers"
    new = registry.add_to_run(run.id, {"accuracy": 0.5}, {"a": "b"}, {})
    assert new != run.id and client.get_run(new).data.metrics == {"accuracy": 0.5}
    assert f"{new} takes its place" in caplog.text
    assert registry.add_to_run(run.id, {"f1": 0.4}, {}, {}) == new, "not one more each time"
    client.delete_run(new)
    third = registry.add_to_run(run.id, {"f1": 0.4}, {}, {})
    assert third not in (run.id, new)
    client.restore_run(run.id)
    assert registry.add_to_run(run.id, {"f1": 0.4}, {}, {}) == run.id


def test_a_deleted_run_is_not_gone_on_with(uri: str) -> None:
    """Its training died, and a checkpoint names it."""
    registry, client = ModelRegistry(uri, "runs"), MlflowClient(uri)
    with pytest.raises(ValueError, match="died"), registry.run("r", {}, {}) as died:
        raise ValueError("died")
    client.delete_run(died.id)
    with registry.run("r", {"epochs": 1}, {}, go_on_with=died.id) as run:
        run.log({"loss": 0.1})
    assert run.id != died.id and client.get_run(run.id).info.status == "FINISHED"


def test_a_run_that_is_deleted_meanwhile_costs_no_training(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry, client = ModelRegistry(uri, "runs"), MlflowClient(uri)
    with registry.run("r", {}, {}) as run:
        run.log({f"metric_{i}": i for i in range(150)})
        client.delete_run(run.id)
        run.log({"loss": 0.1})
    assert "could not be ended" in caplog.text and run.id in caplog.text


def test_a_deleted_experiment_is_told_with_what_restores_it(uri: str) -> None:
    registry, client = ModelRegistry(uri, "experiment"), MlflowClient(uri)
    with registry.run("r", {}, {}) as run:
        pass
    number = registry._experiment_id
    client.delete_experiment(number)
    later = ModelRegistry(uri, "experiment")
    told = rf"'experiment' was deleted.*mlflow experiments restore --experiment-id {number}.*NIGHTSHIFT_EXPERIMENT"
    with pytest.raises(RegistryError, match=told):
        later.require_experiment()
    with pytest.raises(RegistryError, match=told), later.run("r", {}, {}):
        raise AssertionError("nothing is begun")
    with pytest.raises(RegistryError, match=told):
        later.add_to_run(run.id, {}, {}, {})
    assert later.close_dead_runs() == [] and later.aliases("any") == {}, "what needs none goes on"
    client.restore_experiment(number)
    restored = ModelRegistry(uri, "experiment")
    assert restored.add_to_run(run.id, {"a": 1.0}, {}, {}) == run.id


def test_one_run_that_cannot_be_closed_does_not_keep_others_from_it(
    uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow prints an emoji before it writes the end, which a terminal may not take."""
    registry, client = ModelRegistry(uri, f"dead-{uri[:4]}"), MlflowClient(uri)
    owner = {"nightshift.process": f"{os.uname().nodename}:999999999:0"}
    dead = {client.create_run(registry._experiment_id, tags=owner).info.run_id for _ in range(3)}
    first, original = min(dead), MlflowClient.set_terminated

    def unprintable(self: MlflowClient, run_id: str, status: str) -> None:
        if run_id == first:
            "\U0001f3c3".encode("latin-1")
        original(self, run_id, status)

    monkeypatch.setattr(MlflowClient, "set_terminated", unprintable)
    assert set(registry.close_dead_runs()) == dead - {first}
    assert f"{first} in MLflow could not be closed" in caplog.text


def test_a_version_whose_files_are_gone_is_registered_again(uri: str, tmp_path: Path) -> None:
    registry, client = ModelRegistry(uri, "versions"), MlflowClient(uri)
    name = f"files-{uri[:4]}"
    with registry.run("r", {}, {}) as run:
        pass
    made, tags = folder(tmp_path), {MODEL_DIGEST_TAG: "d1"}
    old, new = (registry.register(name, made, run.id, tags, "") for _ in range(2))
    client.set_registered_model_alias(name, "champion", new.version)
    assert registry.find_version(name, "d1") == new
    _remove_files(registry, name, new.version)
    assert registry.find_version(name, "d1") == old
    client.delete_model_version(name, old.version)
    assert registry.find_version(name, "d1") is None
    assert registry.resolve(name, "champion") == new, "the alias stays where people have put it"
    with pytest.raises(RegistryError, match=r"files of .* are gone"):
        registry.download(new, tmp_path / "out")


def test_a_model_that_was_deleted_whole_begins_anew(uri: str, tmp_path: Path) -> None:
    registry, client = ModelRegistry(uri, "versions"), MlflowClient(uri)
    name, tags = f"whole-{uri[:4]}", {MODEL_DIGEST_TAG: "d1"}
    with registry.run("r", {}, {}) as run:
        pass
    made = folder(tmp_path)
    first = registry.register(name, made, run.id, tags, "")
    registry.set_alias(first, "champion")
    client.delete_registered_model(name)
    assert registry.find_version(name, "d1") is None and registry.aliases(name) == {}
    assert registry.resolve(name, "champion") is None and registry.versions(name) == []
    assert registry.register(name, made, run.id, tags, "").version == "1"


def test_a_logged_model_that_was_deleted_keeps_its_version_usable(uri: str, tmp_path: Path) -> None:
    """MLflow's pages list logged models apart, and delete them softly."""
    registry, client = ModelRegistry(uri, "versions"), MlflowClient(uri)
    name, tags = f"logged-{uri[:4]}", {MODEL_DIGEST_TAG: "d1"}
    with registry.run("r", {}, {}) as run:
        pass
    version = registry.register(name, folder(tmp_path), run.id, tags, "")
    (found,) = registry.versions(name)
    client.delete_logged_model(next(p for p in found.source.split("/") if p.startswith("m-")))
    try:
        assert registry.find_version(name, "d1") == version
        assert (registry.download(version, tmp_path / "out") / "config.json").is_file()
    except MlflowException as error:  # pragma: no cover - says what MLflow says
        pytest.fail(str(error))


def _remove_files(registry: ModelRegistry, name: str, version: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    source = next(v.source for v in registry.versions(name) if v.version.version == version)
    if source.startswith("file://"):
        shutil.rmtree(source.removeprefix("file://"))
    else:
        get_artifact_repository(source, tracking_uri=registry._uri).delete_artifacts()
