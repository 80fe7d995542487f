"""Forms: former names of fields, and digests that no renaming changes."""

import logging

import pytest
from pydantic import ValidationError

from flows.forms.pipelines import FineTuneParams, RetrainParams, TuneParams
from flows.forms.scoring import ScoreShardsParams
from tasks.connectors.sources.params import SourceParams
from tasks.core.data.params import SplitParams, TokenizationParams, ValidationParams
from tasks.core.digests import digest_of
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.forms import Form, former_paths, with_current_names
from tasks.core.quality.params import InspectionParams
from tasks.core.release.gate.params import GateParams
from tasks.core.release.report.params import ReportParams
from tasks.core.scoring.params import EngineParams
from tasks.core.training.params import TrainingParams
from tasks.core.training.pretraining.params import PretrainingParams
from tasks.core.training.tuning.params import SweepParams

_ROWS = {"location", "text_column", "limit_rows"}

#: Digests of the forms as release 0.1 computed them. A digest that changes makes everybody's prepared data, models and
#: verdicts anew: give a renamed field its former name, and list a new one in `later_fields`.
FROZEN = [
    ("99ff85f604c8985fd91b299233651414", TrainingParams().identity()),
    (
        "5271d075f4c0ba7604f26aae896846b8",
        TrainingParams(
            lr_scheduler_type="cosine",
            warmup_ratio=0.2,
            layerwise_lr_decay=0.9,
            num_layers=3,
            epochs=2,
        ).identity(),
    ),
    ("02cbe1487841436c0739cd5382b5d2cb", SweepParams().identity()),
    (
        "8df10642d986155432147b62a33130b7",
        SweepParams.model_validate(
            {"space": {"warmup_ratio": {"low": 0.1, "high": 0.3}}, "metric": "loss"}
        ).identity(),
    ),
    (
        "c68b902e2ba8dfe53d4de7e46e045214",
        PretrainingParams(mlm_probability=0.2).identity(exclude=_ROWS),
    ),
    ("faaf579fa5f8e06a48d11b45ea012119", PretrainingParams().identity(include=_ROWS)),
    ("bea0ce4ab3211bc7b64895e89ca60ca2", ValidationParams(max_unusable_fraction=0.3).identity()),
    ("e549909b630b4367dccd96c441f6a0f3", SplitParams().identity(exclude={"new_test_set"})),
    ("5704e44ba1f52a686174f27ae297c15c", SplitParams().identity(include={"test_fraction", "seed"})),
    ("2248c4d59a22ebf68933efeffde0a77c", TokenizationParams().identity()),
    ("b8188cbb2c649fb2a2411c6d5ff4c50d", InspectionParams().identity(exclude={"listed"})),
    ("7b55fea905ebdec1590e1c47313ede91", EngineChoiceParams().identity()),
    ("7f64ff3cae63fab77d678bdd502495f3", EvaluationParams().identity()),
    ("4004425d6cbee307a7e6e6211aea2cbc", GateParams().identity()),
    ("c4a8ef2c499915f9611635f3915af050", ReportParams().identity(exclude={"show_texts"})),
]


@pytest.mark.parametrize(("digest", "identity"), FROZEN, ids=[digest[:8] for digest, _ in FROZEN])
def test_digests_are_those_of_the_first_release(digest: str, identity: dict[str, object]) -> None:
    assert digest_of(identity) == digest


def test_a_former_name_is_taken_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        params = TrainingParams.model_validate({"schedule": "cosine"})
    assert params.lr_scheduler_type == "cosine"
    assert caplog.messages == ["The field schedule is now called lr_scheduler_type"]
    caplog.clear()
    TrainingParams.model_validate(params.model_dump())
    assert not caplog.messages


def test_both_names_at_once_are_an_error() -> None:
    with pytest.raises(
        ValidationError, match="schedule is the former name of lr_scheduler_type: set only"
    ):
        TrainingParams.model_validate({"schedule": "cosine", "lr_scheduler_type": "linear"})


def test_former_names_stand_beside_a_recipe() -> None:
    given = {"recipe": "quick", "training": {"warmup_share": 0.3}}
    params = RetrainParams.model_validate(given)
    assert params.training.warmup_ratio == 0.3
    assert with_current_names(RetrainParams, given)["training"] == {"warmup_ratio": 0.3}


def test_every_former_name_is_no_field_of_its_form() -> None:
    """Otherwise the same word would mean two things."""
    forms: list[type[Form]] = [Form]
    for form in forms:
        forms += form.__subclasses__()
    renamed = [(form, names) for form in forms if (names := form.former_names)]
    assert len(renamed) >= 8
    for form, names in renamed:
        assert set(names) <= set(form.model_fields), form
        assert not set(names.values()) & set(form.model_fields), form


def test_former_paths_lead_to_fields() -> None:
    paths = former_paths(RetrainParams)
    assert paths["training.kept_layers"] == "training.num_layers"
    assert paths["gate.plausibility.max_overlap_share"] == "gate.plausibility.max_overlap_fraction"
    assert former_paths(ScoreShardsParams) == {"place": "run"}
    assert former_paths(FineTuneParams)["pretraining.mask_share"] == "pretraining.mlm_probability"
    assert former_paths(TuneParams)["distillation"] == ""
    assert former_paths(SourceParams) == {}


def test_removed_fields_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    given = {"recipe": "quick", "distillation": {"teacher": "reviews/3"}}
    with caplog.at_level(logging.WARNING):
        params = RetrainParams.model_validate(given)
    assert params == RetrainParams(recipe="quick")
    assert caplog.messages == [
        "The field distillation is no longer part of Nightshift, and is left out"
    ]


def test_no_form_has_a_removed_field() -> None:
    forms: list[type[Form]] = [Form]
    for form in forms:
        forms += form.__subclasses__()
    shortened = [form for form in forms if form.removed_fields]
    assert {RetrainParams, TuneParams, FineTuneParams} <= set(shortened)
    for form in shortened:
        assert not form.removed_fields & {*form.model_fields, *form.former_names.values()}, form


def test_removed_engines_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        asked = EngineChoiceParams.model_validate({"candidates": ["torch", "onnx", "openvino"]})
    assert asked.candidates == ["torch", "openvino"]
    assert caplog.messages == ["The engine onnx is no longer part of Nightshift, and is left out"]
    assert EngineParams.model_validate({"engine": "cascade-torch"}).engine == "auto"
    with pytest.raises(ValidationError, match="Input should be"):
        EngineChoiceParams.model_validate({"candidates": [["torch"]]})
