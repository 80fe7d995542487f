"""A scoring run is held before one request, while another begins or goes through: `_SUCCESS` says nothing too early."""

import contextlib
from collections.abc import Generator
from typing import Any

from tasks import score_store
from tasks.connect import exact_objects
from tasks.connectors.object_store import ObjectStore
from tasks.score_finishing import finish_scoring
from tasks.score_planning import plan_scoring
from tasks.score_shards import score_shard
from tests.faults.delivered import Delivered
from tests.faults.worker import ENGINE
from tests.races.gaps import Held

_DEAF = ", on a store that ignores conditions"
_OTHER = ("another begins", "another goes through", "another fails", "another dies")
KINDS = (*_OTHER, *(kind + _DEAF for kind in _OTHER))


class Successes:
    """Reviews below one prefix, and two runs that score them.

    Args:
        store: a real one.
        name: of the prefix.
    """

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._night = Delivered(store, f"s3://nightshift/races/{name}", seed=1)
        self._number, self._conditions = 0, True
        self._other: Any = None  # the other run, planned

    def requests(self) -> list[str]:
        """What planning and finishing a run ask for, in this order."""
        held = Held()
        self._deliver()
        self._run("counted", held)
        return held.requests

    def round(self, gap: int, kind: str) -> tuple[str, list[str]]:
        """One run that is held before a request; the request, and what is wrong afterwards."""
        kind, self._conditions = kind.removesuffix(_DEAF), not kind.endswith(_DEAF)
        self._deliver()
        other = f"b{self._number}"
        held = Held(gap, lambda: self._begins(other, kind))
        with ignored() if not self._conditions else contextlib.nullcontext():
            self._run(f"a{self._number}", held)
            if len(held.requests) < gap:
                return "", []
            wrong = self._wrong(kind)
            if kind in _OTHER[:2]:
                return held.requests[gap - 1], wrong
            self._night.store.delete(f"{self._night.input}bad.jsonl")
            self._deliver()
            self._run(f"c{self._number}", Held())
            if self._holds() != "":
                wrong.append(f"after a night without any fault: {self._holds()}")
        return held.requests[gap - 1], wrong

    def _wrong(self, kind: str) -> list[str]:
        """What the two runs said that is not so."""
        wrong: list[str] = []
        if not self._holds() and (left := self._not_scored()):
            wrong.append(f"_SUCCESS holds, and {left} is not scored")
        if kind == _OTHER[0]:
            _score(self._other)
            self._finish(self._other.place)
        through = kind in _OTHER[:2]
        if through and self._conditions and (said := self._holds()):
            wrong.append(f"both are through, and {said}")
        return wrong

    def _not_scored(self) -> str:
        """An input without predictions."""
        night = self._night
        there = {item.uri for item in night.store.scan(night.root)}
        for item in night.store.scan(night.input):
            name = item.uri.removeprefix(night.input)
            if f"{night.root}/{name}" not in there:
                return name
        return ""

    def _begins(self, run: str, kind: str) -> None:
        self._deliver()
        if kind == _OTHER[2]:
            self._night.store.write_bytes(b"\x1f\x8b no gzip", f"{self._night.input}bad.jsonl")
        self._other = plan_scoring.fn(self._night.draft(run))
        if kind in _OTHER[1:3]:
            _score(self._other)
            self._finish(self._other.place)

    def _run(self, run: str, held: Held) -> None:
        with held.watch():
            planned = plan_scoring.fn(self._night.draft(run))
        _score(planned)
        with held.watch():
            self._finish(planned.place)

    def _finish(self, place: str) -> None:
        finish_scoring.fn(place, 0.0)

    def _deliver(self) -> None:
        self._number += 1
        self._night.deliver(f"{self._number:04}.jsonl", 2)

    def _holds(self) -> str:
        """Why a reader may not take `_SUCCESS`, by the rule of this version of the code."""
        root, objects = self._night.root, exact_objects()
        try:
            from tasks.score_success import why_not_success
        except ImportError:  # the version before knew no more than this
            names = (score_store.SUCCESS, score_store.INCOMPLETE)
            success, incomplete = (objects.head(f"{root}/{name}") for name in names)
            return "" if success and not incomplete else "there is no _SUCCESS, or an _INCOMPLETE"
        return why_not_success(objects, root)


def _score(planned: Any) -> None:
    for number in range(planned.shards):
        score_shard.fn(planned.place, number, ENGINE)


@contextlib.contextmanager
def ignored() -> Generator[None]:
    """Conditions of writes and deletes go unheard, as with old Ceph; clients have found that out before."""
    objects = exact_objects()
    client: Any = objects.store.client
    originals = {name: getattr(client, name) for name in ("put_object", "delete_object")}

    def deaf(name: str) -> Any:
        def call(**given: Any) -> Any:
            kept = {k: v for k, v in given.items() if k not in ("IfMatch", "IfNoneMatch")}
            return originals[name](**kept)

        return call

    known = objects.__dict__.get("_conditional_writes")
    for name in originals:
        setattr(client, name, deaf(name))
    objects.__dict__["_conditional_writes"] = False
    try:
        yield
    finally:
        objects.__dict__["_conditional_writes"] = known
        for name, original in originals.items():
            setattr(client, name, original)
