"""The same model name, another source: the verdict says so first, and asks the champion's own test set."""

from pathlib import Path

import pytest

from flows.retrain import retrain
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.release.gate.other_test_set import NOT_WORSE_THERE, OTHER
from tasks.core.tags import LINEAGE_TAG
from tasks.registry.champion import find_champion
from tasks.runtime.clients import prepared_store
from tests.retraining import LENIENT, params
from tests.reviews import jsonl, reviews

pytestmark = pytest.mark.prefect
STRICT = LENIENT | {"gate__champion": {"margin": 0.05, "widest_margin": 0.1}}
OVERLAPS = LENIENT | {"gate__plausibility": {"max_gain_over_validation": 1.0}}


def deliver(store: ObjectStore, folder: str, seed: int, upside_down: bool = False) -> str:
    """Reviews; of a source that is upside down, what others praise is called negative."""
    for name, count, shift in (("train", 300, 0), ("test", 200, 1)):
        rows = reviews(count, seed + shift)
        turned = {"NEGATIVE": "POSITIVE", "POSITIVE": "NEGATIVE"}
        given = [(text, turned[label] if upside_down else label) for text, label in rows]
        store.write_bytes(jsonl(given), f"{folder}/{name}.jsonl")
    return folder


def test_a_model_that_loses_what_the_champion_is_for_stays_challenger(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    here, there = deliver(services, f"{prefix}/here", 101), f"{prefix}/there"
    first = retrain(params(bert, here, "sources", **STRICT))
    assert first.promoted and OTHER not in [clause.name for clause in first.verdict.clauses]
    second = retrain(params(bert, deliver(services, there, 111, True), "sources", **STRICT))
    told = second.verdict.clauses[0]
    assert (told.name, told.passed) == (OTHER, True) and not second.promoted
    for part in ("both differ from the champion's", here, there, "judged on 200 others"):
        assert part in told.text
    failed = {clause.name: clause.text for clause in second.verdict.failed}
    assert list(failed) == [NOT_WORSE_THERE], str(second.verdict)
    assert "'promote --model-name=sources --who=NAME" in failed[NOT_WORSE_THERE]
    assert find_champion.fn("sources") == first.version.model_copy(update={"reused": False})


@pytest.mark.slow
def test_another_source_of_the_same_kind_keeps_what_the_champion_can_do(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    assert retrain(
        params(bert, deliver(services, f"{prefix}/here", 101), "kinds", **STRICT)
    ).promoted
    third = retrain(params(bert, deliver(services, f"{prefix}/third", 121), "kinds", **LENIENT))
    clauses = {clause.name: clause for clause in third.verdict.clauses}
    assert clauses[NOT_WORSE_THERE].passed and "on its 200 reviews" in clauses[NOT_WORSE_THERE].text
    assert third.promoted, str(third.verdict)

    # Where the old test set is gone, that is said.
    for item in prepared_store().store.list(f"{_split_of(third.version)}/"):
        services.delete(item.uri)
    fourth = retrain(params(bert, deliver(services, f"{prefix}/fourth", 131), "kinds", **LENIENT))
    clauses = {clause.name: clause for clause in fourth.verdict.clauses}
    assert "are no longer in the object store" in clauses[NOT_WORSE_THERE].text
    assert any(
        "accuracy on the champion's test set is unknown" in said for said in fourth.verdict.warnings
    )


@pytest.mark.slow
def test_a_model_that_learned_from_the_old_test_set_is_not_judged_on_it(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    here = deliver(services, f"{prefix}/here", 141)
    assert retrain(params(bert, here, "learned", **LENIENT)).promoted
    services.write_bytes(jsonl(reviews(300, 151) + reviews(200, 142)), f"{prefix}/more/train.jsonl")
    services.write_bytes(jsonl(reviews(200, 152)), f"{prefix}/more/test.jsonl")
    second = retrain(params(bert, f"{prefix}/more", "learned", **OVERLAPS))
    clauses = {clause.name: clause for clause in second.verdict.clauses}
    assert "not compared there: 200 of its 200 reviews" in clauses[NOT_WORSE_THERE].text
    assert "in what the new model was trained on" in clauses[NOT_WORSE_THERE].text


def _split_of(version: object) -> str:
    import json

    from tasks.core.records import ModelVersion
    from tasks.runtime.clients import model_registry

    assert isinstance(version, ModelVersion)
    return str(json.loads(model_registry().tags_of(version)[LINEAGE_TAG])["split"])
