"""A retraining takes the step, reuses it, and trace finds it."""

import json
from pathlib import Path

import pytest

from flows.forms.scoring import TraceParams
from flows.retrain import retrain
from flows.trace_prediction import trace
from tasks.connectors.storage.object_store import ObjectStore
from tests.retraining import deliver, params, tags

pytestmark = pytest.mark.prefect


def test_a_retraining_takes_the_step(services: ObjectStore, prefix: str, bert: Path) -> None:
    given = params(bert, deliver(services, prefix), "shortened")
    first = retrain(given)
    lineage = json.loads(tags("shortened", first.version.version)["nightshift.lineage"])
    assert "/prepared/shortened/" in lineage["shortened"]
    assert "shortened" in retrain(given).steps_reused
    traced = trace(TraceParams(start=lineage["shortened"]))
    assert traced.facts["shortened: left_out"] == "0"
    assert any("version shortened/1" in line for line in traced.downstream)
