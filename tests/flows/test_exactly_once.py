"""The commit protocol of scoring on a real store: once and only once, whatever was there and whoever comes too."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from benchmarks.faults import worker
from benchmarks.faults.worker import ENGINE, run_to_end
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import MissingDataError, SettingsError
from tasks.runtime.clients import exact_objects
from tasks.scoring.planning import plan_scoring
from tasks.scoring.shards import score_shard
from tests.flows.conftest import Night


def test_every_row_once_and_large_objects_in_parts(night: Night) -> None:
    planned = plan_scoring.fn(night.draft("first"))
    assert planned.objects == 12 and planned.shards > 5
    summary = run_to_end(night.draft("first"))
    night.check()
    assert summary.complete and summary.scored == 12 and summary.failed == 0
    assert summary.counts.rows_in == sum(len(v[-1]) for v in night.versions.values())
    assert json.loads(night.store.read_bytes(f"{night.root}/_SUCCESS") or b"")["failed"] == 0
    assert not [o for o in night.store.scan(f"{summary.root}/_parts/")], (
        "parts are gone once joined"
    )
    rejects = night.rejects("large.jsonl")
    assert rejects
    for rejected in rejects:
        content = night.store.read_bytes(rejected["input"]) or b""
        raw = content[rejected["offset"] :].splitlines()[0]
        assert raw.decode() == rejected["raw"] and rejected["reason"] == "empty text"


def test_what_is_scored_is_not_scored_again(night: Night) -> None:
    run_to_end(night.draft("first"))
    before = night.etags()
    again = run_to_end(night.draft("second"))
    assert (again.objects, again.scored_before, again.counts.rows_in) == (0, 12, 0)
    night.deliver("new.jsonl", 5)
    night.deliver("03.jsonl", 7)  # another version of it
    third = run_to_end(night.draft("third"))
    assert (third.objects, third.scored_before, third.counts.rows_in) == (2, 11, 12)
    after = night.etags()
    assert {name for name in before if after[name] != before[name]} == {"03.jsonl"}
    night.check()


def test_a_new_version_scores_beside_the_old_and_rescore_does_all_again(night: Night) -> None:
    run_to_end(night.draft("first"))
    before = night.etags()
    model = worker.MODEL.model_copy(update={"version": "2"})
    second = run_to_end(night.draft("second", model=model))
    assert second.scored == 12 and second.root != night.root and night.etags() == before
    again = run_to_end(night.draft("third", rescore=True))
    assert again.scored == 12 and again.scored_before == 0
    assert night.etags() == before, "the same bytes"


def test_an_input_overwritten_in_mid_run_is_left_to_the_next(night: Night) -> None:
    planned = plan_scoring.fn(night.draft("first"))
    night.deliver("04.csv", 30)
    night.deliver("large.jsonl", 500)
    night.store.delete(f"{night.input}05.parquet")
    summary = run_to_end(night.draft("first"))
    assert planned.place == summary.place, "frozen is frozen"
    assert (summary.overwritten, summary.failed, summary.scored) == (3, 0, 9)
    night.check(done=False)
    del night.versions["05.parquet"]
    following = run_to_end(night.draft("second"))
    assert following.objects == 2
    night.check()


def test_overlapping_runs(night: Night) -> None:
    """Both score everything; each output is whole and of one of them."""
    one, other = plan_scoring.fn(night.draft("one")), plan_scoring.fn(night.draft("other"))
    for number in range(one.shards):
        score_shard.fn(one.place, number, ENGINE)
        score_shard.fn(other.place, number, ENGINE)
    assert run_to_end(night.draft("one")).failed == run_to_end(night.draft("other")).failed == 0
    night.check()


@pytest.mark.parametrize("write", [1, 3, 8, 20])
def test_a_run_that_died_goes_on(night: Night, write: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]

    def dying(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == write:
                raise KeyboardInterrupt
            return method(*args, **kwargs)

        return wrapped

    kind = type(exact_objects())
    with monkeypatch.context() as patch:
        patch.setattr(kind, "write", dying(kind.write))
        with pytest.raises(KeyboardInterrupt):
            run_to_end(night.draft("first"))
    night.check(done=False)
    assert run_to_end(night.draft("first")).complete
    night.check()


@pytest.mark.parametrize("answer", ["ignored", "501"])
def test_a_store_that_knows_no_conditions(
    night: Night, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old Ceph ignores them, Swift refuses them."""
    original = ObjectStore.__init__

    def without_conditions(self: ObjectStore, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        for name in ("put_object", "get_object"):
            setattr(self.client, name, _without(getattr(self.client, name), name, answer))

    monkeypatch.setattr(ObjectStore, "__init__", without_conditions)
    monkeypatch.setenv("AWS_NIGHTSHIFT_TEST", answer)  # another configuration: another client
    run_to_end(night.draft("first"))
    night.check()
    night.deliver("01.csv", 9)
    assert run_to_end(night.draft("second")).scored == 1
    night.check()


def _without(method: Any, name: str, answer: str) -> Any:
    def call(**given: Any) -> Any:
        conditions = [k for k in ("IfMatch", "IfNoneMatch") if given.pop(k, None)]
        if conditions and answer == "501":
            said = {
                "Error": {"Code": "NotImplemented"},
                "ResponseMetadata": {"HTTPStatusCode": 501},
            }
            raise ClientError(said, name)  # pyright: ignore[reportArgumentType]
        return method(**given)

    return call


def test_a_lost_reply_is_no_conflict(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store took it, the answer was lost, boto3 asked again and got 412 for its own write."""
    objects = exact_objects()
    mark = {"fingerprint": "a"}
    assert objects.write(b"one", f"{night.prefix}/x", mark, None)
    assert objects.write(b"one", f"{night.prefix}/x", mark, None)
    assert not objects.write(b"two", f"{night.prefix}/x", {"fingerprint": "b"}, None)
    assert night.store.read_bytes(f"{night.prefix}/x") == b"one"


def test_an_object_of_which_too_much_is_refused_fails_alone(night: Night) -> None:
    night.store.write_bytes(
        b'{"text": ""}\n' * 30 + b'{"text": "fine"}\n', f"{night.input}bad.jsonl"
    )
    night.store.write_bytes(b'{"text": ""}\n' * 3000, f"{night.input}worse.jsonl")
    summary = run_to_end(night.draft("first"))
    assert (summary.failed, summary.scored) == (2, 12) and not summary.complete
    assert all("max_rejected_fraction" in error for error in summary.errors)
    assert night.store.read_bytes(f"{night.root}/bad.jsonl") is None
    assert night.store.read_bytes(f"{night.root}/worse.jsonl") is None
    assert night.store.read_bytes(f"{night.root}/_SUCCESS") is None
    assert night.store.read_bytes(f"{night.root}/_INCOMPLETE")
    night.check(failed=True)


def test_an_output_that_vanished_is_noticed(night: Night) -> None:
    planned = plan_scoring.fn(night.draft("first"))
    for number in range(planned.shards):
        score_shard.fn(planned.place, number, ENGINE)
    night.store.delete(f"{night.root}/00.jsonl")
    summary = run_to_end(night.draft("first"))
    assert (summary.failed, summary.scored) == (1, 11) and not summary.complete
    assert "not in the store, though it was written" in summary.errors[0]
    assert run_to_end(night.draft("first")).complete, "the same run, tried again"
    night.check()


def test_kept_columns_and_another_format(night: Night) -> None:
    """Another configuration is another prediction: all is scored anew, and read from the other format."""
    run_to_end(night.draft("first"))
    columns = {"text": "text", "id": "id", "keep": ["stars"]}
    summary = run_to_end(night.draft("second", columns=columns, output_format="jsonl"))
    assert (summary.scored, summary.failed) == (12, 0)
    for name, versions in night.versions.items():
        uri = f"{night.root}/{name if name.endswith('.jsonl') else name + '.jsonl'}"
        rows = [json.loads(line) for line in (night.store.read_bytes(uri) or b"").splitlines()]
        good = [row for row in versions[-1] if row["text"].strip()]
        assert [int(row["stars"]) for row in rows] == [row["stars"] for row in good], name


@pytest.mark.parametrize("keep", ["label", "probability_POSITIVE"])
def test_a_kept_column_may_not_hide_one_that_is_made(night: Night, keep: str) -> None:
    with pytest.raises(SettingsError, match=f"{keep!r} is reserved for predictions"):
        run_to_end(night.draft("first", columns={"text": "text", "id": "id", "keep": [keep]}))


def test_a_column_that_is_nowhere_is_said_before_anything_is_scored(night: Night) -> None:
    with pytest.raises(
        MissingDataError, match=r"No column 'body'; the columns are: id, stars, text"
    ):
        run_to_end(night.draft("first", columns={"text": "body", "id": "id", "keep": []}))
    assert list(night.store.scan(night.root)) == []
