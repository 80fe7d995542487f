"""`_SUCCESS` beside predictions: when it stands, when it may be taken, and what runs and stores cannot make it say."""

import json
from typing import Any

import pytest

from tasks.connect import exact_objects
from tasks.connectors.exact_objects import ExactObjects
from tasks.core.score_results import ScoreSummary
from tasks.score_finishing import finish_scoring
from tasks.score_planning import plan_scoring
from tasks.score_proof import verify_run
from tasks.score_success import why_not_success
from tests.faults.worker import run_to_end
from tests.flows.conftest import Night
from tests.flows.test_overlaps import begun, put, rows
from tests.races.gaps import Held
from tests.races.successes import Successes, ignored


@pytest.fixture
def place(empty_night: Night) -> Night:
    """Nothing is there yet."""
    return empty_night


def why_not(night: Night) -> str:
    """Why a reader may not take `_SUCCESS`."""
    return why_not_success(exact_objects(), night.root)


def finished(planned: Any) -> ScoreSummary:
    return finish_scoring.fn(planned.place, 0.0)


def test_a_success_says_which_plan_and_which_listing_it_proves(place: Night) -> None:
    assert why_not(place) == "there is no _SUCCESS"
    put(place, "a.jsonl", rows("A", 20, bad_every=5))
    put(place, "large.jsonl", rows("A", 2000))
    summary = run_to_end(place.draft("one"))
    assert len(summary.plan_digest) == 32 and len(summary.listing_digest) == 64
    proof = verify_run.fn(summary.place)
    assert proof.complete and proof.success == "" == why_not(place)
    assert run_to_end(place.draft("two")).listing_digest == summary.listing_digest
    place.store.delete(f"{place.root}/a.jsonl")
    assert why_not(place) == "predictions were written or removed after it"
    assert verify_run.fn(summary.place).success == why_not(place)


def test_lists_that_were_changed_are_not_proven(place: Night) -> None:
    put(place, "a.jsonl", rows("A", 20))
    summary = run_to_end(place.draft("one"))
    (shard,) = [o for o in place.store.scan(summary.place) if "/shards/" in o.uri]
    listed = json.loads(place.store.read_bytes(shard.uri) or b"")
    place.store.write_bytes(json.dumps(listed | {"bundles": []}).encode(), shard.uri)
    proof = verify_run.fn(summary.place)
    assert not proof.complete and "not those that were frozen" in proof.problems[0]


@pytest.mark.parametrize("store_hears_conditions", [True, False])
def test_held_before_any_request_of_its_end(
    place: Night, store_hears_conditions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer run is planned meanwhile: nobody takes `_SUCCESS` before that one has come to its end."""
    if not store_hears_conditions:
        monkeypatch.setattr(ExactObjects, "_keeps_conditions", lambda *_: False)
    gap, newer = 0, list[Any]()
    while True:
        gap += 1
        put(place, f"{gap}.jsonl", rows("A", 2))
        older = begun(place, f"older{gap}")

        def plan(gap: int = gap) -> None:
            put(place, f"{gap}-newer.jsonl", rows("B", 2))
            newer.append(begun(place, f"newer{gap}"))

        held = Held(gap, plan)
        with held.watch():
            assert finished(older).complete
        if len(newer) < gap:
            break
        assert why_not(place), f"held before {held.requests[gap - 1]}"
        assert finished(newer[-1]).complete
        assert why_not(place) == "", f"held before {held.requests[gap - 1]}"
    assert gap > 8


def test_a_run_that_dies_is_superseded_by_the_next(place: Night) -> None:
    put(place, "a.jsonl", rows("A", 3))
    run_to_end(place.draft("one"))
    put(place, "b.jsonl", rows("B", 3))
    begun(place, "dies")
    place.store.write_bytes(b"{}", f"{place.root}/_SUCCESS")
    assert why_not(place) == "there is an _INCOMPLETE beside it"
    place.store.delete(f"{place.root}/_INCOMPLETE")
    assert "a run is under way, failed or died" in why_not(place)
    assert run_to_end(place.draft("next")).complete and why_not(place) == ""
    assert not list(place.store.scan(f"{place.root}/_unfinished/"))


def test_a_run_that_was_superseded_says_nothing_any_more(place: Night) -> None:
    """Whether all of it is scored or something failed: the newer run has scored what there is."""
    for bad in (False, True):
        put(place, "a.jsonl", rows("AB"[bad], 3))
        put(place, "b.jsonl", b"\x1f\x8b no gzip" if bad else rows("A", 4))
        older = begun(place, f"older{bad}")
        put(place, "b.jsonl", rows("C", 5))
        newer = run_to_end(place.draft(f"newer{bad}"))
        said = place.store.read_bytes(f"{place.root}/_SUCCESS")
        assert newer.complete and why_not(place) == ""
        assert finished(older).complete is not bad
        assert place.store.read_bytes(f"{place.root}/_SUCCESS") == said and why_not(place) == ""


def test_two_that_end_at_one_moment(place: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither saw the other begin; each ends while the other has not: the last one says success."""
    from tasks import score_planning

    put(place, "a.jsonl", rows("A", 3))
    monkeypatch.setattr(score_planning, "unfinished", lambda *_: [])
    one = plan_scoring.fn(place.draft("one"))
    put(place, "b.jsonl", rows("A", 3))
    two = begun(place, "two")
    assert one.objects == 1 and two.objects == 2
    assert finished(two).complete and why_not(place)
    assert run_to_end(place.draft("one")).complete and why_not(place) == ""


def test_a_failed_night_is_mended_by_the_next(place: Night) -> None:
    put(place, "a.jsonl", rows("A", 3))
    put(place, "bad.jsonl.gz", b"\x1f\x8b no gzip")
    for night in ("one", "two"):
        assert run_to_end(place.draft(night)).failed == 1
    assert len(list(place.store.scan(f"{place.root}/_unfinished/"))) == 1, "the newest says it"
    place.store.delete(f"{place.input}bad.jsonl.gz")
    assert run_to_end(place.draft("three")).complete and why_not(place) == ""


def as_before(night: Night, *uris: str) -> None:
    """Records as the version before wrote them, which knew no digests."""
    for uri in uris:
        kept = json.loads(night.store.read_bytes(uri) or b"")
        for name in ("plan_digest", "listing_digest", "supersedes"):
            kept.pop(name, None)
        night.store.write_bytes(json.dumps(kept).encode(), uri)


def test_what_the_version_before_has_left(place: Night) -> None:
    put(place, "a.jsonl", rows("A", 3))
    done = run_to_end(place.draft("one"))
    names = (f"{done.root}/_SUCCESS", f"{done.place}/_SUCCESS", f"{done.place}/manifest.json")
    as_before(place, *names)
    assert why_not(place) == "" and verify_run.fn(done.place).success == ""
    again = run_to_end(place.draft("two"))
    assert (again.objects, again.scored_before) == (0, 1) and why_not(place) == ""
    put(place, "b.jsonl", rows("B", 3))
    dead = begun(place, "dead")
    for mark in list(place.store.scan(f"{place.root}/_unfinished/")):
        place.store.delete(mark.uri)  # it knew none
    as_before(place, f"{dead.place}/manifest.json")
    put(place, "c.jsonl", rows("C", 3))
    assert run_to_end(place.draft("three")).scored == 1 and why_not(place) == ""


@pytest.mark.parametrize("kind", range(4))
def test_a_race_of_make_races(place: Night, kind: int) -> None:
    """One round of it, held in the middle of its end, and on a store that ignores conditions."""
    from tests.races.successes import KINDS

    race = Successes(place.store, place.prefix.rpartition("/")[2])
    number = len(race.requests())
    for gap in (number - 8, number - 3):
        for which in (KINDS[kind], KINDS[kind + 4]):
            request, wrong = race.round(gap, which)
            assert request and wrong == [], which


def test_a_deaf_store_is_deaf(place: Night) -> None:
    objects = exact_objects()
    with ignored():
        objects.store.client.put_object(Bucket="nightshift", Key="deaf", Body=b"1")
        objects.store.client.put_object(Bucket="nightshift", Key="deaf", Body=b"2", IfNoneMatch="*")
    assert objects.store.read_bytes("s3://nightshift/deaf") == b"2"
