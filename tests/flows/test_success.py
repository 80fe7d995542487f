"""`_SUCCESS` beside predictions: when it stands, when it may be taken, and what runs and stores cannot make it say."""

import json
from typing import Any

import pytest

from benchmarks.faults.worker import run_to_end
from benchmarks.races.gaps import Held
from benchmarks.races.successes import KINDS, Successes, ignored
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.core.scoring.results import ScoreSummary
from tasks.runtime.clients import exact_objects
from tasks.scoring.finishing import finish_scoring
from tasks.scoring.planning import plan_scoring
from tasks.scoring.store.success_markers import why_not_success
from tasks.scoring.verification import verify_run
from tests.flows.conftest import Night
from tests.flows.test_overlaps import begun, put, rows


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
    assert not proof.complete and "not those of the plan" in proof.problems[0]


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
    assert why_not(place).startswith("there is an _INCOMPLETE beside it; the run dies over s3://")
    place.store.delete(f"{place.root}/_INCOMPLETE")
    assert why_not(place).startswith(f"the run dies over {place.input} is under way, failed or")
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
    from tasks.scoring import planning

    put(place, "a.jsonl", rows("A", 3))
    monkeypatch.setattr(planning, "replaced_by", lambda *_: [])
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


def marks(night: Night) -> list[str]:
    """Marks of runs that are not finished."""
    return [item.uri for item in night.store.scan(f"{night.root}/_unfinished/")]


def test_a_run_over_another_input_hides_neither_one_under_way_nor_a_failed_one(
    place: Night,
) -> None:
    for name in ("day=1/a.jsonl", "day=2/b.jsonl"):
        put(place, name, rows("A", 3))
    put(place, "day=1/bad.jsonl.gz", b"\x1f\x8b no gzip")
    one, two = (f"{place.input}day={day}/" for day in (1, 2))
    assert run_to_end(place.draft("failed", input=one)).failed == 1
    assert run_to_end(place.draft("good", input=two)).complete
    said = why_not(place)
    assert f"the run failed over {one} is under way, failed or died" in said
    assert "run score again with the same input" in said and marks(place)[0] in said
    place.store.delete(f"{one}bad.jsonl.gz")
    begun_again = begun(place, "under-way", input=one, max_rejected_share=1.0)
    put(place, "day=2/c.jsonl", rows("A", 3))
    assert run_to_end(place.draft("good again", input=two)).complete
    assert verify_run.fn(begun_again.place).success.startswith("there is no _SUCCESS; the run ")
    assert finished(begun_again).complete and why_not(place) == "" and not marks(place)


def test_a_run_with_other_settings_does_not_stand_for_one_that_failed(place: Night) -> None:
    put(place, "a.jsonl", rows("A", 3))
    begun(place, "dies", output_format="csv")
    assert run_to_end(place.draft("other")).complete and "the run dies over" in why_not(place)
    assert run_to_end(place.draft("same", output_format="csv")).complete and why_not(place) == ""


def test_only_a_rescore_stands_for_a_rescore(place: Night) -> None:
    put(place, "a.jsonl", rows("A", 3))
    run_to_end(place.draft("one"))
    dead = begun(place, "dead", rescore=True)
    nothing = run_to_end(place.draft("nothing to score"))
    assert (
        nothing.objects == 0
        and "with the same input, output and settings and scope rescore" in why_not(place)
    )
    assert run_to_end(place.draft("again", rescore=True)).scored == dead.objects
    assert why_not(place) == "" and not marks(place)


def test_a_person_removes_the_mark_of_an_input_that_nobody_needs(place: Night) -> None:
    for name in ("gone/a.jsonl", "kept/b.jsonl"):
        put(place, name, rows("A", 3))
    for end in ("by the mark", "by an empty run"):
        begun(place, f"dies, {end}", input=f"{place.input}gone/", rescore=True)
        kept = place.draft(f"kept, {end}", input=f"{place.input}kept/")
        run_to_end(kept)
        (mark,) = marks(place)
        assert f"remove {mark};" in why_not(place)
        if end == "by the mark":
            place.store.delete(mark)
            run_to_end(kept.model_copy(update={"run": "next"}))
        else:
            place.store.delete(f"{place.input}gone/a.jsonl")
            changed = {"input": f"{place.input}gone/", "rescore": True, "allow_empty": True}
            run_to_end(place.draft("empty", **changed))
        assert why_not(place) == "", end


def test_a_mark_that_says_nothing_stands_for_the_plan_of_its_run(place: Night) -> None:
    for name in ("day=1/a.jsonl", "day=2/b.jsonl"):
        put(place, name, rows("A", 3))
    one, two = (f"{place.input}day={day}/" for day in (1, 2))
    dead = begun(place, "dead", input=one)
    (mark,) = marks(place)
    place.store.write_bytes(b'{"under way":"' + dead.place.encode() + b'"}', mark)
    assert run_to_end(place.draft("other", input=two)).complete
    assert f"the run dead over {one}" in why_not(place)
    assert run_to_end(place.draft("same", input=one)).complete and why_not(place) == ""
    place.store.write_bytes(b"", f"{place.root}/_unfinished/torn.0123")
    assert "the run torn over an input that it does not name" in why_not(place)
    assert run_to_end(place.draft("after it", input=two)).complete
    assert why_not(place) == "", "it had no plan: nothing was scored by it"
    dead = begun(place, "newer", input=one, rescore=True)
    plan = json.loads(place.store.read_bytes(f"{dead.place}/manifest.json") or b"")
    place.store.write_bytes(
        json.dumps(plan | {"unknown": 1}).encode(), f"{dead.place}/manifest.json"
    )
    place.store.write_bytes(b"", marks(place)[0])
    assert run_to_end(place.draft("last", input=one, rescore=True)).complete
    assert "the run newer over an input that it does not name" in why_not(place)


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


@pytest.mark.parametrize("kind", KINDS[: len(KINDS) // 2])
def test_a_race_of_make_races(place: Night, kind: str) -> None:
    """Two rounds of it, held in the middle of its end: on a store as it is, and on one that ignores conditions."""
    race = Successes(place.store, place.prefix.rpartition("/")[2])
    number = len(race.requests(kind))
    deaf = KINDS[KINDS.index(kind) + len(KINDS) // 2]
    for gap, which in ((number - 8, kind), (number - 3, deaf)):
        request, wrong = race.round(gap, which)
        assert request and wrong == [], which


def test_a_deaf_store_is_deaf(place: Night) -> None:
    objects = exact_objects()
    with ignored():
        objects.store.client.put_object(Bucket="nightshift", Key="deaf", Body=b"1")
        objects.store.client.put_object(Bucket="nightshift", Key="deaf", Body=b"2", IfNoneMatch="*")
    assert objects.store.read_bytes("s3://nightshift/deaf") == b"2"
