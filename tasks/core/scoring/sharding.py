"""Entries of a scoring run, and their grouping into bundles and shards."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tasks.core.digests import canonical_json
from tasks.core.formats.base import Span

SHARD_BYTES = 64 << 20


SHARD_OBJECTS = 1_000


BUNDLE_BYTES = 1 << 20  # small objects are read together up to this size


def share_of_bytes(size: int, part: int, parts: int) -> int:
    """Return the bytes of one of several equal parts; the first part also gets the remainder."""
    return size // parts + (size % parts if part == 0 else 0)


@dataclass(slots=True, frozen=True)
class Entry:
    """One input object, or a part of a large one. Not a pydantic model, because a run may have a million of them."""

    key: str  # relative to the input prefix
    size: int  # of the object
    etag: str
    part: int = 0
    parts: int = 1
    span: Span | None = None  # set for a part only

    @property
    def bytes(self) -> int:
        """The approximate amount of work in bytes; all parts of an object add up to its size."""
        return share_of_bytes(self.size, self.part, self.parts)


@dataclass(slots=True, frozen=True)
class Shard:
    """The work of one task: bundles of entries. Reviews of one bundle share batches; a bundle is scored as a whole."""

    number: int
    bundles: list[list[Entry]]

    def to_json(self) -> bytes:
        """Return the stored form."""
        listed = [[as_list(entry) for entry in bundle] for bundle in self.bundles]
        return canonical_json({"number": self.number, "bundles": listed}).encode()

    @property
    def digest(self) -> str:
        """The digest of the shard's content."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @classmethod
    def from_json(cls, content: bytes) -> "Shard":
        """Parse the result of `to_json`."""
        record = json.loads(content)
        return cls(record["number"], [[_entry(e) for e in bundle] for bundle in record["bundles"]])


def _entry(listed: list[Any]) -> Entry:
    key, size, etag, part, parts, *span = listed
    return Entry(key, size, etag, part, parts, Span(**span[0]) if span else None)


def bundles(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Group small neighbouring entries, at most a shard's number of them; each larger entry is a bundle of its own."""
    held: list[Entry] = []
    size = 0
    for entry in entries:
        if held and (size + entry.bytes > BUNDLE_BYTES or len(held) == SHARD_OBJECTS):
            yield held
            held, size = [], 0
        held.append(entry)
        size += entry.bytes
    if held:
        yield held


def shards(entries: Iterable[Entry]) -> Iterator[Shard]:
    """Group bundles into shards of similar size. The same entries give the same shards."""
    held: list[list[Entry]] = []
    size = objects = number = 0
    for bundle in bundles(entries):
        more = sum(entry.bytes for entry in bundle)
        if held and (size + more > SHARD_BYTES or objects + len(bundle) > SHARD_OBJECTS):
            yield Shard(number=number, bundles=held)
            held, size, objects, number = [], 0, 0, number + 1
        held.append(bundle)
        size, objects = size + more, objects + len(bundle)
    if held:
        yield Shard(number=number, bundles=held)


def as_list(entry: Entry) -> list[Any]:
    """Return an entry as a list for JSON, without fields that are not set."""
    span = [asdict(entry.span)] if entry.span else []
    return [entry.key, entry.size, entry.etag, entry.part, entry.parts, *span]
