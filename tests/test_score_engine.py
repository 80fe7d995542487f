"""Which engine a scoring run is pinned to."""

from pathlib import Path

import pytest

from tasks import score_shards
from tasks.connectors.model_registry import ModelRegistry
from tasks.core import engines
from tasks.core.errors import SettingsError
from tasks.core.records import ModelVersion
from tasks.core.scoring import EngineParams
from tasks.score_engine import pin_engine


@pytest.fixture
def version(
    registry: ModelRegistry, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModelVersion:
    """Registered with a recommendation."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    (tmp_path / engines.CHOICE).write_text('{"chosen": "absent"}', encoding="utf-8")
    with registry.run("engines", {}, {}) as run:
        return registry.register("engines", tmp_path, run.id, {}, "")


def test_auto_takes_what_was_found_best_where_it_is_installed(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(engines._MODULES, "absent", "tests.core.absent_engine")
    assert pin_engine.fn(version, "auto", "cpu") == "torch"
    assert "runs best with absent, which is not installed here" in caplog.text
    monkeypatch.setitem(engines._MODULES, "absent", "tasks.core.engines.torch_engine")
    assert pin_engine.fn(version, "auto", "cpu") == "absent"
    assert pin_engine.fn(version, "auto", "cuda") == "torch"
    assert pin_engine.fn(version, "torch", "cpu") == "torch"


def test_without_a_recommendation_it_is_torch(
    registry: ModelRegistry, version: ModelVersion, tmp_path: Path
) -> None:
    (tmp_path / engines.CHOICE).unlink()
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with registry.run("engines", {}, {}) as run:
        plain = registry.register("engines", tmp_path, run.id, {}, "")
    assert pin_engine.fn(plain, "auto", "cpu") == "torch"


def test_a_worker_without_the_engine_says_so_before_it_scores(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engines._MODULES, "openvino", "tests.core.absent_engine")
    with pytest.raises(SettingsError, match="no_such_package, which is not installed here"):
        pin_engine.fn(version, "openvino", "cpu")
    score_shards._loaded.cache_clear()
    with pytest.raises(SettingsError, match="no_such_package, which is not installed here"):
        score_shards._loaded(version, EngineParams(engine="openvino"))
