"""Moves of the champion on a real object store and MLflow: two at once, deaths between two steps, deeds by hand."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from mlflow import MlflowClient

from tasks.connectors.storage.conditional_reads import LENGTH
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectStore
from tasks.connectors.tracking import champion as module
from tasks.connectors.tracking.champion import CHAMPION, PREVIOUS, Champions, Mover
from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.connectors.tracking.promotion_log import PromotionLog
from tasks.core.errors import ConflictError, ModelError, RegistryUnavailableError, StoreError
from tasks.core.records import ModelVersion, Promotion
from tasks.core.tags import DELETING_TAG
from tests.paths import ROOT


class Parts:
    """A model of some versions, and everything that moves its champion."""

    def __init__(self, store: ObjectStore, registry: ModelRegistry, name: str) -> None:
        self.store, self.registry, self.name = store, registry, name
        self.log = PromotionLog(ExactObjects(store), "nightshift")
        self.champions = Champions(registry, self.log)
        self.client: MlflowClient = registry._client
        self.client.create_registered_model(name)
        self.version: dict[int, ModelVersion] = {}

    def add(self, count: int) -> None:
        for _ in range(count):
            made = self.client.create_model_version(self.name, "file:///nowhere")
            self.version[int(made.version)] = ModelVersion(
                name=self.name, version=str(made.version), model_digest="", run_id=""
            )

    def move(
        self, to: int, expected: int | None, who: str = "Ada", kind: str = "promote"
    ) -> Promotion:
        return self.champions.move(
            self.version[to],
            self.version[expected] if expected else None,
            Mover(kind, who, "a test", f"run of {who}"),
        )

    def aliases(self) -> tuple[str, str]:
        found = self.registry.aliases(self.name)
        return found.get(CHAMPION, ""), found.get(PREVIOUS, "")

    def moves(self) -> list[tuple[int, str, str, str]]:
        found = self.log.moves(self.name)
        assert all(self.log.is_done(move) for move in found)
        return [(m.number, m.kind, m.from_version, m.to_version) for m in found]


@pytest.fixture
def parts(
    store: ObjectStore,
    registry: ModelRegistry,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Parts:
    monkeypatch.setattr(module, "_LATE_SECONDS", 0.05)
    made = Parts(store, registry, request.node.name.replace("[", "-").rstrip("]"))
    made.add(3)
    return made


def test_moves_and_their_aliases(parts: Parts) -> None:
    assert parts.champions.reconcile(parts.name).champion is None and parts.moves() == []
    first = parts.move(1, None)
    assert parts.aliases() == ("1", "") and first.who == "Ada" and first.flow_run == "run of Ada"
    parts.move(2, 1)
    assert parts.aliases() == ("2", "1")
    parts.move(1, 2, kind="rollback")
    assert parts.aliases() == ("1", "2")
    parts.move(2, 1, kind="rollback")
    assert parts.aliases() == ("2", "1")
    assert parts.moves() == [
        (1, "promote", "", "1"),
        (2, "promote", "1", "2"),
        (3, "rollback", "2", "1"),
        (4, "rollback", "1", "2"),
    ]
    again = parts.move(2, 1)  # it is champion already, whatever was expected
    assert again.number == 4 and len(parts.moves()) == 4
    assert parts.log.models().count(parts.name) == 1


def test_a_champion_that_is_another_one_by_now_must_be_judged_again(parts: Parts) -> None:
    parts.move(1, None)
    parts.move(2, 1, who="Grace")
    with pytest.raises(ConflictError, match=r"is now 2, no longer 1; move 2: .* by Grace"):
        parts.move(3, 1)
    with pytest.raises(ConflictError, match="no longer nobody"):
        parts.move(3, None)
    assert parts.aliases() == ("2", "1") and len(parts.moves()) == 2


def test_of_many_who_move_at_once_one_does(
    parts: Parts, tracking_uri: str, store: ObjectStore
) -> None:
    parts.move(1, None)
    parts.add(4)

    def mover(to: int) -> str:
        """With clients of its own, as another process would have."""
        own = Champions(
            ModelRegistry(tracking_uri, "tests"), PromotionLog(ExactObjects(store), "nightshift")
        )
        try:
            own.move(parts.version[to], parts.version[1], Mover("gate", f"m{to}", "at once"))
        except ConflictError as error:
            return error.what
        return "moved"

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(mover, range(2, 8)))
    assert said.count("moved") == 1, said
    winner = str(said.index("moved") + 2)
    assert all(f"is now {winner}, no longer 1" in words for words in said if words != "moved")
    assert parts.champions.reconcile(parts.name).previous == "1"
    assert parts.aliases() == (winner, "1")
    assert parts.moves() == [(1, "promote", "", "1"), (2, "gate", "1", winner)]


def test_processes_that_promote_by_turns_lose_no_move(parts: Parts, tracking_uri: str) -> None:
    """Each looks and moves until it has won; every move starts where the one before it ended."""
    parts.move(1, None)
    code = "import sys; from tests.connectors.tracking.test_promotion_log import until_won\nuntil_won(*sys.argv[1:])"
    store = parts.store
    given = os.environ | {
        "AWS_ACCESS_KEY_ID": store.client._request_signer._credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": store.client._request_signer._credentials.secret_key,
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, tracking_uri, str(store.endpoint_url), parts.name, to],
            cwd=ROOT,
            env=given,
        )
        for to in ("2", "3")
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    moves = parts.moves()
    assert [m[0] for m in moves] == [1, 2, 3] and {m[3] for m in moves[1:]} == {"2", "3"}
    assert [m[2] for m in moves[1:]] == [m[3] for m in moves[:-1]]
    assert parts.aliases() == (moves[-1][3], moves[-1][2])


def until_won(tracking_uri: str, endpoint_url: str, name: str, to: str) -> None:
    """What each of those processes does."""
    champions = Champions(
        ModelRegistry(tracking_uri, "tests"),
        PromotionLog(ExactObjects(ObjectStore(endpoint_url)), "nightshift"),
    )
    version = ModelVersion(name=name, version=to, model_digest="", run_id="")
    while True:
        expected = champions.reconcile(name).champion
        try:
            champions.move(version, expected, Mover("gate", to, "by turns"))
            return
        except ConflictError:
            continue


def away_once(monkeypatch: pytest.MonkeyPatch, method: str, after: bool = False) -> None:
    """MLflow does not answer one request, before it or after it has done what it was asked for."""
    original, asked = getattr(ModelRegistry, method), list[Any]()

    def failing(self: ModelRegistry, *given: Any) -> Any:
        asked.append(given)
        if len(asked) > 1:
            return original(self, *given)
        if after:
            original(self, *given)
        raise RegistryUnavailableError(
            "Setting failed: connection refused", "http://mlflow", "wait"
        )

    monkeypatch.setattr(ModelRegistry, method, failing)


@pytest.mark.parametrize("after", [False, True])
def test_mlflow_dies_between_the_record_and_the_alias(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    parts.move(1, None)
    away_once(monkeypatch, "set_alias", after)
    with pytest.raises(RegistryUnavailableError):
        parts.move(2, 1)
    assert parts.aliases()[0] == ("2" if after else "1")
    last = parts.log.last(parts.name)
    assert last and last.to_version == "2" and not parts.log.is_done(last)
    state = parts.champions.reconcile(parts.name)  # whoever asks next ends it
    assert state.champion == parts.version[2] and parts.aliases() == ("2", "1")
    assert parts.move(2, 1) == last, "and the step that is tried again has its own move"
    assert parts.moves()[-1] == (2, "promote", "1", "2")


@pytest.mark.parametrize("method", ["set_alias", "mark_done"])
def test_a_process_killed_in_the_middle_of_a_move(
    parts: Parts, tracking_uri: str, method: str
) -> None:
    parts.move(1, None)
    code = (
        "import os, signal, sys\n"
        "from tasks.connectors.tracking.model_registry import ModelRegistry\n"
        "from tasks.connectors.tracking.promotion_log import PromotionLog\n"
        "from tests.connectors.tracking.test_promotion_log import until_won\n"
        f"owner = ModelRegistry if {method!r} == 'set_alias' else PromotionLog\n"
        f"setattr(owner, {method!r}, lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
        "until_won(*sys.argv[1:])"
    )
    signer = parts.store.client._request_signer._credentials
    keys = {"AWS_ACCESS_KEY_ID": signer.access_key, "AWS_SECRET_ACCESS_KEY": signer.secret_key}
    given = [tracking_uri, str(parts.store.endpoint_url), parts.name, "2"]
    ended = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=ROOT, env=os.environ | keys, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert parts.aliases()[0] == ("1" if method == "set_alias" else "2")
    assert parts.champions.reconcile(parts.name).champion == parts.version[2]
    assert parts.aliases() == ("2", "1") and parts.moves()[-1] == (2, "gate", "1", "2")


def test_a_mover_that_slept_between_record_and_alias_spoils_nothing(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes up when its move is done, by others, and the next one too."""
    parts.move(1, None)
    original, asleep = ModelRegistry.set_alias, list[str]()

    def slow(self: ModelRegistry, version: ModelVersion, alias: str) -> None:
        if not asleep:
            asleep.append(version.version)
            assert parts.champions.reconcile(parts.name).champion == parts.version[2]
            parts.move(3, 2, who="Grace")
        original(self, version, alias)

    monkeypatch.setattr(ModelRegistry, "set_alias", slow)
    assert parts.move(2, 1).number == 2 and asleep == ["2"]
    assert parts.aliases() == ("3", "2")
    assert parts.moves()[1:] == [(2, "promote", "1", "2"), (3, "promote", "2", "3")]


def test_an_alias_moved_by_hand_is_a_move(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    parts.move(1, None)
    parts.move(2, 1)
    parts.client.set_registered_model_alias(parts.name, CHAMPION, "3")
    state = parts.champions.reconcile(parts.name)
    assert state.champion == parts.version[3] and state.last
    assert (state.last.who, state.last.why) == ("MLflow", "the alias was moved in MLflow")
    assert parts.moves()[-1] == (3, "by hand", "2", "3") and parts.aliases() == ("3", "2")
    assert "2 -> 3, not by Nightshift: the alias was moved in MLflow" in caplog.text
    with pytest.raises(ConflictError, match="is now 3, no longer 2"):
        parts.move(1, 2)


def test_an_alias_moved_by_hand_before_a_dead_move_was_ended(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.move(1, None)
    away_once(monkeypatch, "set_alias")
    with pytest.raises(RegistryUnavailableError):
        parts.move(2, 1)
    parts.client.set_registered_model_alias(parts.name, CHAMPION, "3")
    assert parts.champions.reconcile(parts.name).champion == parts.version[3]
    assert parts.moves()[1:] == [(2, "promote", "1", "2"), (3, "by hand", "2", "3")]


def test_the_alias_previous_is_put_right(parts: Parts) -> None:
    parts.move(1, None)
    parts.move(2, 1)
    parts.client.set_registered_model_alias(parts.name, PREVIOUS, "3")
    assert parts.champions.reconcile(parts.name).previous == "1" and parts.aliases() == ("2", "1")


def test_an_alias_removed_by_hand(parts: Parts) -> None:
    parts.move(1, None)
    parts.client.delete_registered_model_alias(parts.name, CHAMPION)
    state = parts.champions.reconcile(parts.name)
    assert state.champion is None and state.previous == "1"
    assert parts.moves()[-1] == (2, "by hand", "1", "")
    parts.move(1, None, kind="rollback")
    assert parts.aliases() == ("1", "")


def test_a_champion_deleted_by_hand(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    parts.move(1, None)
    parts.move(2, 1)
    parts.client.delete_model_version(parts.name, "2")
    state = parts.champions.reconcile(parts.name)
    assert state.champion is None and state.previous == "1"
    assert state.last and state.last.why == "version 2 was deleted in MLflow"
    assert "2 -> nobody, not by Nightshift: version 2 was deleted" in caplog.text
    assert parts.champions.reconcile(parts.name) == state, "and that is written down once"
    parts.move(3, None, kind="gate")
    assert parts.aliases() == ("3", "1")
    assert [m[2:] for m in parts.moves()] == [("", "1"), ("1", "2"), ("2", ""), ("", "3")]


def test_a_previous_one_deleted_by_hand(parts: Parts) -> None:
    """The one before it takes its place."""
    parts.move(1, None)
    parts.move(2, 1)
    parts.move(3, 2)
    parts.client.delete_model_version(parts.name, "2")
    assert parts.aliases() == ("3", "")
    assert parts.champions.reconcile(parts.name).previous == "1" and parts.aliases() == ("3", "1")


@pytest.mark.parametrize("deleted", [1, 2])
def test_a_version_deleted_before_a_dead_move_was_ended(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    parts.move(1, None)
    away_once(monkeypatch, "set_alias")
    with pytest.raises(RegistryUnavailableError):
        parts.move(2, 1)
    parts.client.delete_model_version(parts.name, str(deleted))
    champion = parts.champions.reconcile(parts.name).champion
    if deleted == 1:  # the alias has gone with it; where it was to go is there
        assert champion == parts.version[2] and len(parts.moves()) == 2
    else:
        assert champion == parts.version[1] and parts.moves()[-1] == (3, "by hand", "2", "1")


def test_an_installation_from_before_the_log(parts: Parts) -> None:
    parts.client.set_registered_model_alias(parts.name, CHAMPION, "2")
    assert parts.champions.reconcile(parts.name).champion == parts.version[2]
    assert parts.moves() == [(1, "by hand", "", "2")]
    parts.move(3, 2)
    assert parts.aliases() == ("3", "2")


def test_a_version_that_is_being_deleted_is_not_promoted(parts: Parts) -> None:
    parts.move(1, None)
    parts.registry.describe_version(parts.version[2], {DELETING_TAG: "Ada"})
    with pytest.raises(ModelError, match="retention has begun to delete it"):
        parts.move(2, 1)
    assert parts.moves() == [(1, "promote", "", "1")]


def test_retention_that_begins_between_the_look_and_the_record(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.move(1, None)
    original = PromotionLog.append

    def append(self: PromotionLog, move: Promotion) -> bool:
        if move.to_version == "2":
            parts.registry.describe_version(parts.version[2], {DELETING_TAG: "Ada"})
        return original(self, move)

    monkeypatch.setattr(PromotionLog, "append", append)
    with pytest.raises(ModelError, match="retention has begun"):
        parts.move(2, 1)
    assert parts.aliases()[0] == "1" and parts.moves()[-1] == (3, "by hand", "2", "1")
    assert parts.champions.reconcile(parts.name).champion == parts.version[1]


def test_a_number_is_given_once(parts: Parts) -> None:
    move = parts.move(1, None)
    other = move.model_copy(update={"who": "somebody else"})
    assert not parts.log.append(other) and parts.log.read(parts.name, 1) == move
    number = move.model_copy(update={"number": 2})
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: parts.log.append(number), range(8)))
    assert taken.count(True) == 1, "equal records of two movers are two"


def test_what_is_left_of_a_writer_who_died_takes_no_number(parts: Parts) -> None:
    parts.move(1, None)
    torn = parts.log._uri(parts.name, 2).removeprefix("s3://nightshift/")
    parts.store.client.put_object(Bucket="nightshift", Key=torn, Body=b"", Metadata={LENGTH: "99"})
    assert parts.move(2, 1).number == 2 and parts.moves()[-1] == (2, "promote", "1", "2")


def test_a_record_that_cannot_be_read_is_said(parts: Parts) -> None:
    parts.store.write_bytes(b'{"number": 1, "novelty": 2}', parts.log._uri(parts.name, 1))
    with pytest.raises(StoreError, match=r"The record of this move has another.*moves/000001.json"):
        parts.champions.reconcile(parts.name)


def test_a_store_without_conditional_writes(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two who write one number, one record replaces the other; who was told that it moved the champion has."""
    monkeypatch.setattr(ExactObjects, "_keeps_conditions", lambda *_: False)
    parts.move(1, None)
    original, others = ExactObjects._put, list[Callable[[], Any]]()
    others.append(lambda: parts.move(3, 1, who="Grace"))

    def put(self: ExactObjects, *given: Any) -> str:
        if others and given[1].endswith("000002.json"):
            others.pop()()
        return original(self, *given)

    monkeypatch.setattr(ExactObjects, "_put", put)
    with pytest.raises(ConflictError, match="did not hold"):
        parts.move(2, 1)
    assert others == [] and parts.aliases()[0] == "3"
    assert parts.moves()[1:] == [(2, "promote", "1", "2"), (3, "by hand", "2", "3")]


def stalled(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Any]) -> list[Any]:
    """Something happens once, right before a process sets an alias."""
    original, seen = ModelRegistry.set_alias, list[Any]()

    def slow(self: ModelRegistry, version: ModelVersion, alias: str) -> None:
        if not seen:
            seen.append(None)
            seen[0] = happens()
        original(self, version, alias)

    monkeypatch.setattr(ModelRegistry, "set_alias", slow)
    return seen


def test_a_late_write_of_one_who_dies_then_is_no_move_by_hand(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 3 was promoted meanwhile and Grace told so; a version set by hand is another matter."""
    parts.move(1, None)

    def grace() -> None:
        parts.champions.reconcile(parts.name)
        parts.move(3, 2, who="Grace")
        monkeypatch.setattr(PromotionLog, "mark_done", killed)

    def killed(*_: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    stalled(monkeypatch, grace)
    with pytest.raises(KeyboardInterrupt):
        parts.move(2, 1)
    assert parts.aliases()[0] == "2", "the late write"
    assert parts.champions.reconcile(parts.name).champion == parts.version[3]
    assert parts.aliases() == ("3", "2")
    expected = [(2, "promote", "1", "2"), (3, "promote", "2", "3")]
    assert parts.moves()[1:] == expected and len(parts.log.pending_writes(parts.name)) == 1
    monkeypatch.setattr(module, "longest_request_seconds", lambda: -1.0)
    parts.champions.reconcile(parts.name)
    assert not parts.log.pending_writes(parts.name), "no request of the dead can come any more"
    parts.client.set_registered_model_alias(parts.name, CHAMPION, "2")
    assert parts.champions.reconcile(parts.name).champion == parts.version[2]
    assert parts.moves()[-1] == (4, "by hand", "3", "2")


def test_a_write_that_nobody_waited_for_any_more_is_undone(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ada's machine slept between look and write; her late alias was read, and taken for one set by hand."""
    parts.move(1, None)
    now = [0.0]
    monkeypatch.setattr(module, "_clock", lambda: now[0])

    def grace() -> None:
        parts.champions.reconcile(parts.name)
        parts.move(3, 2, who="Grace")
        for announced in parts.log.pending_writes(parts.name):
            parts.log.end_write(announced)
        now[0] = 1e6
        monkeypatch.setattr(PromotionLog, "mark_done", seen)

    original = PromotionLog.mark_done

    def seen(self: PromotionLog, *given: Any) -> None:
        monkeypatch.setattr(PromotionLog, "mark_done", original)
        assert parts.champions.reconcile(parts.name).champion == parts.version[2]
        original(self, *given)

    stalled(monkeypatch, grace)
    parts.move(2, 1)
    assert parts.aliases()[0] == "3"
    assert [m[1:] for m in parts.moves()[2:]] == [
        ("promote", "2", "3"), ("by hand", "3", "2"), ("put right", "2", "3")
    ]  # fmt: skip


def test_an_alias_set_by_hand_while_a_mover_stands_still_is_kept(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.move(1, None)
    original = PromotionLog.begin_write

    def slow(self: PromotionLog, *given: Any) -> str:
        parts.client.set_registered_model_alias(parts.name, CHAMPION, "3")
        return original(self, *given)

    monkeypatch.setattr(PromotionLog, "begin_write", slow)
    with pytest.raises(ConflictError, match="did not hold: the alias was moved in MLflow"):
        parts.move(2, 1)
    assert parts.aliases()[0] == "3" and parts.moves()[-1] == (3, "by hand", "2", "3")


def test_how_long_a_request_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tries of 30 s to connect and 30 s to answer, and three pauses."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    assert module.longest_request_seconds() == 4 * 60 + (2 + 1) + (4 + 1) + (8 + 1)
