"""Digests of the definitions last applied to a Prefect server, kept in one of its variables."""

import json
from typing import Any

from prefect.variables import Variable

from tasks.core.digests import digest_of

_APPLIED = "nightshift_applied"


class Applied:
    """Digests of the definitions as they were last applied to this server."""

    def __init__(self) -> None:
        stored: Any = Variable.get(_APPLIED, default="{}")
        try:
            self._before: dict[str, str] = dict(
                json.loads(stored) if isinstance(stored, str) else stored
            )
        except (ValueError, TypeError):  # somebody has edited it: apply everything again
            self._before = {}
        self.now: dict[str, str] = {}

    def differs(self, name: str, definition: Any) -> bool:
        """Return True if a definition is new or has changed since the last time, and record it as applied."""
        self.now[name] = digest_of({"definition": definition})
        return self._before.get(name) != self.now[name]

    def keep(self, name: str) -> None:
        """Keep the earlier digest of a definition that cannot be compared now."""
        if name in self._before:
            self.now[name] = self._before[name]

    def gone(self, kind: str) -> list[str]:
        """Return the names that were applied once and no longer have a definition."""
        removed = self._before.keys() - self.now.keys()
        return sorted(name.removeprefix(kind) for name in removed if name.startswith(kind))

    def save(self) -> None:
        """Save the digests, once everything is applied."""
        if self.now != self._before:
            Variable.set(_APPLIED, json.dumps(self.now), tags=["nightshift"], overwrite=True)
