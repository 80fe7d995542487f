"""The gate within the flow, on real servers: one frozen test set, slices, checks, a champion that knows too much."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.retrain import retrain
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import SettingsError
from tasks.core.release.gate.minimum_evidence import MORE_REVIEWS
from tasks.evaluation import predictions
from tasks.registry.champion import find_champion
from tasks.registry.models import opened
from tasks.runtime.steps import fetched
from tests.retraining import LENIENT, deliver, params, tags
from tests.reviews import jsonl, reviews

pytestmark = pytest.mark.prefect


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
    assert caplog.text.count("drawn by an earlier run") == 1

    again = params(bert, f"{prefix}/labelled", "frozen", data__split__new_test_set=True)
    third = retrain(again)
    assert third.evaluation.test_digest != first.evaluation.test_digest
    assert third.evaluation.rows == 100  # a fifth of the data there is now
    fourth = retrain(params(bert, f"{prefix}/labelled", "frozen"))
    assert fourth.evaluation.test_digest == third.evaluation.test_digest


@pytest.mark.slow
def test_a_first_model_on_twelve_test_reviews_stays_challenger_until_there_are_more(
    services: ObjectStore, prefix: str, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The test set that was drawn first stays too small, whatever is labelled, until another is drawn."""
    place = f"{prefix}/labelled/one.jsonl"
    asked = {**LENIENT, "gate__first_champion": {}}
    services.write_bytes(jsonl(reviews(60, 71)), place)
    first = retrain(params(bert, f"{prefix}/labelled", "evidence", **asked))
    assert not first.promoted and find_champion.fn("evidence") is None
    assert "88 are missing" in first.verdict.failed[0].text
    assert MORE_REVIEWS in first.verdict.warnings
    assert tags("evidence", "1")["nightshift.gate"] == "refused"
    assert (
        caplog.text.count("A first champion would be refused, as it fails 'enough test reviews")
        == 2
    )

    services.write_bytes(jsonl(reviews(600, 71)), place)
    still = retrain(params(bert, f"{prefix}/labelled", "evidence", **asked))
    assert not still.promoted and still.evaluation.rows == 12
    again = params(bert, f"{prefix}/labelled", "evidence", **asked, data__split__new_test_set=True)
    third = retrain(again)
    assert third.evaluation.rows == 120 and third.promoted, str(third.verdict)


def test_a_champion_is_scored_once_for_each_test_set(
    services: ObjectStore, prefix: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []

    def counted(model: Any, names: list[str]) -> Any:
        scored.append(str(model) if hasattr(model, "version") else "trained")
        return opened(model, names)

    monkeypatch.setattr(predictions, "opened", counted)
    location = deliver(services, prefix, seed=61)  # which no other test has
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


def test_a_wrong_file_of_checks_is_found_before_anything_is_spent(
    services: ObjectStore, prefix: str, bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"cannot be read.*behaviour.checks"):
        retrain(params(bert, "nowhere", "checks", behaviour__checks=str(tmp_path / "none.yaml")))
    (tmp_path / "bad.yaml").write_text("checks: [{name: a, kind: unheard}]")
    with pytest.raises(SettingsError, match=r"bad.yaml"):
        retrain(params(bert, "nowhere", "checks", behaviour__checks=str(tmp_path / "bad.yaml")))


@pytest.mark.slow
def test_a_champion_that_knows_the_test_set_is_not_compared_on_it(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    services.write_bytes(jsonl(reviews(400, 33)), f"{prefix}/labelled/one.jsonl")
    place = f"{prefix}/labelled"
    assert retrain(params(bert, place, "knows", **LENIENT)).promoted
    lenient = LENIENT | {"gate__plausibility": {"max_overlap_fraction": 0.05}}
    again = params(
        bert, place, "knows", **lenient, data__split__new_test_set=True, data__split__seed=7
    )
    second = retrain(again)
    (clause,) = [c for c in second.verdict.failed if c.name == "comparable with the champion"]
    assert "have a near-duplicate in what it was trained on, limit 0.0500" in clause.text
    assert not second.promoted and "'promote --model-name=knows --who=NAME" in clause.text
    (option,) = re.findall(r"--gate\.plausibility\.max-overlap-fraction=(\S+)", clause.text)
    typed = LENIENT | {"gate__plausibility": {"max_overlap_fraction": float(option)}}
    third = retrain(
        params(bert, place, "knows", **typed, data__split__new_test_set=True, data__split__seed=7)
    )
    assert "comparable with the champion" not in [c.name for c in third.verdict.clauses]


@pytest.mark.slow
def test_reviews_nearly_the_same_are_known_to_the_champion_too(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    """By exact text it would know none of them; the candidate's own are counted in the same way."""
    train, test = reviews(300, 81), reviews(100, 82)
    copies = [(text.replace("Evening", "That very evening"), label) for text, label in test[:40]]
    services.write_bytes(jsonl(train + copies), f"{prefix}/labelled/train.jsonl")
    services.write_bytes(jsonl(reviews(100, 83)), f"{prefix}/labelled/test.jsonl")
    place = f"{prefix}/labelled"
    assert retrain(params(bert, place, "nearly", **LENIENT)).promoted
    services.write_bytes(jsonl(test), f"{prefix}/labelled/test.jsonl")
    strict = LENIENT | {"gate__plausibility": {"max_overlap_fraction": 0.05}}
    second = retrain(params(bert, place, "nearly", **strict))
    failed = {clause.name: clause.text for clause in second.verdict.failed}
    counted = r"(\d+) (?:of the )?test reviews \(0\.\d+\) have a near-duplicate in"
    (theirs,) = re.findall(counted, failed["comparable with the champion"])
    (own,) = re.findall(counted, failed["overlap with training"])
    assert theirs == own and 40 <= int(own) < 60
    assert "near-duplicates.csv lists them" in failed["overlap with training"]


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
