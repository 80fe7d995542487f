"""From training to scoring: the engine that was found best is registered with the model, and a run is pinned to it."""

import json
import logging
from pathlib import Path

import pytest
import torch

import tasks.engines.verification
from flows.forms.scoring import ScoreParams
from flows.retrain import retrain
from flows.score import score
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.data.texts import matching_form
from tasks.core.engines import registry as engines
from tasks.core.engines.selection.benchmark import build_here
from tasks.core.engines.selection.records import EngineChoice
from tasks.engines.scored_texts import texts_scored_before
from tasks.runtime.clients import exact_objects, model_registry, move_log
from tasks.scoring.store.run_store import require_run
from tests.core.engines import timed_engines
from tests.retraining import deliver, params, read, write

pytestmark = pytest.mark.prefect


@pytest.fixture(autouse=True)
def _timed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("torch", "TORCH"), ("torch-fp32", "TORCH_FP32"), ("openvino", "EXACT")):
        monkeypatch.setitem(engines._MODULES, name, f"tests.core.engines.timed_engines:{kind}")
    monkeypatch.setattr(
        "tasks.engines.selection.build_apart", build_here
    )  # which has these engines
    monkeypatch.setattr("tasks.engines.selection.CLOCK", timed_engines.CLOCK)


# So few reviews can show no more than that.
MEASURED = {
    "engines__measure": True,
    "engines__candidates": ["torch", "openvino"],
    "engines__minimum_agreement": 0.9,
}


def test_the_engine_found_best_scores(
    services: ObjectStore, prefix: str, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_out: list[set[str]] = []

    def asked(model: str, most: int, forms: set[str]) -> list[str]:
        kept_out.append(forms)
        return texts_scored_before(model, most, forms)

    monkeypatch.setattr("tasks.engines.selection.texts_scored_before", asked)
    given = params(bert, deliver(services, prefix, seed=21), "engined", **MEASURED)
    done = retrain(given)
    tested = read(services, f"{prefix}/labelled/test.jsonl")
    assert kept_out == [{matching_form(row["text"]) for row in tested}]
    registry = model_registry()
    path = registry.file_of(done.version, engines.CHOICE, tmp_path)
    assert path
    found = EngineChoice.model_validate(json.loads(path.read_text(encoding="utf-8")))
    assert found.chosen == "openvino" and found.machine["threads"]
    eligible = {row.name for row in found.rows if row.eligible}
    assert eligible - {"torch-fp32"} == {"torch", "openvino"}
    (calibration,) = [c.text for c in done.verdict.clauses if c.name == "calibration error"]
    assert calibration.startswith("as openvino scores, ")
    card = registry.file_of(done.version, "README.md", tmp_path)
    assert card and "| Scored by | openvino: 0.2 reviews/s" in card.read_text(encoding="utf-8")
    assert " test reviews openvino is right in " in card.read_text(encoding="utf-8")
    assert "openvino" in registry.tags_of(done.version)["nightshift.engine"]
    assert registry.find_version("engined", done.version.model_digest)

    write(services, f"{prefix}/inbox/x.jsonl", [{"id": "a", "text": "The ending was dreadful."}])
    scored = score(
        ScoreParams(input=f"{prefix}/inbox", output=f"{prefix}/out", model_name="engined")
    )
    assert require_run(exact_objects(), scored.place).engine == "openvino"
    assert texts_scored_before("engined", 1) == ["The ending was dreadful."]
    assert texts_scored_before("engined", 5000) == []  # too few to be worth another look

    other = retrain(params(bert, given.data.source.location, "engined", **MEASURED | {
        "engines__candidates": ["torch"],
    }))  # fmt: skip
    assert "model" in other.steps_reused and other.version.version == "2" and other.promoted
    assert registry.tags_of(other.version)["nightshift.engine"].startswith("torch")
    assert registry.resolve("engined", "champion") == other.version
    moved = move_log().moves("engined")[-1]
    assert "has the weights of engined version 1, with another engine: torch." in moved.why

    again = retrain(given)
    assert {"engines", "engine-proof"} <= set(again.steps_reused)
    assert again.version.version == done.version.version
    assert registry.resolve("engined", "champion") == done.version  # what was asked for last


@pytest.mark.slow
def test_reviews_too_few_to_show_it_are_scored_in_fp32(
    services: ObjectStore, prefix: str, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = MEASURED | {"engines__minimum_agreement": 0.999}
    done = retrain(params(bert, deliver(services, prefix, seed=25), "unshown", **given))
    (said,) = [
        r.getMessage() for r in caplog.records if "The model will be scored by" in r.getMessage()
    ]
    assert "cannot show that another engine agrees with fp32 in 0.999 of all reviews" in said
    assert "(2,995 are needed), so fp32 scores" in said and "openvino 0, shows 98.5%" in said
    tag = model_registry().tags_of(done.version)["nightshift.engine"]
    assert tag.startswith("torch") and "fp32 scores" in tag
    write(services, f"{prefix}/inbox/x.jsonl", [{"id": "a", "text": "The ending was dreadful."}])
    asked = ScoreParams(input=f"{prefix}/inbox", output=f"{prefix}/out", model_name="unshown")
    assert done.promoted
    scored = score(asked)
    assert require_run(exact_objects(), scored.place).engine == tag.partition(":")[0]
    services.write_bytes(b'{"id": "b", "text": "Another one."}\n', f"{prefix}/inbox/x.jsonl")
    assert texts_scored_before("unshown", 1) == []  # what was scored is gone


def test_an_engine_that_is_less_right_on_the_test_set_does_not_score(
    services: ObjectStore,
    prefix: str,
    bert: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As a cascade whose bands fit the validation reviews alone."""
    of_torch = tasks.engines.verification.logits_of
    monkeypatch.setattr("tasks.engines.verification.logits_of", lambda *given: -of_torch(*given))
    data = deliver(services, prefix, seed=22)
    done = retrain(params(bert, data, "misled", **MEASURED, engines__cascade="fast"))
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    refused = [text for text in said if text.startswith("The engine is not used: on ")]
    assert len(refused) == 2  # of the engines that were asked for, and of the exact ones
    assert all(" test reviews openvino is right in " in text for text in refused)
    assert model_registry().tags_of(done.version)["nightshift.engine"].startswith("torch")


@pytest.mark.parametrize(
    ("of_torch", "agreement"),
    [("TORCH", 0.999), ("UNSHOWN_TORCH", 0.9)],
    ids=["too few reviews to show it", "an engine that torch may not replace"],
)
def test_fp32_scores_whatever_the_test_set_says(
    services: ObjectStore,
    prefix: str,
    bert: Path,
    monkeypatch: pytest.MonkeyPatch,
    of_torch: str,
    agreement: float,
) -> None:
    kind = f"tests.core.engines.timed_engines:{of_torch}"
    monkeypatch.setitem(engines._MODULES, "torch", kind)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    logits_of = tasks.engines.verification.logits_of
    monkeypatch.setattr("tasks.engines.verification.logits_of", lambda *given: -logits_of(*given))
    given = MEASURED | {"engines__minimum_agreement": agreement, "training__precision": "fp32"}
    name = f"exact-{of_torch.lower()}"
    done = retrain(params(bert, deliver(services, prefix, seed=26), name, **given))
    tag = model_registry().tags_of(done.version)["nightshift.engine"]
    assert tag.startswith("torch-fp32: ")
    assert ("cannot show" in tag) == (agreement == 0.999)
    write(services, f"{prefix}/inbox/x.jsonl", [{"id": "a", "text": "The ending was dreadful."}])
    asked = ScoreParams(
        input=f"{prefix}/inbox",
        output=f"{prefix}/out",
        model_name=name,
        model_version=done.version.version,
    )
    frozen = require_run(exact_objects(), score(asked).place)
    assert (frozen.engine, frozen.precision) == ("torch-fp32", "fp32")
    plain = asked.engine.model_copy(update={"engine": "torch"})
    frozen = require_run(exact_objects(), score(asked.model_copy(update={"engine": plain})).place)
    assert (frozen.engine, frozen.precision) == ("torch", "fp32")  # as it was trained and judged


@pytest.mark.slow
def test_that_labels_take_more_validation_reviews_is_said_before_training(
    services: ObjectStore, prefix: str, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tasks")
    given = params(bert, deliver(services, prefix, seed=24), "few", **MEASURED)
    candidates = ["torch", "openvino", "cascade"]
    strict = {"cascade": "labels", "candidates": candidates, "minimum_agreement": 0.999}
    asked = given.engines.model_copy(update=strict)
    retrain(given.model_copy(update={"engines": asked}))
    said = caplog.text.index("2,995 reviews that were not trained on are needed, and there are")
    assert said < caplog.text.index("Training is under way")


def test_an_engine_that_fails_on_the_test_set_does_not_end_the_retraining(
    services: ObjectStore, prefix: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr("tasks.engines.verification.logits_of", fails)
    done = retrain(params(bert, deliver(services, prefix, seed=23), "failing", **MEASURED))
    assert model_registry().tags_of(done.version)["nightshift.engine"].startswith("torch")
