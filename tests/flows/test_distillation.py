"""A student of a registered teacher on real servers: what is registered, what is reused, who may not teach."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from prefect import flow

from flows.fine_tune import fine_tune
from flows.forms.pipelines import FineTuneParams, RetrainParams
from flows.forms.scoring import TraceParams
from flows.retrain import retrain
from flows.stages.preparation import Prepared, prepare
from flows.stages.results import Retrained
from flows.trace_prediction import trace
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.data import tables
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import MissingDataError, ModelError, SettingsError
from tasks.core.lineage.parts import RegisteredVersion, tagged
from tasks.core.models import classifier, folders
from tasks.core.tags import TEACHER_TAG
from tasks.core.training.records import TeacherLogitsSummary
from tasks.core.training.tuning.sweep import PrunedTraining
from tasks.runtime.clients import model_registry, prepared_store
from tasks.runtime.steps import fetched
from tests.retraining import LENIENT, deliver, params, tags
from tests.reviews import jsonl, reviews

pytestmark = pytest.mark.prefect


def lessons_of(done: Retrained) -> str:
    kept = tags(done.version.name, done.version.version)
    return tagged(RegisteredVersion(done.version.name, done.version.version, "", "", kept)).get(
        "lessons", ""
    )


def said(uri: str) -> np.ndarray[Any, Any]:
    with fetched(uri) as folder:
        column = pq.read_table(folder / "lessons.parquet").column("teacher_logits")
        return np.array(column.to_pylist(), dtype=np.float32)


def asked_anew(done: Retrained, split: str) -> np.ndarray[Any, Any]:
    """The teacher's logits of the training rows, computed without any of what is tested."""
    with fetched(done.model_uri) as folder, fetched(split, "train.parquet") as rows:
        teacher = classifier.load(folder)
        texts = [r.text for r in tables.read_labelled(rows / "train.parquet")]
        return TorchEngine(teacher).logits(teacher.encoder.encode(texts).input_ids)


def test_a_student_of_a_registered_teacher(
    services: ObjectStore,
    prefix: str,
    bert: Path,
    gpt2: Path,
    tracking_uri: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="tasks")
    location = deliver(services, prefix, seed=31)
    teacher = retrain(params(gpt2, location, "teacher"))  # with a tokenizer of its own
    assert TEACHER_TAG not in tags("teacher", "1") and lessons_of(teacher) == ""

    changed: dict[str, Any] = LENIENT | {
        "training__kept_layers": 1,
        "distillation__teacher": "teacher/champion",
    }
    given = params(bert, location, "student", **changed)
    student = retrain(given)
    assert student.evaluation.metrics["accuracy"].value > 0.8
    assert tags("student", "1")[TEACHER_TAG] == "teacher/1"
    run: Any = MlflowClient(tracking_uri).get_run(student.version.run_id).data
    assert run.tags[TEACHER_TAG] == "teacher/1" and run.params["teacher"] == "teacher/1"
    assert run.params["distillation_weight"] == "0.5" and run.params["num_layers"] == "1"
    with fetched(student.model_uri) as folder:
        assert folders.depth(folder) == 1
    assert "teacher version 1 agrees with the labels of" in caplog.text
    assert "Evening 31-" not in caplog.text  # no review's text

    teacher_logits = lessons_of(student)
    kept = prepared_store().reference(teacher_logits, TeacherLogitsSummary).summary
    assert kept.teacher == "teacher/1" and kept.agreement > 0.8
    split = tagged(RegisteredVersion("student", "1", "", "", tags("student", "1")))["split"]
    expected = asked_anew(teacher, split)
    assert said(teacher_logits).shape == expected.shape == (kept.rows, 2)
    assert np.allclose(said(teacher_logits), expected, atol=0.05)

    again = retrain(given)
    assert {"lessons", "model"} <= set(again.steps_reused) and again.version.version == "1"
    hotter = retrain(given.model_copy(update={"distillation": warmer(given)}))
    assert "lessons" in hotter.steps_reused and "model" not in hotter.steps_reused
    assert lessons_of(hotter) == teacher_logits and hotter.version.version == "2"

    found = trace(TraceParams(start="student/1"))
    assert any("lessons" in line and "teacher/1" in line for line in found.upstream)
    assert any(line.lstrip().startswith("model ") and "gpt2" in line for line in found.upstream)


@flow(name="only-prepare", validate_parameters=False)
def only_prepare(given: RetrainParams) -> Prepared:
    """What `retrain` does first; in a flow, as steps log to their run's page."""
    return prepare(given)


def warmer(given: RetrainParams) -> Any:
    return given.distillation.model_copy(update={"temperature": 4.0})


def test_labels_in_another_order_are_put_in_order(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix, seed=32)
    teacher = retrain(params(bert, location, "ordered"))
    turned = params(
        bert,
        location,
        "turned",
        data__source__label_names=["POSITIVE", "NEGATIVE"],
        distillation__teacher="ordered/1",
    )
    prepared = only_prepare(turned)
    assert (
        prepared.distillation
        and prepared.distillation.teacher_logits.summary.label_names[0] == "POSITIVE"
    )
    expected = asked_anew(teacher, prepared.split.uri)[:, ::-1]
    assert np.allclose(said(prepared.distillation.teacher_logits.uri), expected, atol=0.05)
    assert prepared.distillation.teacher_logits.summary.agreement > 0.8


def test_who_knows_other_labels_or_is_not_there_does_not_teach(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    rows = [(t, {"NEGATIVE": "bad", "POSITIVE": "good"}[label]) for t, label in reviews(160, 33)]
    services.write_bytes(jsonl(rows), f"{prefix}/other/train.jsonl")
    retrain(params(bert, f"{prefix}/other", "stranger"))
    location = deliver(services, prefix, seed=34)
    with pytest.raises(
        ModelError,
        match=r"teacher, stranger version 1, has the labels bad, good, but the reviews have NEGATIVE, POSITIVE "
        r"\[distillation.teacher\]",
    ):
        retrain(params(bert, location, "pupil", distillation__teacher="stranger/1"))
    with pytest.raises(ModelError, match=r"'?9'? of model 'stranger'"):
        retrain(params(bert, location, "pupil", distillation__teacher="stranger/9"))
    assert model_registry().versions("pupil") == []


def test_layers_that_are_not_there_are_missed_before_data_is_loaded(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    with pytest.raises(SettingsError, match=r"and 9 are to be kept \[training.num_layers\]"):
        retrain(params(bert, f"{prefix}/nothing", "pupil", training__kept_layers=9))


@pytest.mark.slow
def test_fine_tune_takes_lessons_by_where_they_lie(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix, seed=35)
    retrain(params(bert, location, "known"))
    given = params(bert, location, "unused", distillation__teacher="known/1")
    prepared = only_prepare(given)
    assert prepared.distillation
    form: dict[str, Any] = {
        "tokens": prepared.tokens.uri,
        "base_model": prepared.base.uri,
        "tokenization": given.tokenization,
        "training": given.training,
        "distillation": {"weight": 1},
    }
    teacher_logits = prepared.distillation.teacher_logits.uri
    model = fine_tune(FineTuneParams.model_validate(form | {"lessons": teacher_logits}))
    assert not isinstance(model, PrunedTraining) and model.summary.teacher == "known/1"
    gone = f"{teacher_logits.rpartition('/')[0]}/{'0' * 32}"
    with pytest.raises(MissingDataError):
        fine_tune(FineTuneParams.model_validate(form | {"lessons": gone}))
    other = only_prepare(params(bert, deliver(services, f"{prefix}/x", seed=36), "unused"))
    with pytest.raises(SettingsError, match="belong to different reviews"):
        fine_tune(
            FineTuneParams.model_validate(
                form | {"lessons": teacher_logits, "tokens": other.tokens.uri}
            )
        )
