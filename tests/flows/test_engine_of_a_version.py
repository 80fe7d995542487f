"""From training to scoring: the engine that was found best is registered with the model, and a run is pinned to it."""

import json
from pathlib import Path

import pytest

from flows.parameters import ScoreParams
from flows.retrain import retrain
from flows.score import score
from tasks.connect import exact_objects, model_registry
from tasks.connectors.object_store import ObjectStore
from tasks.core import engines
from tasks.core.engine_choice_records import EngineChoice
from tasks.core.engine_contest import build_here
from tasks.score_store import require_run
from tests.core import timed_engines
from tests.retraining import deliver, params, write

pytestmark = pytest.mark.prefect


def test_the_engine_found_best_scores(
    services: ObjectStore,
    prefix: str,
    bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, kind in (("torch", "TORCH"), ("openvino", "EXACT")):
        monkeypatch.setitem(engines._MODULES, name, f"tests.core.timed_engines:{kind}")
    monkeypatch.setattr("tasks.engine_choice.build_apart", build_here)  # which has these engines
    monkeypatch.setattr("tasks.engine_choice.CLOCK", timed_engines.CLOCK)
    given = params(
        bert,
        deliver(services, prefix, seed=21),
        "engined",
        engines__measure=True,
        engines__candidates=["torch", "openvino"],
    )
    done = retrain(given)
    registry = model_registry()
    path = registry.file_of(done.version, engines.CHOICE, tmp_path)
    assert path
    found = EngineChoice.model_validate(json.loads(path.read_text(encoding="utf-8")))
    assert found.chosen == "openvino" and found.machine["threads"]
    assert {row.name: row.eligible for row in found.rows} == {"torch": True, "openvino": True}
    card = registry.file_of(done.version, "README.md", tmp_path)
    assert card and "| Scored by | openvino: 0.2 reviews/s" in card.read_text(encoding="utf-8")
    assert "openvino" in registry.tags_of(done.version)["nightshift.engine"]
    assert registry.find_version("engined", done.version.model_digest)

    write(services, f"{prefix}/inbox/x.jsonl", [{"id": "a", "text": "The ending was dreadful."}])
    scored = score(
        ScoreParams(input=f"{prefix}/inbox", output=f"{prefix}/out", model_name="engined")
    )
    assert require_run(exact_objects(), scored.place).engine == "openvino"

    again = retrain(given)
    assert "engines" in again.steps_reused and again.version.version == done.version.version
