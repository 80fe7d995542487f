"""Hold a scoring run before one request while another begins or completes: `_SUCCESS` must never be premature."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from benchmarks.faults.delivered import Delivered
from benchmarks.faults.parts import encoded, some_rows
from benchmarks.faults.worker import ENGINE
from benchmarks.races.gaps import Held
from tasks.connectors.storage.object_store import ObjectStore
from tasks.runtime.clients import exact_objects
from tasks.scoring.finishing import finish_scoring
from tasks.scoring.planning import plan_scoring
from tasks.scoring.shards import score_shard
from tasks.scoring.store import run_store
from tasks.scoring.store.success_markers import why_not_success

_DEAF = ", on a store that ignores conditions"


@dataclass(frozen=True)
class _Kind:
    """The event while the run is held.

    Args:
        does: the action of the other run: begins, goes through, fails, or dies.
        other_input: True if it scores another input below the same root.
        rescores: the run that scores everything again: "", "the held", or "the other".
    """

    does: str
    other_input: bool = False
    rescores: str = ""

    @property
    def is_apart(self) -> bool:
        """True if the other run does not score everything that the held one is to score."""
        return self.other_input or self.rescores == "the held"


_OTHER = {
    "another begins": _Kind("begins"),
    "another goes through": _Kind("goes through"),
    "another fails": _Kind("fails"),
    "another dies": _Kind("dies"),
    "one over another input begins": _Kind("begins", other_input=True),
    "one over another input goes through": _Kind("goes through", other_input=True),
    "one over another input fails": _Kind("fails", other_input=True),
    "a rescore begins": _Kind("begins", rescores="the other"),
    "another goes through beside a rescore": _Kind("goes through", rescores="the held"),
}
KINDS = (*_OTHER, *(kind + _DEAF for kind in _OTHER))


class Successes:
    """Reviews below one prefix or two, and two runs that score them.

    Args:
        store: a real one.
        name: the prefix's name.
    """

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store, self._name, self._rounds = store, f"s3://nightshift/races/{name}", 0
        self._conditions = True

    def requests(self, name: str) -> list[str]:
        """Return the requests of planning and finishing the held run, in order."""
        held = Held()
        self._begin_round()
        self._run("held", held, rescore=_kind(name).rescores == "the held")
        return held.requests

    def round(self, gap: int, name: str) -> tuple[str, list[str]]:
        """Run one run that is held before a request; return the request ('' if it makes fewer), and the problems."""
        self._conditions, kind = not name.endswith(_DEAF), _kind(name)
        self._begin_round()
        held = Held(gap, lambda: self._begins(kind))
        with ignored() if not self._conditions else contextlib.nullcontext():
            self._run("held", held, rescore=kind.rescores == "the held")
            if len(held.requests) < gap:
                return "", []
            wrong = [*self._seen, *self._wrong(kind)]
            if kind.does in ("fails", "dies") or (kind.is_apart and self._holds()):
                self._night_without_faults(kind)
                if said := self._holds():
                    wrong.append(f"after a night without any fault: {said}")
        return held.requests[gap - 1], wrong

    def _begin_round(self) -> None:
        """Start with a fresh prefix on which one night has run, so that each gap is the same in each round."""
        self._rounds += 1
        self._night = Delivered(self._store, f"{self._name}/{self._rounds}", seed=1)
        self._beside = f"{self._night.prefix}/in-beside/"
        self._delivered = 0
        self._other: Any = None  # the other run, planned
        self._seen: list[str] = []  # problems seen while the run is held
        self._deliver()
        self._run("before", Held())
        self._deliver()

    def _night_without_faults(self, kind: _Kind) -> None:
        source = self._beside if kind.other_input else self._night.input
        self._night.store.delete(f"{source}bad.jsonl")
        self._deliver(kind.other_input)
        self._run("afterwards", Held(), input=source, rescore=kind.rescores == "the other")

    def _wrong(self, kind: _Kind) -> list[str]:
        """Return the false statements of the two runs."""
        wrong: list[str] = []
        if not self._holds() and (left := self._not_scored()):
            wrong.append(f"_SUCCESS holds, and {left} is not scored")
        if kind.other_input and kind.does == "fails" and not self._holds():
            wrong.append("_SUCCESS holds, and a run over another input has failed")
        if kind.does == "begins":
            if kind != _Kind("begins") and not self._holds():
                wrong.append("_SUCCESS holds, and the other run is under way")
            _score(self._other)
            self._finish(self._other.place)
        through = kind.does == "begins" or (kind.does == "goes through" and not kind.is_apart)
        if through and self._conditions and (said := self._holds()):
            wrong.append(f"both are through, and {said}")
        return wrong

    def _not_scored(self) -> str:
        """Return an input without predictions, or ''."""
        night = self._night
        there = {item.uri for item in night.store.scan(night.root)}
        for item in night.store.scan(night.input):
            name = item.uri.removeprefix(night.input)
            if f"{night.root}/{name}" not in there:
                return name
        return ""

    def _begins(self, kind: _Kind) -> None:
        source = self._beside if kind.other_input else self._night.input
        if (
            kind.rescores != "the held"
        ):  # otherwise the other run has nothing to score and ends at once
            self._deliver(kind.other_input)
        if kind.does == "fails":
            self._night.store.write_bytes(b"\x1f\x8b no gzip", f"{source}bad.jsonl")
        rescore = kind.rescores == "the other"
        self._other = plan_scoring.fn(self._night.draft("other", input=source, rescore=rescore))
        if kind.does in ("goes through", "fails"):
            _score(self._other)
            self._finish(self._other.place)
            if kind.is_apart and self._held_is_under_way() and not self._holds():
                self._seen.append("_SUCCESS holds, and the run that is held is under way")

    def _held_is_under_way(self) -> bool:
        """True from its frozen plan until its own records say how it ended."""
        place = f"{self._night.root}/_runs/held/"
        said = {item.uri.rpartition("/")[2] for item in self._night.store.scan(place)}
        return run_store.MANIFEST in said and not {"_SUCCESS", "_INCOMPLETE"} & said

    def _run(self, run: str, held: Held, **changed: Any) -> None:
        with held.watch():
            planned = plan_scoring.fn(self._night.draft(run, **changed))
        _score(planned)
        with held.watch():
            self._finish(planned.place)

    def _finish(self, place: str) -> None:
        finish_scoring.fn(place, 0.0)

    def _deliver(self, beside: bool = False) -> None:
        self._delivered += 1
        name = f"{self._delivered:04}.jsonl"
        if beside:
            rows = encoded(name, some_rows(self._night.rng, 2))
            self._night.store.write_bytes(rows, f"{self._beside}{name}")
        else:
            self._night.deliver(name, 2)

    def _holds(self) -> str:
        """Return why a reader may not accept `_SUCCESS`, by the rule of this version of the code; '' if it may."""
        root, objects = self._night.root, exact_objects()
        return why_not_success(objects, root)


def _kind(name: str) -> _Kind:
    return _OTHER[name.removesuffix(_DEAF)]


def _score(planned: Any) -> None:
    for number in range(planned.shards):
        score_shard.fn(planned.place, number, ENGINE)


@contextlib.contextmanager
def ignored() -> Generator[None]:
    """Ignore the conditions of writes and deletes, as old Ceph does; clients have already detected that."""
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
