"""Every move of a champion, in the object store.

MLflow keeps no history of aliases, and forgets those of a version that is deleted.

    s3://<bucket>/registry/<model>/moves/000001.json    a `Move`, written before the aliases move, and only once
    s3://<bucket>/registry/<model>/moves/000001.done    written when they stand
    s3://<bucket>/registry/<model>/pending/<version>.<token>    a write of the alias that may still come

Numbers have no gaps, and a number is written create-only: of two who move at once, one has it and the other looks
again. A record without `.done` is a move under way, or one whose mover died; whoever finds it ends it
(`champion.py` beside this). On a store without conditional writes (old Ceph, Swift) a mover looks whether the
number is free, writes, and looks whether the record is its own; the record of one who stood still between look and
write may replace another's. The champion stays with the one who was told so: his move is then called "by hand".
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
from tasks.core.records import Move

_NAME = re.compile(r"/moves/(\d{6,})\.json$")
_REQUESTS = 16  # at once
_NOWHERE = "none"  # instead of a version, where an alias is removed


class MoveLog:
    """Reads and writes moves; whether they may be made is not its business.

    Args:
        objects: of the object store.
        bucket: that holds the log.
    Raises:
        StoreError, StoreAwayError: from every method, when the store refuses or does not answer.
    """

    def __init__(self, objects: ExactObjects, bucket: str) -> None:
        self._objects = objects
        self._root = f"s3://{bucket}/registry"

    def models(self) -> list[str]:
        """Names of the models that have a log."""
        depth = len(self._root.split("/"))
        found = {i.uri for i in self._objects.store.scan(f"{self._root}/") if _NAME.search(i.uri)}
        return sorted({uri.split("/")[depth] for uri in found})

    def last(self, model: str) -> Move | None:
        """The newest move, under way or done; None where there was never one."""
        number = max(self._numbers(model), default=0)
        while self._objects.head(self._uri(model, number + 1)):
            number += 1  # a store's listing may lag behind
        for there in range(number, 0, -1):  # the newest may be what is left of a writer who died
            if move := self.read(model, there):
                return move
        return None

    def read(self, model: str, number: int) -> Move | None:
        """The move of a number; None where there is none. Raises StoreError when it cannot be read."""
        uri = self._uri(model, number)
        content = self._objects.store.read_bytes(uri)
        if not content:  # or empty: a server has kept the begin of a write whose client died
            return None
        try:
            return Move.model_validate_json(content)
        except PydanticError as error:
            raise StoreError(
                f"Not a move of this version: {error.error_count()} fields differ",
                uri,
                "use the version of Nightshift that wrote it, or a newer one",
            ) from error

    def moves(self, model: str) -> list[Move]:
        """All of them, the oldest first."""
        numbers = sorted(self._numbers(model))
        with ThreadPoolExecutor(_REQUESTS) as pool:
            return [m for m in pool.map(lambda number: self.read(model, number), numbers) if m]

    def backwards(self, move: Move) -> Iterator[Move]:
        """This one, and those before it, the newest first."""
        yield move
        for number in range(move.number - 1, 0, -1):
            if before := self.read(move.model, number):
                yield before

    def append(self, move: Move) -> bool:
        """Write a move under its number, whole or not at all; False where somebody else has that number."""
        uri = self._uri(move.model, move.number)
        there = self._objects.head(uri)
        if there and there.whole:
            return False
        mine = {FINGERPRINT: secrets.token_hex(16)}  # of this attempt: equal moves of two are two
        content = canonical_json(move.model_dump()).encode()
        return self._objects.write(content, uri, mine, before=there) is not None

    def is_done(self, move: Move) -> bool:
        """Whether the aliases stood, once, as the move says."""
        return self._objects.head(self._uri(move.model, move.number, "done")) is not None

    def mark_done(self, move: Move, when: str) -> None:
        """Say that they do. Twice is no harm."""
        uri = self._uri(move.model, move.number, "done")
        self._objects.store.write_bytes(canonical_json({"when": when}).encode(), uri)

    def begin_write(self, model: str, version: str) -> str:
        """Announce a write of the alias, before the log is read for it; returns the announcement's URI."""
        uri = f"{self._pending(model)}{version or _NOWHERE}.{secrets.token_hex(8)}"
        self._objects.store.write_bytes(b"", uri)
        return uri

    def end_write(self, uri: str) -> None:
        """Say that a write was made or will never be, and that log and alias agreed afterwards."""
        self._objects.store.delete(uri)

    def pending_writes(self, model: str) -> dict[str, tuple[str, float]]:
        """URI of each announced write, the version that it sets ('': it removes the alias), and its age in seconds."""
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
            if found := _NAME.search(item.uri):
                yield int(found[1])


def _version_of(uri: str) -> str:
    version = uri.rpartition("/")[2].partition(".")[0]
    return "" if version == _NOWHERE else version
