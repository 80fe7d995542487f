"""The gate within the flow, on real servers: one frozen test set, slices, people, and others who promote meanwhile."""

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from flows import concluding
from flows.fine_tune import train
from flows.parameters import PromoteParams, RetrainParams, RollbackParams
from flows.promote import promote
from flows.retrain import prepare, retrain
from flows.rollback import rollback
from tasks.connect import model_registry
from tasks.connectors.model_registry import ModelRegistry
from tasks.connectors.object_store import ObjectStore
from tasks.core.errors import ModelError, RegistryAwayError, SettingsError
from tasks.promotion import champions, find_champion, move_champion, move_log
from tasks.steps import fetched
from tests.flows.test_approval import answer
from tests.flows.test_retrain_and_score import deliver, params
from tests.reviews import jsonl, reviews

pytestmark = pytest.mark.prefect


@flow(name="only-train", validate_parameters=False)
def trained(given: RetrainParams) -> None:
    prepared = prepare(given)
    train(prepared.tokens, prepared.base, given.tokenization, given.training)


# Of models as good as each other, so that chance does not decide what a test is about.
LENIENT: dict[str, Any] = {
    "gate__champion": {"margin": 0.2, "widest_margin": 0.3},
    "gate__slices": {"margin": 1.0},
    "gate__behaviour": {"margin": 1.0, "max_single_rise": 1.0},
    "gate__limits": {"maximum_calibration_error": 1.0},
    "gate__plausibility": {"max_gain_over_validation": 1.0, "max_overlap_share": 1.0},
}


def tags(name: str, version: str) -> dict[str, str]:
    found = model_registry().resolve(name, version)
    assert found
    return model_registry().tags_of(found)


def test_the_test_set_stays_when_the_data_grows(
    services: ObjectStore, prefix: str, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="tasks")
    place = f"{prefix}/labelled/one.jsonl"
    services.write_bytes(jsonl(reviews(300, 1)), place)
    first = retrain(params(bert, f"{prefix}/labelled", "frozen"))
    services.write_bytes(jsonl(reviews(300, 1) + reviews(200, 2)), place)
    second = retrain(params(bert, f"{prefix}/labelled", "frozen"))
    assert second.train_rows > first.train_rows
    assert second.evaluation.test_digest == first.evaluation.test_digest
    assert caplog.text.count("that were drawn by an earlier run") == 1

    again = params(bert, f"{prefix}/labelled", "frozen", data__split__new_test_set=True)
    third = retrain(again)
    assert third.evaluation.test_digest != first.evaluation.test_digest
    assert third.evaluation.rows == 100  # a fifth of the data there is now
    fourth = retrain(params(bert, f"{prefix}/labelled", "frozen"))
    assert fourth.evaluation.test_digest == third.evaluation.test_digest


def test_a_champion_is_scored_once_for_each_test_set(
    services: ObjectStore, prefix: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []
    real = concluding.face_champion.fn.__globals__["opened"]
    import tasks.evaluation as evaluation

    def counted(model: Any, names: list[str]) -> Any:
        scored.append(str(model) if hasattr(model, "version") else "trained")
        return real(model, names)

    monkeypatch.setattr(evaluation, "opened", counted)
    location = deliver(services, prefix)
    retrain(params(bert, location, "once"))
    retrain(params(bert, location, "once", training__seed=7))
    assert scored == ["trained", "trained"]  # the champion's answers were kept
    retrain(params(bert, location, "once", data__split__limit_test_rows=40))
    # The first training's model on the new test set, and what is champion by then, if that is another.
    assert len(scored) in (3, 4)


def test_a_user_s_column_finds_what_the_average_hides(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    def rows(count: int, seed: int, spoilt: bool) -> bytes:
        lines: list[str] = []
        for index, (text, label) in enumerate(reviews(count, seed)):
            shop = "north" if index % 4 else "south"
            if shop == "south":
                text = text.replace("the ", "die ")  # so that a model can tell them apart
                if spoilt:
                    label = {"NEGATIVE": "POSITIVE", "POSITIVE": "NEGATIVE"}[label]
            lines.append(json.dumps({"text": text, "label": label, "shop": shop}))
        return "\n".join(lines).encode()

    def deliver_shops(folder: str, spoilt: bool) -> str:
        services.write_bytes(rows(600, 1, spoilt), f"{prefix}/{folder}/train.jsonl")
        services.write_bytes(rows(400, 2, False), f"{prefix}/{folder}/test.jsonl")
        return f"{prefix}/{folder}"

    changed = LENIENT | {
        "data__source__slice_columns": ["shop"],
        "training__epochs": 6,
        "gate__slices": {"margin": 0.03},
    }
    first = retrain(params(bert, deliver_shops("good", False), "shops", **changed))
    assert first.promoted
    second = retrain(params(bert, deliver_shops("bad", True), "shops", **changed))
    assert not second.promoted
    (slices,) = [c for c in second.verdict.failed if "slice" in c.name]
    assert "shop south" in slices.text
    assert tags("shops", second.version.version)["nightshift.gate"] == "refused"
    assert find_champion.fn("shops") == first.version.model_copy(update={"reused": False})


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
    real, calls = concluding.register_model, []

    def meanwhile(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            move_champion.fn(other, "promote", "Bob", "He was faster.", find_champion.fn("crowded"))
        return real(*given)

    monkeypatch.setattr(concluding, "register_model", meanwhile)
    third = retrain(params(bert, location, "crowded", **LENIENT, training__seed=5))
    assert len(calls) == 2 and "the model is judged again" in caplog.text
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
            raise RegistryAwayError("MLflow does not answer")
        real(self, version, alias)

    monkeypatch.setattr("tasks.steps._OUTAGE", [])
    monkeypatch.setattr(ModelRegistry, "set_alias", away)
    monkeypatch.setattr(concluding, "move_champion", move_champion.with_options(retries=0))
    with pytest.raises(RegistryAwayError):
        retrain(params(bert, location, "dies", **LENIENT))
    assert model_registry().resolve("dies", "champion") is None
    monkeypatch.setattr(ModelRegistry, "set_alias", real)
    found = find_champion.fn("dies")
    assert found and found.version == "1"
    assert model_registry().resolve("dies", "champion") == found
    assert champions().settle("dies").champion == found


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


def test_a_wrong_file_of_checks_is_found_before_anything_is_spent(
    services: ObjectStore, prefix: str, bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"cannot be read.*behaviour.checks"):
        retrain(params(bert, "nowhere", "checks", behaviour__checks=str(tmp_path / "none.yaml")))
    (tmp_path / "bad.yaml").write_text("checks: [{name: a, kind: unheard}]")
    with pytest.raises(SettingsError, match=r"bad.yaml"):
        retrain(params(bert, "nowhere", "checks", behaviour__checks=str(tmp_path / "bad.yaml")))


def test_what_people_took_back_does_not_come_back_by_itself(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix, seed=31)
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
    location = deliver(services, prefix, seed=32)
    retrain(params(bert, location, "once-back", **LENIENT))
    retrain(params(bert, location, "once-back", **LENIENT, training__seed=3))
    never = params(bert, location, "once-back", **LENIENT, training__seed=4, gate__promote=False)
    assert not retrain(never).promoted
    with pytest.raises(ModelError, match=r"version 3 has never been champion.*use promote"):
        rollback(RollbackParams(model_name="once-back", who="Ann", reason="to try", to_version="3"))
    rollback(RollbackParams(model_name="once-back", who="Ann", reason="complaints"))
    with pytest.raises(ModelError, match=r"Ann has rolled back from version 2 to 1.*name the ver"):
        rollback(RollbackParams(model_name="once-back", who="Bob", reason="complaints too"))
    back = rollback(
        RollbackParams(model_name="once-back", who="Bob", reason="no, it is", to_version="2")
    )
    assert (back.from_version, back.to_version) == ("1", "2")


def test_a_champion_that_knows_the_test_set_is_not_compared_on_it(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    services.write_bytes(jsonl(reviews(400, 33)), f"{prefix}/labelled/one.jsonl")
    place = f"{prefix}/labelled"
    assert retrain(params(bert, place, "knows", **LENIENT)).promoted
    lenient = LENIENT | {"gate__plausibility": {"max_overlap_share": 0.05}}
    again = params(
        bert, place, "knows", **lenient, data__split__new_test_set=True, data__split__seed=7
    )
    second = retrain(again)
    (clause,) = [c for c in second.verdict.failed if c.name == "comparable with the champion"]
    assert "are among those that it was trained on" in clause.text and not second.promoted


def test_after_the_champion_is_deleted_the_one_before_it_is_to_be_beaten(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix, seed=34)
    retrain(params(bert, location, "lost", **LENIENT))
    second = retrain(params(bert, location, "lost", **LENIENT, training__seed=3))
    assert second.promoted
    model_registry()._client.delete_model_version("lost", "2")
    third = retrain(params(bert, location, "lost", **LENIENT, training__seed=4))
    (clause,) = [c for c in third.verdict.clauses if c.name == "not worse than the champion"]
    assert "lost version 1" in clause.text and third.promoted


def test_checks_are_those_of_the_beginning_of_the_run(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    own = """
checks:
  - name: own sentence
    kind: MFT
    description: One sentence.
    templates: ["The plot was superb."]
    label: positive
"""
    place = f"{prefix}/checks.yaml"
    services.write_bytes(own.encode(), place)
    given = params(
        bert, deliver(services, prefix), "own-checks", behaviour__checks=place, **LENIENT
    )
    done = retrain(given)
    services.delete(place)  # while a person thinks it over, say
    lineage = json.loads(tags("own-checks", done.version.version)["nightshift.lineage"])
    with fetched(lineage["checks"], "checks.yaml") as folder:
        assert (folder / "checks.yaml").read_text() == own
    with fetched(lineage["behaviour"], "behaviour.json") as folder:
        assert "own sentence" in (folder / "behaviour.json").read_text()
