"""The choice of an engine: the fastest that agrees, by a clock that only the engines move."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.core.engines import registry
from tasks.core.engines.cascade import engine
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.engines.protocol import EngineOptions
from tasks.core.engines.selection.agreement import too_few_for_linear
from tasks.core.engines.selection.choice import choose
from tasks.core.engines.selection.records import EngineChoice
from tasks.core.engines.selection.texts import TokenRows
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models import classifier as modeling
from tasks.core.models import devices
from tests.core.engines import timed_engines
from tests.core.models.tiny_classifiers import saved, tiny_classifier

MACHINE = {"cpu": "an abacus", "threads": "1"}
_HERE = "tests.core.engines.timed_engines"


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Engines that are torch with noise stand where the real ones do."""
    places = {"torch": "TORCH", "openvino": "EXACT", "openvino-int8": "INT8", "other": "BROKEN"}
    places["torch-fp32"] = "TORCH_FP32"
    for name, kind in places.items():
        monkeypatch.setitem(registry._MODULES, name, f"{_HERE}:{kind}")
    monkeypatch.setitem(registry._MODULES, "cascade", "tasks.core.engines.cascade.engine")
    yield
    timed_engines.CLOCK.seconds = 0.0


@pytest.fixture
def model(bert: Path, tmp_path: Path) -> Path:
    return saved(tiny_classifier("bert", bert), tmp_path / "model")


def rows(model: Path, count: int, seed: int) -> TokenRows:
    """Random rows, labelled as the model answers them, but for one in ten."""
    generator = np.random.default_rng(seed)
    classifier = modeling.load(model)
    words = classifier.model.config.vocab_size
    ids = [generator.integers(5, words, generator.integers(3, 12)).tolist() for _ in range(count)]
    labels = TorchEngine(classifier, "cpu", "fp32").logits(ids).argmax(axis=1)
    return TokenRows(ids, np.where(generator.random(count) < 0.1, 1 - labels, labels))


def form(given: dict[str, Any]) -> EngineChoiceParams:
    """The form, with candidates that only the tests have."""
    others = {name: value for name, value in given.items() if name != "candidates"}
    candidates = given["candidates"]
    return EngineChoiceParams(**others).model_copy(update={"candidates": candidates})


def chosen(model: Path, **given: Any) -> EngineChoice:
    """By 500 texts, which show 99%, and no thousandth."""
    asked = {"timed_rows": 60, "candidates": ["torch", "openvino", "openvino-int8", "cascade"]}
    asked |= {"minimum_agreement": 0.99}
    params = form(asked | given)
    validation, train = rows(model, 400, 1), rows(model, 100, 2)
    return choose(model, validation, train, params, timed_engines.CLOCK, MACHINE)


def test_the_fastest_that_agrees_is_chosen(timed: None, model: Path) -> None:
    found = chosen(model)
    by_name = {row.name: row for row in found.rows}
    others = ("cascade", "torch-fp32")  # the latter where torch multiplies in bf16
    speeds = {name: row.reviews_per_second for name, row in by_name.items() if name not in others}
    assert speeds == {"torch": 0.1, "openvino": 0.2, "openvino-int8": 1.0}
    assert by_name["openvino"].agreement == 1.0 and by_name["openvino"].largest_change < 1e-6
    int8 = by_name["openvino-int8"]
    assert int8.agreement and int8.agreement < 0.99 and not int8.eligible
    assert int8.differing and int8.shown and int8.shown < int8.agreement
    cascade = by_name["cascade"]
    assert cascade.agreement and cascade.agreement >= 0.99
    assert cascade.eligible and cascade.reviews_per_second
    assert found.chosen == "cascade" and 0.2 < cascade.reviews_per_second < 1.0
    assert "re-scored" in str(found)
    assert "probabilities within 0.05 of its own in at least 99.00% of reviews" in cascade.note
    assert found.judged_rows == 500 and found.machine == MACHINE
    assert "on 500 texts (400 of validation, 100 of training)" in str(found)
    assert found.fp32_accuracy == pytest.approx(0.9, abs=0.05)


def test_what_was_chosen_is_written_and_can_be_opened(timed: None, model: Path) -> None:
    found = chosen(model, candidates=["openvino", "openvino-int8", "cascade"], keep="all")
    written = json.loads((model / registry.CHOICE).read_text(encoding="utf-8"))
    assert EngineChoice.model_validate(written) == found
    assert registry.recommended(model) == found.chosen
    validation = rows(model, 400, 1).drawn(400)
    opened = registry.open_engine("cascade", modeling.load(model), model, EngineOptions())
    labels = opened.logits(validation.input_ids).argmax(axis=1)
    exact = TorchEngine(modeling.load(model), "cpu", "fp32").logits(validation.input_ids)
    assert (labels == exact.argmax(axis=1)).mean() >= 0.99
    record = engine.read(model / registry.FOLDER / "cascade")
    assert record == found.cascade and record.stages[0].band > 0
    assert [stage.folder for stage in record.stages] == ["../openvino-int8", "../openvino"]


def test_an_engine_that_heeds_neighbours_is_left_out(
    timed: None, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._MODULES, "other", f"{_HERE}:MIXING")
    found = chosen(model, candidates=["openvino", "other"])
    (note,) = (row.note for row in found.rows if row.name == "other")
    assert found.chosen == "openvino"
    assert note.startswith(
        "Its outputs depend on the other texts in a batch: alone, a text's probability differs by 0."
    )


def test_only_what_the_chosen_one_needs_is_kept(timed: None, model: Path) -> None:
    found = chosen(model, candidates=["openvino", "openvino-int8"])
    assert found.chosen == "openvino" and "openvino: 0.2 reviews/s, 100.00%" in str(found)
    assert [path.name for path in (model / registry.FOLDER).iterdir()] == ["openvino"]


def test_int8_will_do_where_less_agreement_is_asked_for(timed: None, model: Path) -> None:
    assert chosen(model, minimum_agreement=0.9).chosen == "openvino-int8"


def test_an_engine_that_breaks_does_not_stop_the_others(timed: None, model: Path) -> None:
    found = chosen(model, candidates=["other", "openvino"])
    broken = next(row for row in found.rows if row.name == "other")
    assert broken.note == "no kernel for this" and not broken.eligible
    assert found.chosen == "openvino" and not (model / registry.FOLDER / "other").exists()


def test_a_fast_cascade_answers_otherwise_and_no_worse(timed: None, model: Path) -> None:
    found = chosen(model, cascade="fast", accuracy_margin=0.1, keep="all")
    assert found.cascade and found.cascade.use == "fast"
    assert (found.cascade.accuracy or 0) >= (found.cascade.exact_accuracy or 1)
    registry.open_engine("cascade", modeling.load(model), model, EngineOptions())


def test_what_is_blended_for_accuracy_goes_before_what_is_faster(
    timed: None, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The linear model knows what one word decides, and the model does not. The other engine is the fastest."""
    monkeypatch.setitem(registry._MODULES, "other", f"{_HERE}:QUICK")
    drawn = rows(model, 400, 1)
    told = [[*row, 100] if n % 2 else row for n, row in enumerate(drawn.input_ids)]
    known = TokenRows(told, np.arange(400) % 2)
    asked = {"timed_rows": 60, "candidates": ["openvino-int8", "openvino", "other", "cascade"]}
    asked |= {"minimum_agreement": 0.99}
    params = form(asked | {"cascade": "blended", "keep": "all"})
    found = choose(model, known, known, params, timed_engines.CLOCK, MACHINE)
    by_name = {row.name: row for row in found.rows}
    assert by_name["other"].eligible and by_name["cascade"].reviews_per_second
    assert found.chosen == "cascade" and (by_name["cascade"].accuracy or 0) > found.fp32_accuracy
    stages = [stage.kind for stage in found.cascades["cascade"].stages]
    assert stages == ["linear", "openvino-int8"]
    without = choose(
        saved(modeling.load(model), tmp_path / "fast"), known, known,
        params.model_copy(update={"cascade": "fast"}), timed_engines.CLOCK, MACHINE,
    )  # fmt: skip
    speeds = {row.name: row.reviews_per_second or 0.0 for row in without.rows if row.eligible}
    assert without.chosen == max(speeds, key=lambda name: speeds[name])


def test_labels_may_be_another_models_where_they_are_the_same(
    timed: None, model: Path, tmp_path: Path
) -> None:
    """So few rows bound a tenth of the labels, and no thousandth. The linear model knows them by heart."""
    params = EngineChoiceParams(cascade="labels", minimum_agreement=0.9, keep="all", timed_rows=60)
    known = rows(model, 400, 1)
    found = choose(model, known, known, params, timed_engines.CLOCK, MACHINE)
    record = found.cascades["cascade"]
    assert record.use == "labels" and 0.9 <= record.agreement < 1
    assert [stage.kind for stage in record.stages] == ["linear", "openvino-int8", "openvino"]
    assert record.stages[1].scored_share <= 0.95
    assert "in at most 10.00% of all reviews" in record.promise
    by_name = {row.name: row for row in found.rows}
    assert by_name["cascade"].eligible and by_name["cascade"].agreement == record.agreement
    opened = registry.open_engine("cascade", modeling.load(model), model, EngineOptions())
    assert len(opened.logits(rows(model, 10, 3).input_ids)) == 10
    strict = chosen(
        saved(modeling.load(model), tmp_path / "again"), cascade="labels", minimum_agreement=0.999
    )
    without = strict.cascades["cascade"]
    assert [stage.kind for stage in without.stages] == ["openvino-int8", "openvino"]
    assert "No linear first stage: to show that its labels" in without.note


def test_reviews_are_too_few_only_where_a_linear_model_could_come_first() -> None:
    asked = EngineChoiceParams(cascade="labels", candidates=["torch", "cascade"])
    assert (
        "2,995 reviews that were not trained on are needed, and there are 444 ["
        in too_few_for_linear(444, asked)
    )
    fewer = asked.model_copy(update={"judged_rows": 1000})
    assert "there are 5,000, of which 1,000 are compared" in too_few_for_linear(5000, fewer)
    assert not too_few_for_linear(5000, asked)
    others = {"cascade": "exact"}, {"measure": False}, {"candidates": ["torch", "openvino"]}
    assert not any(too_few_for_linear(444, asked.model_copy(update=other)) for other in others)


def test_texts_that_cannot_show_it_leave_fp32(timed: None, model: Path) -> None:
    """The reported case: int8 was chosen on 167 reviews, which cannot show 99.9%."""
    validation, train = rows(model, 100, 1), rows(model, 67, 2)
    params = EngineChoiceParams(candidates=["torch", "openvino"], timed_rows=20, keep="all")
    found = choose(model, validation, train, params, timed_engines.CLOCK, MACHINE)
    by_name = {row.name: row for row in found.rows}
    exact = by_name["openvino"]
    assert (exact.differing, exact.agreement, exact.eligible) == (0, 1.0, False)
    assert exact.shown == pytest.approx(0.9822, abs=1e-4)
    assert "0 of 167 texts differ in label or by more than 0.05 in a probability: shows 98.2%" in (
        exact.note
    )
    assert found.chosen == exact_torch() and "openvino 0, shows 98.2%" in str(found)
    assert "167 texts (100 of validation, 67 of training) cannot show" in found.too_few
    assert "(2,995 are needed), so fp32 scores; engines.keep=all also registers" in found.too_few
    options = EngineOptions()  # a person may name another one
    registry.open_engine("openvino", modeling.load(model), model, options)


def test_what_was_scored_before_is_asked_first_and_needs_no_labels(
    timed: None, model: Path
) -> None:
    scored = rows(model, 300, 7).input_ids
    params = EngineChoiceParams(
        candidates=["torch", "openvino"], timed_rows=20, judged_rows=450, minimum_agreement=0.99
    )
    validation, train = rows(model, 100, 1), rows(model, 90, 2)
    given = (params, timed_engines.CLOCK, MACHINE)
    found = choose(model, validation, train, *given, scored=scored)
    said = "450 texts (300 scored before, 100 of validation, 50 of training)"
    assert found.judged_on == said and found.chosen == "openvino" and not found.too_few
    assert found.fp32_accuracy == pytest.approx(0.9, abs=0.1)  # on validation alone
    few = params.model_copy(update={"judged_rows": 300})
    found = choose(model, validation, train, few, *given[1:], scored=scored)
    assert found.judged_on == "300 texts (240 scored before, 60 of validation)"
    assert found.fp32_accuracy == pytest.approx(0.9, abs=0.15)  # what arrives takes no label away
    by_accuracy = params.model_copy(update={"cascade": "fast", "judged_rows": 120})
    found = choose(model, validation, train, by_accuracy, *given[1:], scored=scored)
    assert found.judged_on == "120 texts (100 of validation, 20 scored before)"


def test_a_probability_that_changes_counts_as_much_as_a_label(
    timed: None, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that always gives the label, and is surer of it."""
    monkeypatch.setitem(registry._MODULES, "other", f"{_HERE}:SURER")
    surer: dict[str, Any] = {"candidates": ["torch", "other"]}
    labels_alone = chosen(model, maximum_change=1.0, **surer)
    assert labels_alone.chosen == "other"
    both = chosen(saved(modeling.load(model), model.parent / "again"), **surer)
    row = next(row for row in both.rows if row.name == "other")
    assert both.chosen != "other" and row.agreement == 1.0 and not row.eligible
    assert row.differing and (row.largest_change or 0) > 0.05


def exact_torch() -> str:
    bf16 = devices.resolve_precision("auto", torch.device("cpu")) == "bf16"
    return "torch-fp32" if bf16 else "torch"


@pytest.mark.parametrize("given", [{"measure": False}, {"candidates": ["torch"]}])
def test_where_there_is_nothing_to_choose_from_it_is_torch(
    timed: None, model: Path, given: dict[str, Any]
) -> None:
    found = chosen(model, **given)
    assert found.chosen == "torch" and not found.rows and str(found) == "torch; none was compared"
    assert registry.recommended(model) == "torch" and not (model / registry.FOLDER).exists()
    assert timed_engines.CLOCK.seconds == 0  # and no time is lost
