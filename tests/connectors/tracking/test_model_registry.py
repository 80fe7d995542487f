"""The registry on a real MLflow store: versions, aliases, and runs whose status is true."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.core.errors import RegistryError
from tasks.core.tags import ENGINE_IDENTITY_TAG, MODEL_DIGEST_TAG
from tests.paths import ROOT


def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def test_a_folder_becomes_a_version_and_comes_back_whole(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    with registry.run("r", {"epochs": 2}, {}) as run:
        run.log({"loss": 0.5}, step=1)
    first = registry.register(
        "round-trip", folder(tmp_path), run.id, {MODEL_DIGEST_TAG: "d1"}, "words"
    )
    assert (first.version, first.model_digest, first.run_id) == ("1", "d1", run.id)
    got = registry.download(first, tmp_path / "out")
    assert {p.name for p in got.iterdir()} == {"config.json", "model.safetensors"}
    assert registry.find_version("round-trip", "d1") == first
    assert registry.find_version("round-trip", "d2") is None
    assert registry.find_version("round-trip", "d1", "torch") is None  # nobody said what scores it


def test_the_engine_is_part_of_a_version(registry: ModelRegistry, tmp_path: Path) -> None:
    with registry.run("r", {}, {}) as run:
        pass
    made, engines = folder(tmp_path), ("torch", "openvino", "torch")
    versions = [
        registry.register(
            "engines", made, run.id, {MODEL_DIGEST_TAG: "d1", ENGINE_IDENTITY_TAG: engine}, ""
        )
        for engine in engines
    ]
    assert registry.find_version("engines", "d1", "openvino") == versions[1]
    assert registry.find_version("engines", "d1", "torch") == versions[2]  # the newest
    assert registry.find_version("engines", "d1", "onnx") is None
    assert registry.find_version("engines", "d1") == versions[2]


def test_aliases(registry: ModelRegistry, tmp_path: Path) -> None:
    assert registry.resolve("aliases", "champion") is None
    with registry.run("r", {}, {}) as run:
        pass
    version = registry.register("aliases", folder(tmp_path), run.id, {}, "")
    assert registry.resolve("aliases", "champion") is None
    registry.set_alias(version, "champion")
    assert registry.resolve("aliases", "champion") == version == registry.resolve("aliases", "1")
    assert registry.resolve("aliases", "7") is None
    assert registry.aliases("aliases") == {"champion": "1"} and registry.aliases("no-model") == {}
    registry.remove_alias("aliases", "champion")
    registry.remove_alias("aliases", "champion")
    assert registry.aliases("aliases") == {}


def test_a_deleted_version_takes_its_aliases_and_files_and_not_its_number(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    """What the history of moves and retention rest on."""
    with registry.run("r", {}, {}) as run:
        pass
    files = folder(tmp_path)
    first, second = (registry.register("deleted", files, run.id, {}, "") for _ in range(2))
    registry.set_alias(second, "champion")
    found = registry.versions("deleted")
    assert [f.version for f in found] == [first, second]
    place = Path(found[1].source.removeprefix("file://"))
    assert (place / "model.safetensors").exists()
    registry.delete(found[1], with_files=True)
    assert registry.aliases("deleted") == {} and registry.resolve("deleted", "2") is None
    assert not place.exists() and [f.version for f in registry.versions("deleted")] == [first]
    assert registry.register("deleted", files, run.id, {}, "").version == "3"
    registry.delete(found[0], with_files=False)
    assert (Path(found[0].source.removeprefix("file://")) / "config.json").exists()


def test_files_that_people_registered_from_elsewhere_stay(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    files = folder(tmp_path)
    registry._client.create_registered_model("elsewhere")
    registry._client.create_model_version("elsewhere", files.as_uri())
    (found,) = registry.versions("elsewhere")
    registry.delete(found, with_files=True)
    assert registry.versions("elsewhere") == [] and (files / "model.safetensors").exists()


def test_what_comes_from_elsewhere_or_is_a_link_is_refused(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry.run("r", {}, {}) as run:
        pass
    version = registry.register("elsewhere", folder(tmp_path), run.id, {}, "")
    into = tmp_path / "into"
    into.mkdir()
    (into / "link").symlink_to(tmp_path / "model" / "config.json")
    for found in (tmp_path / "model" / "config.json", into / "link"):
        monkeypatch.setattr("mlflow.artifacts.download_artifacts", lambda *_, f=found, **__: str(f))
        with pytest.raises(RegistryError, match="are links, or outside"):
            registry.file_of(version, "config.json", into)
        with pytest.raises(RegistryError, match="are links, or outside"):
            registry.download(version, into)


def test_versions_come_in_pages(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry._client.create_registered_model("pages")
    for _ in range(5):
        registry._client.create_model_version("pages", "file:///nowhere")
    original = MlflowClient.search_model_versions

    def small_pages(self: MlflowClient, asked: str, page_token: str | None = None) -> object:
        return original(self, asked, max_results=2, page_token=page_token)

    monkeypatch.setattr(MlflowClient, "search_model_versions", small_pages)
    assert [f.version.version for f in registry.versions("pages")] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_runs_status_is_true(
    registry: ModelRegistry, tracking_uri: str, error: type[BaseException] | None, status: str
) -> None:
    run_id = ""
    try:
        with registry.run("r", {}, {}) as run:
            run_id = run.id
            run.log({f"metric_{i}": i for i in range(150)})
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    found = MlflowClient(tracking_uri).get_run(run_id)
    assert found.info.status == status and len(found.data.metrics) == 150


def test_a_killed_training_does_not_stay_running(
    registry: ModelRegistry, tracking_uri: str
) -> None:
    code = (
        "import os, sys, signal; from tasks.connectors.tracking.model_registry import ModelRegistry\n"
        "with ModelRegistry(sys.argv[1], 'tests').run('r', {}, {}) as run:\n"
        "    print(run.id, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, tracking_uri], capture_output=True, text=True, cwd=ROOT
    )
    run_id = ended.stdout.strip()
    client = MlflowClient(tracking_uri)
    assert client.get_run(run_id).info.status == "RUNNING"
    with registry.run("alive", {}, {}) as alive:
        assert registry.close_dead_runs() == [run_id]
        assert client.get_run(alive.id).info.status == "RUNNING"
    assert client.get_run(run_id).info.status == "KILLED"


def test_long_values_are_cut_with_a_mark(registry: ModelRegistry, tracking_uri: str) -> None:
    with registry.run("r", {"long": "x" * 9000}, {"tag": "y" * 9000}) as run:
        pass
    found = MlflowClient(tracking_uri).get_run(run.id).data
    assert found.params["long"].endswith("…") and found.tags["tag"].endswith("…")


def test_a_lost_run_is_replaced(registry: ModelRegistry) -> None:
    assert registry.add_to_run("0" * 32, {"accuracy": 0.5}, {}, {}) != "0" * 32


@pytest.mark.slow  # it retries
def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with pytest.raises(
        RegistryError, match=r"127.0.0.1:9\] -> check that the MLflow server is reachable"
    ) as caught:
        ModelRegistry("http://user:secret@127.0.0.1:9", "tests")
    assert "secret" not in str(caught.value)


def test_two_make_an_experiment_at_once(
    tracking_uri: str, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, asked = MlflowClient.get_experiment_by_name, list[str]()

    def not_yet(self: MlflowClient, name: str) -> object:
        asked.append(name)
        return None if len(asked) == 1 else original(self, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", not_yet)
    other = ModelRegistry(tracking_uri, "tests")
    assert other._experiment_id == registry._experiment_id and len(asked) == 2
