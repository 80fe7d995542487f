"""What two runs, a restored input, or a death between two steps could spoil: no row is lost, nothing false is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults.worker import ENGINE, draft, run_to_end
from tasks.connectors.storage import conditional_writes as module
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import ForbiddenDataError
from tasks.runtime.clients import exact_objects
from tasks.scoring import finishing, joining, planning
from tasks.scoring.planning import plan_scoring
from tasks.scoring.shards import ShardWork, score_shard
from tasks.scoring.store.run_store import read_result, require_run
from tasks.scoring.verification import verify_run
from tests.flows.conftest import Night


def rows(tag: str, count: int, bad_every: int = 0) -> bytes:
    """Reviews of one version of an input; each `bad_every`-th has no text."""
    texts = [" " if bad_every and n % bad_every == 0 else f"{tag} {n}" for n in range(count)]
    lines = [json.dumps({"id": f"{tag}{n}", "text": text}) for n, text in enumerate(texts)]
    return "".join(line + "\n" for line in lines).encode()


@pytest.fixture
def place(empty_night: Night) -> Night:
    """Nothing is there yet."""
    return empty_night


def put(night: Night, key: str, content: bytes) -> None:
    night.store.write_bytes(content, f"{night.input}{key}")


def tags(night: Night, key: str) -> tuple[str, int, int]:
    """Which version's predictions lie there, how many, and how many rejects belong to them."""
    found = night.rows(key) or []
    (tag,) = {row["id"][0] for row in found}
    return tag, len(found), len(night.rejects(key) or [])


def begun(night: Night, run: str, **changed: Any) -> Any:
    """A run whose shards are scored, and which has not finished."""
    planned = plan_scoring.fn(night.draft(run, **changed))
    for number in range(planned.shards):
        score_shard.fn(planned.place, number, ENGINE)
    return planned


def meanwhile(monkeypatch: pytest.MonkeyPatch, run: str, happens: Callable[[], Any]) -> list[Any]:
    """Something happens once, right before a run commits its first object."""
    original, seen = ShardWork._commit, list[Any]()

    def commit(self: ShardWork, output: Any, before: Any) -> Any:
        if self._run.run == run and not seen:
            seen.append(None)
            seen[0] = happens()
        return original(self, output, before)

    monkeypatch.setattr(ShardWork, "_commit", commit)
    return seen


def test_an_input_that_is_restored(place: Night) -> None:
    """Its rejects are still there after another version of it failed as a whole."""
    good = rows("A", 20, bad_every=5)
    put(place, "a.jsonl", good)
    put(place, "b.jsonl", rows("B", 5))
    run_to_end(place.draft("1", max_rejected_share=0.5))
    put(place, "a.jsonl", b'{"text": ""}\n' * 20)
    assert run_to_end(place.draft("2", max_rejected_share=0.5)).failed == 1
    put(place, "a.jsonl", good)
    third = run_to_end(place.draft("3", max_rejected_share=0.5))
    assert third.complete and tags(place, "a.jsonl") == ("A", 16, 4)


def test_rejects_that_vanished_are_made_again(place: Night) -> None:
    put(place, "a.jsonl", rows("A", 20, bad_every=5))
    run_to_end(place.draft("1"))
    (rejects,) = place.store.list(f"{place.root}/_rejected/")
    place.store.delete(rejects.uri)
    assert not place.verified("1")
    assert run_to_end(place.draft("2")).scored == 1 and tags(place, "a.jsonl") == ("A", 16, 4)


def test_rejects_of_a_large_object_that_vanished(place: Night) -> None:
    put(place, "large.jsonl", rows("A", 2000, bad_every=10))
    run_to_end(place.draft("1"))
    (rejects,) = place.store.list(f"{place.root}/_rejected/")
    place.store.delete(rejects.uri)
    assert run_to_end(place.draft("2")).complete
    assert tags(place, "large.jsonl") == ("A", 1800, 200)


def test_a_late_run_spoils_nothing_of_a_newer_one(
    place: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, "a.jsonl", rows("A", 20, bad_every=5))

    def newer() -> Any:
        put(place, "a.jsonl", rows("B", 30, bad_every=3))
        return run_to_end(place.draft("new"))

    seen = meanwhile(monkeypatch, "old", newer)
    old = run_to_end(place.draft("old"))
    assert seen[0].complete and tags(place, "a.jsonl") == ("B", 20, 10)
    assert (old.overwritten, old.scored, old.counts.rows_in) == (1, 0, 0)
    assert place.verified("new") and place.verified("old")
    assert run_to_end(place.draft("next")).scored_before == 1


def restorer(night: Night, key: str) -> Callable[[], None]:
    """Takes an output away, and gives what puts it back: as if a slow run had only now written it."""
    bucket, _, root = night.root.removeprefix("s3://").partition("/")
    client, name, aside = night.store.client, f"{root}/{key}", f"{root}-aside"

    def copy(source: str, target: str) -> None:
        client.copy_object(Bucket=bucket, Key=target, CopySource={"Bucket": bucket, "Key": source})

    copy(name, aside)
    client.delete_object(Bucket=bucket, Key=name)
    return lambda: copy(aside, name)


def test_an_older_version_that_is_written_late_is_written_over(
    place: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow run read its input before the newer one listed it, and commits just before that one does."""
    put(place, "a.jsonl", rows("A", 20, bad_every=5))
    run_to_end(place.draft("old"))
    late = restorer(place, "a.jsonl")
    put(place, "a.jsonl", rows("B", 30, bad_every=3))
    seen = meanwhile(monkeypatch, "new", late)
    new = run_to_end(place.draft("new"))
    assert seen == [None] and new.complete
    assert (new.scored, new.overwritten) == (1, 0)
    assert tags(place, "a.jsonl") == ("B", 20, 10) and place.verified("new")
    rejects = [o.uri for o in place.store.scan(f"{place.root}/_rejected")]
    assert len(rejects) == 1, "those of the older version belong to no predictions"


def test_an_older_version_that_replaces_a_newer_one_is_no_success(place: Night) -> None:
    put(place, "a.jsonl", rows("A", 20))
    run_to_end(place.draft("old"))
    late = restorer(place, "a.jsonl")
    put(place, "a.jsonl", rows("B", 30))
    new = begun(place, "new")
    late()
    summary = finishing.finish_scoring.fn(new.place, 0.0)
    assert (summary.scored, summary.failed, summary.overwritten) == (0, 1, 0)
    assert "older version" in summary.errors[0] and not place.verified("new")
    assert run_to_end(place.draft("new")).complete, "Retry scores it again"
    assert tags(place, "a.jsonl") == ("B", 30, 0)


def test_what_failed_is_named_before_what_was_overwritten(place: Night) -> None:
    for number in range(25):
        put(place, f"{number:02}.jsonl", rows("A", 3))
    put(place, "broken.jsonl.gz", b"\x1f\x8b\x08\x00 not a gzip file")

    planned = plan_scoring.fn(place.draft("night"))
    for number in range(25):
        put(place, f"{number:02}.jsonl", rows("B", 4))
    for number in range(planned.shards):
        score_shard.fn(planned.place, number, ENGINE)
    summary = finishing.finish_scoring.fn(planned.place, 0.0)
    assert (summary.failed, summary.overwritten) == (1, 25)
    assert "broken.jsonl.gz" in summary.errors[0]


def test_the_folder_says_success_only_when_no_run_is_under_way(place: Night) -> None:
    put(place, "a.jsonl", rows("A", 20))
    first = begun(place, "first")
    second = begun(place, "second")
    put(place, "b.jsonl", rows("A", 20))
    third = begun(place, "third")
    for planned, said in ((second, False), (first, False), (third, True)):
        assert finishing.finish_scoring.fn(planned.place, 0.0).complete
        assert place.store.read_bytes(f"{planned.place}/_SUCCESS") is not None
        assert (place.store.read_bytes(f"{place.root}/_SUCCESS") is not None) is said
        assert (place.store.read_bytes(f"{place.root}/_INCOMPLETE") is None) is said


def test_a_late_join_spoils_nothing_of_a_newer_run(place: Night) -> None:
    put(place, "large.jsonl", rows("A", 2000))
    old = begun(place, "old")
    put(place, "large.jsonl", rows("B", 2500, bad_every=10))
    assert run_to_end(place.draft("new")).complete
    summary = finishing.finish_scoring.fn(old.place, 0.0)
    assert (summary.scored, summary.overwritten) == (0, 1)
    assert tags(place, "large.jsonl") == ("B", 2250, 250) and place.verified("new")


def test_a_death_between_joining_and_the_summary(
    place: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, "large.jsonl", rows("A", 2000))
    run_to_end(place.draft("0"))
    again = [begun(place, run, rescore=True) for run in ("one", "other")]
    with monkeypatch.context() as patch:
        patch.setattr(
            finishing, "publish_summary", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            finishing.finish_scoring.fn(again[0].place, 0.0)
    for planned in (again[1], again[0]):
        assert finishing.finish_scoring.fn(planned.place, 0.0).complete
        assert tags(place, "large.jsonl") == ("A", 2000, 0)
    assert not list(place.store.scan(f"{place.root}/_parts/"))


def test_a_part_that_is_gone(place: Night) -> None:
    put(place, "large.jsonl", rows("A", 2000))
    planned = begun(place, "one")
    place.store.delete(place.store.list(f"{place.root}/_parts/")[1].uri)
    summary = finishing.finish_scoring.fn(planned.place, 0.0)
    assert not summary.complete and "part of the predictions is gone" in summary.errors[0]
    assert place.rows("large.jsonl") is None
    assert run_to_end(place.draft("one")).complete, "Retry scores that part again"
    assert tags(place, "large.jsonl") == ("A", 2000, 0) and place.verified("one")


def test_parts_of_a_dead_run_are_there_for_the_next(place: Night) -> None:
    put(place, "large.jsonl", rows("A", 2000, bad_every=9))
    planned = begun(place, "dead")
    made = {item.uri: item.etag for item in place.store.list(f"{place.root}/_parts/")}
    assert planned.shards > 1 and len(made) >= planned.shards
    again = plan_scoring.fn(place.draft("next"))
    results = [score_shard.fn(again.place, number, ENGINE) for number in range(again.shards)]
    assert len(results) == planned.shards
    run = require_run(exact_objects(), again.place)
    for number in range(again.shards):
        done = read_result(exact_objects(), run, number)
        assert done and {o.state for o in done.objects} == {"found"}
    assert finishing.finish_scoring.fn(again.place, 0.0).complete
    assert tags(place, "large.jsonl") == ("A", 1777, 223)
    assert not list(place.store.scan(f"{place.root}/_parts/"))


def test_parts_of_a_version_that_is_gone_are_removed(place: Night) -> None:
    put(place, "large.jsonl", rows("A", 2000))
    planned = begun(place, "one")
    put(place, "large.jsonl", rows("B", 30))
    summary = finishing.finish_scoring.fn(planned.place, 0.0)
    assert (summary.overwritten, summary.failed) == (1, 0)
    assert not list(place.store.scan(f"{place.root}/_parts/"))


def test_a_run_whose_parts_another_takes_while_it_joins(
    place: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, "large.jsonl", rows("A", 2000))
    one, other = (begun(place, run) for run in ("one", "other"))
    join = joining.__dict__["_join"]

    def overtaken(*given: Any) -> None:
        monkeypatch.setattr(joining, "_join", join)
        assert finishing.finish_scoring.fn(other.place, 0.0).complete
        join(*given)

    monkeypatch.setattr(joining, "_join", overtaken)
    assert finishing.finish_scoring.fn(one.place, 0.0).complete
    assert tags(place, "large.jsonl") == ("A", 2000, 0)
    assert place.verified("one") and place.verified("other")


def test_two_inputs_with_one_output_prefix(place: Night) -> None:
    for day in "12":
        put(place, f"day{day}/part-0.jsonl", rows(day, 5))
    put(place, "day2/more.jsonl", rows("2", 5))  # in the same bundle as that whose place is taken
    first, second = (draft(day, f"{place.input}day{day}/", place.output) for day in "12")
    assert run_to_end(first).complete
    summary = run_to_end(second)
    assert (
        summary.failed == 1
        and "Another object has the name of its predictions" in summary.errors[0]
    )
    assert tags(place, "part-0.jsonl") == ("1", 5, 0) and tags(place, "more.jsonl") == ("2", 5, 0)


def test_two_configurations_with_one_output_prefix(place: Night) -> None:
    for number in range(3):
        put(place, f"{number}.jsonl", rows("A", 10, bad_every=4))
    planned = begun(place, "one")
    other = {"columns": {"text": "text", "id": "id", "keep": ["text"]}}
    assert run_to_end(place.draft("other", **other)).complete
    summary = finishing.finish_scoring.fn(planned.place, 0.0)
    assert (
        summary.failed == 3
        and "other columns, format, precision, engine or guard" in summary.errors[0]
    )
    assert not place.verified("one") and place.verified("other", **other)


def test_inputs_that_are_removed(place: Night) -> None:
    for number in range(3):
        put(place, f"{number}.jsonl", rows("A", 3))
    plan_scoring.fn(place.draft("one"))
    place.store.delete(f"{place.input}1.jsonl")
    summary = run_to_end(place.draft("one"))
    assert (summary.scored, summary.overwritten, summary.failed) == (2, 1, 0)
    assert place.verified("one")


def test_what_was_scored_and_is_gone_is_not_proven(place: Night) -> None:
    """Neither when its input was removed as well, nor when older predictions were put back in its place."""
    for number in range(3):
        put(place, f"{number}.jsonl", rows("A", 3))
    run_to_end(place.draft("one"))
    old = place.rows("0.jsonl")
    place.store.delete(f"{place.input}1.jsonl")
    assert place.verified("one"), "an archived input is no loss"
    place.store.delete(f"{place.root}/1.jsonl")
    proof = verify_run.fn(place.draft("one").place)
    assert (proof.complete, proof.proven, proof.changed) == (False, 2, 0)
    assert proof.problems == [f"{place.root}/1.jsonl: there is no output"]
    put(place, "0.jsonl", rows("B", 4))
    run_to_end(place.draft("two"))
    assert old != place.rows("0.jsonl")
    put(place, "0.jsonl", rows("A", 3))
    assert verify_run.fn(place.draft("one").place).proven == 1, (
        "the input is back, its output is not"
    )


def test_keys_with_two_slashes(place: Night) -> None:
    """They name an object of their own on AWS; some servers take two slashes for one."""
    put(place, "/b.jsonl", rows("B", 3))
    put(place, "c.jsonl", rows("C", 3))
    assert run_to_end(place.draft("one")).scored == 2
    again = run_to_end(place.draft("two"))
    assert (again.scored_before, again.objects) == (2, 0) and place.verified("one")


def test_a_run_that_is_planned_twice(place: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first process lives on unseen: whoever freezes the manifest first has its lists used."""
    for number in range(20):
        put(place, f"{number:02}.jsonl", rows("A", 60))
    first = plan_scoring.fn(place.draft("one"))
    put(place, "00a.jsonl", rows("Z", 900))
    original, asked = planning.read_run, list[str]()

    def not_yet(objects: ExactObjects, where: str) -> Any:
        asked.append(where)
        return None if len(asked) == 1 else original(objects, where)

    monkeypatch.setattr(planning, "read_run", not_yet)
    assert plan_scoring.fn(place.draft("one")) == first
    summary = run_to_end(place.draft("one"))
    assert (summary.scored, summary.objects) == (20, 20) and place.verified("one")
    assert run_to_end(place.draft("two")).scored == 1


def test_a_night_that_dies_is_not_called_complete(place: Night) -> None:
    put(place, "a.jsonl", rows("A", 3))
    run_to_end(place.draft("one"))
    put(place, "b.jsonl", rows("B", 3))
    plan_scoring.fn(place.draft("two"))
    assert place.store.read_bytes(f"{place.root}/_SUCCESS") is None
    assert b"/_runs/two" in (place.store.read_bytes(f"{place.root}/_INCOMPLETE") or b"")
    assert run_to_end(place.draft("two")).complete
    assert place.store.read_bytes(f"{place.root}/_SUCCESS")
    assert place.store.read_bytes(f"{place.root}/_INCOMPLETE") is None


def test_retry_tries_again_what_failed(place: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, "a.jsonl", rows("A", 3))
    put(place, "b.jsonl", rows("B", 3))
    original = ExactObjects.open

    def refusing(self: ExactObjects, item: Any, *args: Any, **kwargs: Any) -> Any:
        if item.key.endswith("b.jsonl"):
            raise ForbiddenDataError("refused", item.uri)
        return original(self, item, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ExactObjects, "open", refusing)
        assert run_to_end(place.draft("one")).failed == 1
    assert run_to_end(place.draft("one")).complete


def test_a_store_that_ignores_conditions_is_found_out(
    place: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ObjectStore.__init__

    def ignoring(self: ObjectStore, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        put_object = self.client.put_object
        self.client.put_object = lambda **given: put_object(
            **{k: v for k, v in given.items() if k not in ("IfMatch", "IfNoneMatch")}
        )

    monkeypatch.setattr(ObjectStore, "__init__", ignoring)
    monkeypatch.setenv("AWS_NIGHTSHIFT_TEST", "ignoring")  # another configuration: another client
    objects = exact_objects()
    assert objects.write(b"1", f"{place.output}/m", {"fingerprint": "x"}, None)
    assert objects.write(b"2", f"{place.output}/m", {"fingerprint": "y"}, None) is None
    put(place, "a.jsonl", rows("A", 20))

    def newer() -> Any:
        put(place, "a.jsonl", rows("B", 30))
        return run_to_end(place.draft("new"))

    meanwhile(monkeypatch, "old", newer)
    assert run_to_end(place.draft("old")).overwritten == 1
    assert tags(place, "a.jsonl") == ("B", 30, 0)


def test_a_large_upload_replaces_only_what_was_there(
    place: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ONE_REQUEST_BYTES", 1_000)
    monkeypatch.setattr(module, "_PART_BYTES", 5 << 20)
    (tmp_path / "large").write_bytes(b"x" * (6 << 20))
    uri, objects = f"{place.output}/large", exact_objects()
    first = objects.write(tmp_path / "large", uri, {"fingerprint": "1"}, None)
    head = objects.head(uri)
    assert head and (head.etag, head.size, head.metadata["fingerprint"]) == (first, 6 << 20, "1")
    assert objects.write(tmp_path / "large", uri, {"fingerprint": "2"}, None) is None
    assert objects.write(tmp_path / "large", uri, {"fingerprint": "1"}, None) == first
    assert objects.write(tmp_path / "large", uri, {"fingerprint": "3"}, head)
    assert not place.store.client.list_multipart_uploads(Bucket="nightshift").get("Uploads")


def test_an_upload_whose_client_died(place: Night) -> None:
    """Some servers keep what had come: it is known by its length, and made again."""
    put(place, "a.jsonl", rows("A", 20, bad_every=5))
    run_to_end(place.draft("1"))
    bucket, _, root = place.root.removeprefix("s3://").partition("/")
    for item in [o for o in place.store.scan(place.root) if "/_r" in o.uri or "a.jsonl" in o.uri]:
        if "/_runs/" in item.uri:
            continue
        kept = place.store.client.head_object(Bucket=bucket, Key=item.key)["Metadata"]
        place.store.client.put_object(Bucket=bucket, Key=item.key, Body=b"", Metadata=kept)
    assert root and not place.verified("1")
    assert run_to_end(place.draft("2")).scored == 1
    assert tags(place, "a.jsonl") == ("A", 16, 4) and place.verified("1")
