"""Engines are built in a process apart: what it leaves, what it says, and what its death costs."""

from pathlib import Path

import numpy as np
import pytest

from tasks.core.engines import registry
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.engines.protocol import EngineOptions
from tasks.core.engines.selection.choice import choose
from tasks.core.engines.selection.texts import TokenRows
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import ModelError
from tasks.core.models import classifier
from tasks.engines.build import build_apart
from tests.core.engines.test_engines import random_rows
from tests.core.models.tiny_classifiers import saved, tiny_classifier

ROWS = random_rows([9, 30, 4] * 10)


@pytest.fixture
def model(bert: Path, tmp_path: Path) -> Path:
    return saved(tiny_classifier("bert", bert), tmp_path / "model")


@pytest.mark.skipif(not registry.available("openvino"), reason="openvino is not installed")
def test_what_was_built_apart_scores_here(model: Path) -> None:
    build_apart("openvino", model, ROWS)
    options = EngineOptions(device="cpu", precision="fp32")
    found = registry.open_engine("openvino", classifier.load(model), model, options).logits(ROWS)
    expected = TorchEngine(classifier.load(model), "cpu", "fp32").logits(ROWS)
    assert np.abs(found - expected).max() <= 2e-3 * np.ptp(expected)


@pytest.mark.skipif(not registry.available("openvino"), reason="openvino is not installed")
def test_openvino_that_knows_no_bound_of_kernels(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is one of its inner keys: a version without it scores as well, with more memory."""
    from tasks.core.engines import openvino_engine

    given: list[dict[str, object]] = []
    core = openvino_engine._openvino().Core
    compiled = core.compile_model

    def spied(self: object, graph: object, device: str, configuration: dict[str, object]) -> object:
        given.append(configuration)
        return compiled(self, graph, device, configuration)

    monkeypatch.setattr(core, "compile_model", spied)
    build_apart("openvino", model, ROWS)
    options = EngineOptions(device="cpu", precision="fp32")
    kept = registry.open_engine("openvino", classifier.load(model), model, options).logits(ROWS)
    assert [one["CPU_RUNTIME_CACHE_CAPACITY"] for one in given] == ["64"]
    monkeypatch.setattr(openvino_engine, "_KEPT_KERNELS", {"CPU_NO_SUCH_KEY": "64"})
    found = registry.open_engine("openvino", classifier.load(model), model, options).logits(ROWS)
    assert "CPU_NO_SUCH_KEY" in given[1] and "CPU_NO_SUCH_KEY" not in given[2]
    assert np.array_equal(found, kept)


@pytest.mark.skipif(not registry.available("openvino-int8"), reason="openvino is not installed")
def test_what_was_wrong_is_said(model: Path) -> None:
    with pytest.raises(ModelError, match="int8 needs token rows for calibration"):
        build_apart("openvino-int8", model, [])


def test_an_engine_that_ends_its_process_is_left_out(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.engines.build._PROGRAM", "tests.core.engines.deadly_engine")
    monkeypatch.setitem(registry._MODULES, "openvino", "tests.core.engines.deadly_engine")
    rows = TokenRows(ROWS, np.arange(len(ROWS)) % 2)
    params = EngineChoiceParams(candidates=["torch", "openvino"], judged_rows=20)
    seconds = iter(range(1000))
    found = choose(model, rows, rows, params, lambda: next(seconds), {}, build_apart)
    assert found.chosen in ("torch", "torch-fp32") and found.too_few
    (note,) = (row.note for row in found.rows if row.name == "openvino")
    assert "tries the engine died" in note and "Floating point exception" in note
    assert not (model / registry.FOLDER).exists()


def test_an_engine_without_an_end_is_left_out(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.engines.build._PROGRAM", "tests.core.engines.endless_engine")
    monkeypatch.setattr("tasks.engines.build._LIMIT_SECONDS", 1.2)
    with pytest.raises(ModelError, match=r"took longer than 0.02 minutes"):
        build_apart("torch", model, ROWS)
