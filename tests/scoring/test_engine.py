"""Which engine a scoring run is pinned to."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.core.engines import registry as engines
from tasks.core.errors import ModelError, SettingsError
from tasks.core.models import classifier
from tasks.core.models.params import Precision
from tasks.core.records import ModelVersion
from tasks.core.scoring.params import EngineParams
from tasks.scoring import shards
from tasks.scoring.engine import pin_engine, pin_precision

BF16 = {"avx512_bf16": True}


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
    monkeypatch.setitem(engines._MODULES, "absent", "tests.core.engines.absent_engine")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: BF16)
    assert pin_engine.fn(version, "auto", "cpu") == "torch-fp32"
    assert "runs best with absent, which is not installed here" in caplog.text
    monkeypatch.setitem(engines._MODULES, "absent", "tasks.core.engines.torch_engine")
    assert pin_engine.fn(version, "auto", "cpu") == "absent"
    assert pin_engine.fn(version, "auto", "cuda") == "torch"
    assert pin_engine.fn(version, "torch", "cpu") == "torch"


@pytest.mark.parametrize(
    ("may", "capabilities", "asked", "engine"),
    [
        (True, BF16, "auto", "torch"),
        (False, BF16, "auto", "torch-fp32"),
        (False, {}, "auto", "torch"),  # in fp32, for want of anything else
        (False, BF16, "fp32", "torch"),
    ],
)
def test_what_is_not_installed_is_replaced_by_what_was_shown(
    registry: ModelRegistry,
    version: ModelVersion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    may: bool,
    capabilities: dict[str, bool],
    asked: Precision,
    engine: str,
) -> None:
    monkeypatch.setitem(engines._MODULES, "absent", "tests.core.engines.absent_engine")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    rows = [{"name": "torch", "eligible": may}, {"name": "torch-fp32", "eligible": True}]
    compared = _registered(registry, tmp_path, engines.CHOICE, {"chosen": "absent", "rows": rows})
    assert pin_engine.fn(compared, "auto", "cpu", asked) == engine


def test_a_run_has_the_precision_of_the_version(
    registry: ModelRegistry,
    version: ModelVersion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: BF16)
    assert pin_precision.fn(version, "torch", "cpu", "auto") == "bf16"  # nobody knows
    assert pin_precision.fn(version, "torch-fp32", "cpu", "bf16") == "fp32"
    exact = _registered(registry, tmp_path, classifier.CARD, {"precision": "fp32"})
    assert pin_precision.fn(exact, "torch", "cpu", "auto") == "fp32"
    assert pin_precision.fn(exact, "torch", "cpu", "bf16") == "bf16"  # as somebody wishes
    assert pin_precision.fn(exact, "openvino", "cpu", "auto") == "bf16"  # as it was compared
    quick = _registered(registry, tmp_path, classifier.CARD, {"precision": "bf16"})
    assert pin_precision.fn(quick, "torch", "cpu", "auto") == "bf16"
    damaged = _registered(registry, tmp_path, classifier.CARD, {"precision": "fp31"})
    with pytest.raises(ModelError, match="training cannot be read: no precision 'fp31'"):
        pin_precision.fn(damaged, "torch", "cpu", "auto")


def _registered(registry: ModelRegistry, folder: Path, name: str, content: Any) -> ModelVersion:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    with registry.run("engines", {}, {}) as run:
        return registry.register("engines", folder, run.id, {}, "")


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
    monkeypatch.setitem(engines._MODULES, "openvino", "tests.core.engines.absent_engine")
    with pytest.raises(SettingsError, match="no_such_package, which is not installed here"):
        pin_engine.fn(version, "openvino", "cpu")
    shards._loaded.cache_clear()
    with pytest.raises(SettingsError, match="no_such_package, which is not installed here"):
        shards._loaded(version, EngineParams(engine="openvino"))
