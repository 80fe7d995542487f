"""Entries of a scoring run, and how they are put into shards and bundles."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tasks.core.digests import canonical_json
from tasks.core.formats.base import Span

SHARD_BYTES = 64 << 20


SHARD_OBJECTS = 1_000


BUNDLE_BYTES = 1 << 20  # small objects are read together until a window of reviews is full


def share_of_bytes(size: int, part: int, parts: int) -> int:
    """Bytes of one of several equal parts; the first has what does not come out even."""
    return size // parts + (size % parts if part == 0 else 0)


@dataclass(slots=True, frozen=True)
class Entry:
    """One input object, or a part of a large one. No pydantic model: a run may have a million of them."""

    key: str  # below the input prefix
    size: int  # of the object
    etag: str
    part: int = 0
    parts: int = 1
    span: Span | None = None  # of a part

    @property
    def bytes(self) -> int:
        """What there is to do, more or less; those of all parts make up the object."""
        return share_of_bytes(self.size, self.part, self.parts)


@dataclass(slots=True, frozen=True)
class Shard:
    """What one task scores: bundles of entries. Reviews of one bundle share batches; it is scored whole."""

    number: int
    bundles: list[list[Entry]]

    def to_json(self) -> bytes:
        """As it is kept."""
        listed = [[as_list(entry) for entry in bundle] for bundle in self.bundles]
        return canonical_json({"number": self.number, "bundles": listed}).encode()

    @property
    def digest(self) -> str:
        """Of what it is to score."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @classmethod
    def from_json(cls, content: bytes) -> "Shard":
        """What `to_json` gave."""
        kept = json.loads(content)
        return cls(kept["number"], [[_entry(e) for e in bundle] for bundle in kept["bundles"]])


def _entry(listed: list[Any]) -> Entry:
    key, size, etag, part, parts, *span = listed
    return Entry(key, size, etag, part, parts, Span(**span[0]) if span else None)


def bundles(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Neighbours that are small together, a shard's at most, and each larger one by itself."""
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
    """Bundles, in shards of similar size. The same entries give the same shards."""
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
    """An entry as a list for JSON, without what it does not have."""
    span = [asdict(entry.span)] if entry.span else []
    return [entry.key, entry.size, entry.etag, entry.part, entry.parts, *span]
