"""What records tell of lineage one by one: a version and the steps its tag names, a scoring run, who was champion when.

How they hang together is `tasks/core/lineage/records.py`.
"""

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tasks.core.parsing.uris import BUCKET
from tasks.core.records import Move
from tasks.core.tags import LINEAGE_TAG

_PREPARED = re.compile(rf"(s3://{BUCKET}/prepared)/([^/]+)/([0-9a-f]{{32}})(?:/.*)?")


@dataclass(frozen=True)
class RegisteredVersion:
    """A version as the registry knows it."""

    name: str
    version: str
    model_digest: str
    run_id: str
    tags: Mapping[str, str]
    aliases: Sequence[str] = ()

    @property
    def title(self) -> str:
        """As people name it: reviews/3."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class ScoredRun:
    """A scoring run, as its mark and its records tell."""

    model: str
    version: str
    model_digest: str  # '' where its records are gone
    place: str
    when: str  # ISO 8601; '' where nobody wrote it down
    flow_run: str
    brief: str = ""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    predictions: Sequence[str] = ()  # the first of them
    missing: str = ""


def folder_of(uri: str) -> tuple[str, str, str] | None:
    """The folder without what lies below it, its kind and its digest, where a URI names prepared data; else None."""
    found = _PREPARED.fullmatch(uri)
    return (f"{found[1]}/{found[2]}/{found[3]}", found[2], found[3]) if found else None


def tagged(version: RegisteredVersion) -> dict[str, str]:
    """What the lineage tag names, step by step; empty where there is none, or none that can be read."""
    try:
        kept: Any = json.loads(version.tags.get(LINEAGE_TAG, "{}"))
    except ValueError:
        return {}
    items = kept.items() if isinstance(kept, dict) else ()
    return {str(k): v.rstrip("/") for k, v in items if isinstance(v, str) and v}


@functools.lru_cache(maxsize=20_000)
def moment(when: str) -> datetime | None:
    """A point in time as records keep it; None where it is none."""
    try:
        read = datetime.fromisoformat(when)
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def in_force(moves: Iterable[Move], when: str) -> Move | None:
    """The last move made by then: it says which version was champion. None where there is none, or no time."""
    then = moment(when)
    made = [(m.number, m) for m in moves if then and (at := moment(m.when)) and at <= then]
    return max(made, key=lambda numbered: numbered[0])[1] if made else None
