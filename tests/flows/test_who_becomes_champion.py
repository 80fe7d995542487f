"""Who becomes champion in the end, on real servers: people, others who promote meanwhile, deaths, versions deleted."""

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from flows.fine_tune import train
from flows.forms.pipelines import RetrainParams
from flows.forms.registry import PromoteParams, RollbackParams
from flows.promote import promote
from flows.retrain import retrain
from flows.rollback import rollback
from flows.stages import release
from flows.stages.preparation import prepare
from tasks.connectors.storage.object_store import ObjectStore
from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.core.errors import ModelError, RegistryUnavailableError
from tasks.registry.champion import find_champion, move_champion
from tasks.runtime.clients import champions, model_registry, move_log
from tests.flows.test_approval import answer
from tests.retraining import LENIENT, deliver, params, tags

pytestmark = pytest.mark.prefect


@flow(name="only-train", validate_parameters=False)
def trained(given: RetrainParams) -> None:
    prepared = prepare(given)
    train(prepared.tokens, prepared.base, given.tokenization, given.training)


@pytest.mark.parametrize("decision", ["Approve", "Reject"])
def test_a_person_has_the_last_word(
    services: ObjectStore, prefix: str, bert: Path, decision: str
) -> None:
    name = f"asked-{decision.lower()}"
    said = {"decision": decision, "name": "Ann Example", "comment": "I have read the report."}
    person = threading.Thread(target=answer, args=(said, []))
    person.start()
    done = retrain(
        params(bert, deliver(services, prefix), name, approval__required=True, **LENIENT)
    )
    person.join()
    assert done.promoted is (decision == "Approve")
    moves = move_log().moves(name)
    if done.promoted:
        (move,) = moves
        assert (move.kind, move.who, move.why) == ("approval", "Ann Example", said["comment"])
        assert "/prepared/verdict/" in move.evidence
    else:
        assert moves == [] and model_registry().resolve(name, "champion") is None
        kept = tags(name, "1")["nightshift.decision"]
        assert kept == "stays challenger: rejected by Ann Example: I have read the report."


@pytest.mark.slow
def test_another_champion_by_then_means_judged_again(
    services: ObjectStore,
    prefix: str,
    bert: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    location = deliver(services, prefix)
    first = retrain(params(bert, location, "crowded", **LENIENT))
    second = retrain(params(bert, location, "crowded", **LENIENT, training__seed=3))
    before = find_champion.fn("crowded")
    other = first.version if before and before.version == second.version.version else second.version
    real, calls = release.register_model, []

    def meanwhile(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            move_champion.fn(other, "promote", "Bob", "He was faster.", find_champion.fn("crowded"))
        return real(*given)

    monkeypatch.setattr(release, "register_model", meanwhile)
    third = retrain(params(bert, location, "crowded", **LENIENT, training__seed=5))
    assert len(calls) == 2 and "judging the model again" in caplog.text
    (clause,) = [c for c in third.verdict.clauses if c.name == "not worse than the champion"]
    assert str(other) in clause.text
    moves = move_log().moves("crowded")
    assert [m.number for m in moves] == list(range(1, len(moves) + 1))
    if third.promoted:
        assert moves[-1].from_version == other.version


def test_two_retrainings_at_once_leave_one_history(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix)
    given = [params(bert, location, "twice", **LENIENT, training__seed=seed) for seed in (11, 12)]
    for one in given:  # trained before: transformers does not train in two threads of a process
        trained(one)
    made: list[Any] = []

    def run(one: RetrainParams) -> None:
        made.append(retrain(one))

    both = [threading.Thread(target=run, args=(one,)) for one in given]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(made) == 2 and len({done.version.version for done in made}) == 2
    moves = move_log().moves("twice")
    assert [m.number for m in moves] == list(range(1, len(moves) + 1)) and moves
    assert moves[0].from_version == "" and all(
        later.from_version == earlier.to_version for earlier, later in itertools.pairwise(moves)
    )
    champion = model_registry().resolve("twice", "champion")
    assert champion and champion.version == moves[-1].to_version


def test_mlflow_dies_between_registration_and_alias(
    services: ObjectStore, prefix: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision stands in the move log; whoever comes next ends what it says."""
    location = deliver(services, prefix)
    real = ModelRegistry.set_alias

    def away(self: Any, version: Any, alias: str) -> None:
        if alias == "champion":
            raise RegistryUnavailableError("MLflow does not answer")
        real(self, version, alias)

    monkeypatch.setattr("tasks.runtime.steps._RETRY_DELAYS", [])
    monkeypatch.setattr(ModelRegistry, "set_alias", away)
    monkeypatch.setattr(release, "move_champion", move_champion.with_options(retries=0))
    with pytest.raises(RegistryUnavailableError):
        retrain(params(bert, location, "dies", **LENIENT))
    assert model_registry().resolve("dies", "champion") is None
    monkeypatch.setattr(ModelRegistry, "set_alias", real)
    found = find_champion.fn("dies")
    assert found and found.version == "1"
    assert model_registry().resolve("dies", "champion") == found
    assert champions().reconcile("dies").champion == found


@pytest.mark.slow
def test_a_champion_deleted_by_hand_is_no_reason_to_stop(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix)
    first = retrain(params(bert, location, "gone", **LENIENT))
    assert first.promoted
    model_registry()._client.delete_model_version("gone", first.version.version)
    second = retrain(params(bert, location, "gone", **LENIENT, training__seed=3))
    assert second.promoted
    kinds = [(m.kind, m.from_version, m.to_version) for m in move_log().moves("gone")]
    assert kinds == [("gate", "", "1"), ("by hand", "1", ""), ("gate", "", "2")]


@pytest.mark.slow
def test_what_people_took_back_does_not_come_back_by_itself(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix)
    first = retrain(params(bert, location, "back", **LENIENT))
    given = params(bert, location, "back", **LENIENT, training__seed=3)
    second = retrain(given)
    assert first.promoted and second.promoted
    rollback(RollbackParams(model_name="back", who="Ann", reason="complaints"))
    again = retrain(given)  # as the schedule does, with nothing new
    assert again.version.version == second.version.version and not again.promoted
    kept = tags("back", second.version.version)["nightshift.decision"]
    assert kept == "stays challenger: move 3 (rollback by Ann) took it back: complaints"
    with pytest.raises(ModelError, match=r"People have decided against back version 2.*overrule"):
        promote(PromoteParams(model_name="back", version="2", who="Bob", reason="I want it"))
    moved = promote(
        PromoteParams(model_name="back", version="2", who="Bob", reason="mended", overrule=True)
    )
    assert moved.kind == "overrule"
    assert tags("back", "2")["nightshift.decision"] == "champion, overrule by Bob: mended"
    assert retrain(given).promoted  # it is the champion


def test_one_rolls_back_to_what_was_champion_and_only_once(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix)
    retrain(params(bert, location, "once-back", **LENIENT))
    retrain(params(bert, location, "once-back", **LENIENT, training__seed=3))
    never = params(bert, location, "once-back", **LENIENT, training__seed=4, gate__promote=False)
    assert not retrain(never).promoted
    with pytest.raises(ModelError, match=r"version 3 has never been champion.*use promote"):
        rollback(RollbackParams(model_name="once-back", who="Ann", reason="to try", to_version="3"))
    rollback(RollbackParams(model_name="once-back", who="Ann", reason="complaints"))
    with pytest.raises(
        ModelError, match=r"Ann rolled back from version 2 to version 1 .*name the version: 2"
    ):
        rollback(RollbackParams(model_name="once-back", who="Bob", reason="complaints too"))
    back = rollback(
        RollbackParams(model_name="once-back", who="Bob", reason="no, it is", to_version="2")
    )
    assert (back.from_version, back.to_version) == ("1", "2")


@pytest.mark.slow
def test_after_the_champion_is_deleted_the_one_before_it_is_to_be_beaten(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix)
    retrain(params(bert, location, "lost", **LENIENT))
    second = retrain(params(bert, location, "lost", **LENIENT, training__seed=3))
    assert second.promoted
    model_registry()._client.delete_model_version("lost", "2")
    third = retrain(params(bert, location, "lost", **LENIENT, training__seed=4))
    (clause,) = [c for c in third.verdict.clauses if c.name == "not worse than the champion"]
    assert "lost version 1" in clause.text and third.promoted
