"""Records in the store of the objects a process is working on. An object that kills its process twice fails by name.

An object may kill the process that scores it: it fills the memory, or a library aborts. No exception can be caught
then, so each process records its current objects beforehand.

    s3://<bucket>/registry/<model>/in-work/<digest of input and output>/<run>~<host>~<pid>~<start>~<what>.json
    .../fatal/<digest of object and code>.json      an object that was in work at two deaths

If a process died while its machine stayed up, its record counts as one death for each object in it. Objects with a
death are scored one at a time. So of several that were in work together, only the guilty one gets to a second death and
fails by name; all others are scored. Records of processes on other machines, or from before a reboot, do not count,
because nothing is known about them. A process that ends by itself, cancelled or with an error, removes its record.

Objects are identified by a digest of name and ETag: a replaced object starts afresh.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from pydantic import ValidationError as PydanticError

from tasks.connectors.servers.processes import has_died_here, is_gone, this_process
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.digests import canonical_json, digest_of
from tasks.core.errors import DataError, NightshiftError, UnreadableDataError
from tasks.core.records import Record
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.sharding import Entry
from tasks.runtime.clients import object_store
from tasks.runtime.settings import read_settings

logger = logging.getLogger(__name__)

_FATAL_DEATHS = 2
_DAY_SECONDS = 24 * 3600.0
_KEPT_SECONDS = 30 * _DAY_SECONDS


class _Record(Record):
    """The content of a record in the store."""

    objects: list[str]
    when: float
    input: str = ""  # URI of a fatal object, for people


class InWork:
    """The objects of a run that this process is working on, and those that killed other processes.

    Args:
        objects: the store.
        run: that the objects are of.
        what: the work of this process: the number of a shard, or "plan".
    """

    def __init__(self, objects: ExactObjects, run: ScoringRun, what: object) -> None:
        self._store, self._run = objects.store, run
        self._uri = f"{_folder(run)}{run.run}~{this_process().replace(':', '~')}~{what}.json"
        self._lock = threading.Lock()
        self._open: set[str] = set()
        self._over = True
        self._deaths, self._fatal = _read_deaths(objects.store, run)
        if self._deaths:
            logger.warning(
                "A process died while working on %s objects; those not scored yet are scored one at a time",
                f"{len(self._deaths):,}",
            )

    def is_suspect(self, entry: Entry) -> bool:
        """True if a process died while working on the object. Such an object must be scored alone."""
        return self._deaths[_identity(self._run, entry)] > 0

    def fatal(self, entry: Entry) -> DataError | None:
        """Return an error for an object that must not be tried again; None for any other."""
        uri = self._fatal_uri(entry)
        if uri not in self._fatal and self._deaths[_identity(self._run, entry)] < _FATAL_DEATHS:
            return None
        self._keep_fatal(uri, entry)
        return UnreadableDataError(
            f"The process that scores it has died {_FATAL_DEATHS} times: out of memory, or by a library's crash",
            self._run.input_uri(entry.key),
            "check its size and its rows, and remove or rewrite it; it is tried again once it is replaced, by a new "
            f"version of the model or of Nightshift, or once {uri} is removed",
        )

    def _keep_fatal(self, uri: str, entry: Entry) -> None:
        """Write the record, at most once a day; it is removed a month after the object was last seen."""
        previous = _read(self._store, uri)
        if previous is None or time.time() - previous.when > _DAY_SECONDS:
            record = _Record(objects=[], when=time.time(), input=self._run.input_uri(entry.key))
            self._store.write_bytes(canonical_json(record.model_dump()).encode(), uri)
        self._fatal.add(uri)

    @contextmanager
    def recorded(self) -> Generator[None]:
        """Keep the record of `begin` in the store until the context ends. Later calls of `begin` write nothing."""
        self._over = False
        try:
            yield
        finally:
            self._remove()

    @contextmanager
    def alone(self, entry: Entry) -> Generator[None]:
        """Record a single object as in work."""
        with self.recorded():
            self.begin([entry])
            yield
            self.end(entry)

    def begin(self, entries: Iterable[Entry]) -> None:
        """Record that work on these objects begins; the record is in the store on return."""
        with self._lock:
            if self._over:
                return
            self._open |= {_identity(self._run, entry) for entry in entries}
            record = _Record(objects=sorted(self._open), when=time.time())
            self._store.write_bytes(canonical_json(record.model_dump()).encode(), self._uri)

    def end(self, entry: Entry) -> None:
        """Mark an object as done. The store is updated when the next object begins, or at the end."""
        with self._lock:
            self._open.discard(_identity(self._run, entry))

    def _remove(self) -> None:
        with self._lock:
            self._open.clear()
            self._over = True
            try:
                self._store.delete(self._uri)
            except NightshiftError as error:  # the work itself may have failed for the same reason
                logger.warning("The record of the objects in work could not be removed: %s", error)

    def _fatal_uri(self, entry: Entry) -> str:
        mark = digest_of({"object": _identity(self._run, entry), "code": self._run.code})
        return f"{_folder(self._run)}fatal/{mark}.json"


def forget(objects: ExactObjects, run: ScoringRun) -> None:
    """Remove the records of a finished run, and those of dead processes, whose objects it has scored."""
    for item in list(objects.store.scan(_folder(run))):
        name = item.uri.removeprefix(_folder(run))
        if "/" not in name and (name.startswith(f"{run.run}~") or is_gone(_owner(name))):
            objects.store.delete(item.uri)


def remove_old_records() -> int:
    """Remove records of processes and objects not seen for a month; return how many."""
    store, removed = object_store(), 0
    for item in [listed for listed in store.scan(_registry()) if "/in-work/" in listed.uri]:
        record = _read(store, item.uri)
        if record is None or time.time() - record.when > _KEPT_SECONDS:
            store.delete(item.uri)
            removed += 1
    return removed


def _read_deaths(store: ObjectStore, run: ScoringRun) -> tuple[Counter[str], set[str]]:
    """Return the number of deaths per object, and the URIs of the records of fatal objects."""
    deaths, fatal = Counter[str](), set[str]()
    for item in store.scan(_folder(run)):
        name = item.uri.removeprefix(_folder(run))
        if name.startswith("fatal/"):
            fatal.add(item.uri)
        elif has_died_here(_owner(name)) and (record := _read(store, item.uri)):
            deaths.update(record.objects)
    return deaths, fatal


def _read(store: ObjectStore, uri: str) -> _Record | None:
    """Read a record; None if its process died while writing it."""
    try:
        return _Record.model_validate_json(store.read_bytes(uri) or b"")
    except PydanticError:
        return None


def _owner(name: str) -> str:
    """Return the process that wrote a record, as `processes` names it."""
    return ":".join(name.split("~")[1:4])


def _registry() -> str:
    return f"s3://{read_settings().bucket}/registry/"


def _folder(run: ScoringRun) -> str:
    digest = digest_of({"input": run.input, "root": run.root})
    return f"{_registry()}{run.model.name}/in-work/{digest}/"


def _identity(run: ScoringRun, entry: Entry) -> str:
    named = {"key": entry.key, "etag": entry.etag, "part": [entry.part, entry.parts]}
    return digest_of(named)[:16]
