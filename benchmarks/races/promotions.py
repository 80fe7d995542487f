"""Hold a promotion before one request while others go through, and check that the champion is the one in the log."""

import contextlib
from collections.abc import Iterator
from typing import Any

from benchmarks.races.gaps import Died, Held
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectStore
from tasks.connectors.tracking.champion import CHAMPION, Champions, Mover
from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.connectors.tracking.promotion_log import PromotionLog
from tasks.core.errors import ConflictError
from tasks.core.records import ModelVersion, Promotion

KINDS = ("another promotes", "another promotes, then it dies", "moved by hand")
_SET = "set_registered_model_alias champion"


class Promotions:
    """One model of four versions: 1 is champion, A promotes 2, B promotes 3, and a person sets 4.

    Args:
        store, registry: real ones.
        name: the model's name; it is created.
    """

    def __init__(self, store: ObjectStore, registry: ModelRegistry, name: str) -> None:
        self._registry, self._store, self._name = registry, store, name
        self._client: Any = getattr(registry, "_client")  # noqa: B009
        self._client.create_registered_model(name)
        for _ in range(4):
            self._client.create_model_version(name, "file:///nowhere")
        self._log = PromotionLog(ExactObjects(store), "nightshift")

    def requests(self, kind: str) -> list[str]:
        """Return the requests of a promotion in order, which are the same for all kinds."""
        self._reset()
        held = Held()
        with held.watch():
            self._promote("2", "A")
        return held.requests

    def round(self, gap: int, kind: str) -> tuple[str, list[str]]:
        """Run one promotion that is held before a request; return the request, and the problems afterwards."""
        self._reset()
        before = self._log.last(self._name)
        assert before
        told = list[Promotion]()

        def happens() -> None:
            if kind == KINDS[2]:
                self._client.set_registered_model_alias(self._name, CHAMPION, "4")
            else:
                told.append(self._promote("3", "B"))

        held = Held(gap, happens, dies=kind == KINDS[1])
        with held.watch(), contextlib.suppress(ConflictError, Died):
            told.append(self._promote("2", "A"))
        if len(held.requests) < gap:
            return "", []
        if kind == KINDS[0] and (wrong := self._disagreement()):
            return held.requests[gap - 1], [f"before anybody looks: {wrong}"]
        self._champions().reconcile(self._name)
        request = held.requests[gap - 1]
        return request, list(self._wrong(before.number, told, kind, request))

    def _wrong(self, before: int, told: list[Promotion], kind: str, request: str) -> Iterator[str]:
        last = self._log.last(self._name)
        numbers = range(before, last.number + 1 if last else 0)
        moves = [move for number in numbers if (move := self._log.read(self._name, number))]
        if wrong := self._disagreement():
            yield wrong
        for move in told:
            if move not in moves:
                yield f"an acknowledged move to {move.to_version} is not in the log"
        by_hand = [move.to_version for move in moves[1:] if move.kind == "by hand"]
        if kind != KINDS[2] and by_hand:
            yield f"a write of ours was taken for one by hand: {by_hand}"
        # MLflow cannot detect a change between reading the alias and writing it.
        if kind == KINDS[2] and "4" not in by_hand and not request.startswith(_SET):
            yield "a person's move was overwritten"
        if [m.to_version for m in moves[:-1]] != [m.from_version for m in moves[1:]]:
            yield "a move does not begin where the one before it ended"

    def _disagreement(self) -> str:
        last, alias = self._log.last(self._name), self._registry.aliases(self._name).get(CHAMPION)
        wanted = last.to_version if last else None
        return "" if wanted == alias else f"the alias is {alias}, the last move is to {wanted}"

    def _reset(self) -> None:
        champions = self._champions()
        champions.move(
            self._version("1"), champions.reconcile(self._name).champion, _mover("reset")
        )

    def _promote(self, to: str, who: str) -> Promotion:
        champions = self._champions()
        seen = champions.reconcile(self._name).champion
        return champions.move(self._version(to), seen, _mover(who))

    def _champions(self) -> Champions:
        """Return an object of its own, as another process would have."""
        return Champions(self._registry, PromotionLog(ExactObjects(self._store), "nightshift"))

    def _version(self, number: str) -> ModelVersion:
        return ModelVersion(name=self._name, version=number, model_digest="", run_id="")


def _mover(who: str) -> Mover:
    return Mover("promote", who, "a race")
