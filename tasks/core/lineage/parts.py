"""Single lineage records: a version and the steps its tag names, a scoring run, who was champion when.

`tasks/core/lineage/records.py` links them.
"""

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tasks.core.parsing.uris import BUCKET
from tasks.core.records import Promotion
from tasks.core.tags import LINEAGE_TAG

_PREPARED = re.compile(rf"(s3://{BUCKET}/prepared)/([^/]+)/([0-9a-f]{{32}})(?:/.*)?")


@dataclass(frozen=True)
class RegisteredVersion:
    """A version as stored in the registry."""

    name: str
    version: str
    model_digest: str
    run_id: str
    tags: Mapping[str, str]
    aliases: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The name that people use: reviews/3."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class ScoredRun:
    """A scoring run, according to its `ScoringMark` and its records."""

    model: str
    version: str
    model_digest: str  # '' if its records are gone
    place: str
    when: str  # ISO 8601; '' if it was not recorded
    flow_run: str
    brief: str = ""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    predictions: Sequence[str] = ()  # the first few files
    missing: str = ""


def folder_of(uri: str) -> tuple[str, str, str] | None:
    """Split the URI of prepared data into its folder without what lies below it, its kind and its digest; else None."""
    match = _PREPARED.fullmatch(uri)
    return (f"{match[1]}/{match[2]}/{match[3]}", match[2], match[3]) if match else None


def tagged(version: RegisteredVersion) -> dict[str, str]:
    """Return the URIs in the lineage tag by step; empty if the tag is missing or cannot be read."""
    try:
        steps: Any = json.loads(version.tags.get(LINEAGE_TAG, "{}"))
    except ValueError:
        return {}
    items = steps.items() if isinstance(steps, dict) else ()
    return {str(k): v.rstrip("/") for k, v in items if isinstance(v, str) and v}


@functools.lru_cache(maxsize=20_000)
def moment(when: str) -> datetime | None:
    """Parse a point in time as stored in records; None if it is not one."""
    try:
        read = datetime.fromisoformat(when)
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def in_force(moves: Iterable[Promotion], when: str) -> Promotion | None:
    """Return the last move made by then, which says who was champion. None if there is none, or no valid time."""
    then = moment(when)
    promotions = [(m.number, m) for m in moves if then and (at := moment(m.when)) and at <= then]
    return max(promotions, key=lambda numbered: numbered[0])[1] if promotions else None
