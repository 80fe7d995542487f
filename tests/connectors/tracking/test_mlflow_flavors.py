"""MLflow's own tools load a registered version by its alias, and say what transformers says."""

import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from transformers import AutoModelForSequenceClassification, pipeline

from tasks.connectors.tracking.mlflow_flavors import describe_for_mlflow
from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.core.models.folders import load_tokenizer

_TEXTS = ["a good film", "bad " * 2_000]


@pytest.fixture
def folder(bert: Path, tmp_path: Path) -> Path:
    """A classifier."""
    made = tmp_path / "model"
    shutil.copytree(bert, made)
    AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2).save_pretrained(made)
    return made


@pytest.fixture
def champion(folder: Path, tracking_uri: str, registry: ModelRegistry) -> str:
    """The URI of an alias."""
    describe_for_mlflow(folder, load_tokenizer(folder), max_length_tokens=32)
    with registry.run("r", {}, {}) as run:
        pass
    version = registry.register("loaded-by-mlflow", folder, run.id, {}, "")
    client = MlflowClient(tracking_uri)
    client.set_registered_model_alias(version.name, "champion", version.version)
    return "models:/loaded-by-mlflow@champion"


@pytest.mark.filterwarnings("ignore")  # MLflow's own, at its import
def test_mlflow_loads_a_champion(
    champion: str, tracking_uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "get_registry_uri", lambda: tracking_uri)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        loaded: Any = mlflow.pyfunc.load_model(champion)
        classify: Any = mlflow.transformers.load_model(champion)  # pyright: ignore[reportPrivateImportUsage]
    finally:
        mlflow.set_tracking_uri(before)
    own: Any = pipeline("text-classification", str(folder))
    expected = own(_TEXTS, truncation=True, max_length=32)
    assert loaded.predict(_TEXTS).to_dict("records") == expected, "long texts, too"
    assert classify(_TEXTS[:1]) == expected[:1]
