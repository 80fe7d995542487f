"""What trace tells of one prediction."""

import io

import pytest

from tasks.connectors.storage.conditional_reads import FINGERPRINT
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.formats import writing
from tasks.lineage.tracing import _of_predictions
from tasks.runtime.clients import exact_objects
from tasks.scoring.store.commit import RUN
from tests.core.scoring.scoring_runs import scoring_run


@pytest.mark.parametrize("guards", [True, False])
@pytest.mark.parametrize("plan", ["kept", "gone", "of another version"])
def test_a_cell_loses_no_apostrophe_but_the_guards(
    guards: bool, plan: str, services: ObjectStore, prefix: str
) -> None:
    run = scoring_run(output=f"{prefix}/{guards}/{plan[:1]}/", csv_formula_guard=guards)
    if plan != "gone":
        content = run.model_dump_json().encode() if plan == "kept" else b"{}"
        services.write_bytes(content, f"{run.place}/manifest.json")
    stream, columns = io.BytesIO(), ["input", "row", "id", "label", "score"]
    row = dict(zip(columns, ("x.csv", 1, "'=x", "=y", 0.5), strict=True))
    writing.encode("x.csv", [row], columns, stream, guard=guards)
    uri = f"{run.root}/x.csv"
    said = {RUN: run.run, "rows": "1,1,0", FINGERPRINT: "0"}
    exact_objects().write(stream.getvalue(), uri, said, None)
    facts, place = _of_predictions(uri, run.root, 1)
    assert place == run.place
    as_it_lies = guards and plan != "kept"
    assert (facts["id"], facts["label"]) == (("''=x", "'=y") if as_it_lies else ("'=x", "=y"))
