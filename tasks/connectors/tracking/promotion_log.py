"""The log of every move of a champion, in the object store.

MLflow keeps no history of aliases, and drops those of a deleted version.

    s3://<bucket>/registry/<model>/moves/000001.json    a `Promotion`, written once, before the aliases are moved
    s3://<bucket>/registry/<model>/moves/000001.done    written after the aliases were moved
    s3://<bucket>/registry/<model>/pending/<version>.<token>    announces a write of the alias

Numbers have no gaps, and a record is never replaced: of two processes that move the champion at once, one gets the
number, and the other reads the log again. A record without `.done` is a move under way, or its process died; whoever
finds it completes it (see `champion.py`). A store without conditional writes (old Ceph, Swift) gives no such guarantee:
a process checks that the number is free, writes, and checks that the record is its own. If it pauses before writing, it
may replace another's record. The champion is then the version of the process that was told of success, and the log
calls its move "by hand".
"""

import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError as PydanticError

from tasks.connectors.storage.conditional_reads import FINGERPRINT
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.core.digests import canonical_json
from tasks.core.errors import StoreError
from tasks.core.records import Promotion

_NAME = re.compile(r"/moves/(\d{6,})\.json$")
_REQUESTS = 16  # at once
_NO_VERSION = "none"  # in place of a version: the alias is removed


class PromotionLog:
    """Reads and writes moves. It does not check whether a move is allowed.

    Args:
        objects: access to the object store.
        bucket: bucket of the log.
    Raises:
        StoreError, StoreUnavailableError: from every method, if the store refuses or does not answer.
    """

    def __init__(self, objects: ExactObjects, bucket: str) -> None:
        self._objects = objects
        self._root = f"s3://{bucket}/registry"

    def models(self) -> list[str]:
        """Return the names of the models that have a log."""
        depth = len(self._root.split("/"))
        uris = {i.uri for i in self._objects.store.scan(f"{self._root}/") if _NAME.search(i.uri)}
        return sorted({uri.split("/")[depth] for uri in uris})

    def last(self, model: str) -> Promotion | None:
        """Return the newest move, finished or not; None if there is none."""
        number = max(self._numbers(model), default=0)
        while self._objects.head(self._uri(model, number + 1)):
            number += 1  # a store's listing may lag behind
        # The newest object may be empty: its writer died.
        for candidate in range(number, 0, -1):
            if move := self.read(model, candidate):
                return move
        return None

    def read(self, model: str, number: int) -> Promotion | None:
        """Return the move with a number; None if there is none. Raises StoreError if its record cannot be read."""
        uri = self._uri(model, number)
        content = self._objects.store.read_bytes(uri)
        if not content:  # missing, or empty because its writer died
            return None
        try:
            return Promotion.model_validate_json(content)
        except PydanticError as error:
            raise StoreError(
                f"The record of this move has another format: {error.error_count()} fields differ",
                uri,
                "use the version of Nightshift that wrote it, or a newer one",
            ) from error

    def moves(self, model: str) -> list[Promotion]:
        """Return all moves of a model, oldest first."""
        numbers = sorted(self._numbers(model))
        with ThreadPoolExecutor(_REQUESTS) as pool:
            return [m for m in pool.map(lambda number: self.read(model, number), numbers) if m]

    def backwards(self, move: Promotion) -> Iterator[Promotion]:
        """Iterate over a move and those before it, newest first."""
        yield move
        for number in range(move.number - 1, 0, -1):
            if before := self.read(move.model, number):
                yield before

    def append(self, move: Promotion) -> bool:
        """Write a move under its number, atomically. Returns False if the number is taken."""
        uri = self._uri(move.model, move.number)
        stored = self._objects.head(uri)
        if stored and stored.whole:
            return False
        # Random, to tell apart equal moves of two processes.
        metadata = {FINGERPRINT: secrets.token_hex(16)}
        content = canonical_json(move.model_dump()).encode()
        return self._objects.write(content, uri, metadata, before=stored) is not None

    def is_done(self, move: Promotion) -> bool:
        """True if the aliases were moved as the record says."""
        return self._objects.head(self._uri(move.model, move.number, "done")) is not None

    def mark_done(self, move: Promotion, when: str) -> None:
        """Record that the aliases were moved as the record says. Idempotent."""
        uri = self._uri(move.model, move.number, "done")
        self._objects.store.write_bytes(canonical_json({"when": when}).encode(), uri)

    def begin_write(self, model: str, version: str) -> str:
        """Announce a write of the alias, before the log is read for it. Returns the URI of the announcement."""
        uri = f"{self._pending(model)}{version or _NO_VERSION}.{secrets.token_hex(8)}"
        self._objects.store.write_bytes(b"", uri)
        return uri

    def end_write(self, uri: str) -> None:
        """Remove an announcement, once the write is done or abandoned and the alias agrees with the log."""
        self._objects.store.delete(uri)

    def pending_writes(self, model: str) -> dict[str, tuple[str, float]]:
        """Return version ('' if the alias is removed) and age in seconds of each announced write, by URI."""
        return {
            uri: (_version_of(uri), age)
            for uri, age in self._objects.store.ages(self._pending(model)).items()
        }

    def _pending(self, model: str) -> str:
        return f"{self._root}/{model}/pending/"

    def _uri(self, model: str, number: int, kind: str = "json") -> str:
        return f"{self._root}/{model}/moves/{number:06}.{kind}"

    def _numbers(self, model: str) -> Iterator[int]:
        for item in self._objects.store.scan(f"{self._root}/{model}/moves/"):
            if match := _NAME.search(item.uri):
                yield int(match[1])


def _version_of(uri: str) -> str:
    version = uri.rpartition("/")[2].partition(".")[0]
    return "" if version == _NO_VERSION else version
